/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reference back end: pread, pwrite, fdatasync.
 *
 * A file is created under a name of its writer's choice, and that name is
 * removed when the file is closed, unless publish has made another of it. What
 * publish needs it opens before it renames, so that it fails early or not at
 * all. A scratch file has no name from the start (O_TMPFILE), or loses it at
 * once where the file system does not know that.
 */
#include "format/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/store/file-internal.h"

static struct snap_plain_file *plain(SnapFile *f)
{
	return (struct snap_plain_file *)f;
}

ssize_t snap_plain_pread(SnapFile *f, void *buf, size_t size, uint64_t offset)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pread(plain(f)->fd, (char *)buf + done, size - done,
				  (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int snap_plain_write(int fd, const void *buf, size_t size, uint64_t offset)
{
	while (size > 0) {
		ssize_t n = pwrite(fd, buf, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		buf = (const char *)buf + n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static int plain_pwrite(SnapFile *f, const void *buf, size_t size,
			uint64_t offset)
{
	struct snap_plain_file *p = plain(f);
	uint64_t end = offset + size;
	int r = snap_plain_write(p->fd, buf, size, offset);

	if (r < 0 || !p->is_stream || end < p->begun + SNAP_WRITEBACK)
		return r;
	/* Advice: what goes wrong on the disk is told by fdatasync. */
	sync_file_range(p->fd, (off_t)p->begun, (off_t)(end - p->begun),
			SYNC_FILE_RANGE_WRITE);
	p->begun = end;
	return 0;
}

static int plain_drain(SnapFile *f)
{
	return 0;
}

static int plain_sync(SnapFile *f)
{
	return fdatasync(plain(f)->fd) < 0 ? -errno : 0;
}

int snap_plain_size(SnapFile *f, uint64_t *ret_size)
{
	struct stat st;

	if (fstat(plain(f)->fd, &st) < 0)
		return -errno;
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

/* A descriptor of a folder that fsync accepts: O_PATH ones it does not. */
static int folder_open(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int folder_sync(int fd)
{
	/* Some file systems (FUSE ones among them) have no fsync of folders. */
	if (fsync(fd) < 0 && errno != EINVAL && errno != ENOSYS)
		return -errno;
	return 0;
}

int snap_plain_publish(SnapFile *f, int dirfd, const char *name)
{
	struct snap_plain_file *p = plain(f);
	snap_autofd int from = -1, to = -1;
	int r;

	if (!p->name)
		return -EINVAL;
	from = folder_open(p->dirfd);
	if (from < 0)
		return from;
	to = folder_open(dirfd);
	if (to < 0)
		return to;
	if (renameat(from, p->name, to, name) < 0)
		return -errno;
	g_clear_pointer(&p->name, g_free);
	r = folder_sync(to);
	return r < 0 ? r : folder_sync(from);
}

void snap_plain_close(SnapFile *f)
{
	struct snap_plain_file *p = plain(f);

	if (p->name)
		unlinkat(p->dirfd, p->name, 0);
	snap_close_fd(&p->fd);
	g_free(p->name);
	g_free(p);
}

static const struct snap_file_ops plain_ops = {
	.name = "plain",
	.pread = snap_plain_pread,
	.pwrite = plain_pwrite,
	.drain = plain_drain,
	.sync = plain_sync,
	.size = snap_plain_size,
	.publish = snap_plain_publish,
	.close = snap_plain_close,
};

static struct snap_plain_file *plain_new(int fd)
{
	struct snap_plain_file *p = g_new0(struct snap_plain_file, 1);

	p->file.ops = &plain_ops;
	p->fd = fd;
	p->dirfd = -1;
	return p;
}

int snap_file_open(int dirfd, const char *path, SnapFile **ret_file)
{
	int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	*ret_file = snap_file_wrap(fd);
	return 0;
}

SnapFile *snap_file_wrap(int fd)
{
	return &plain_new(fd)->file;
}

int snap_file_create(int dirfd, const char *name, mode_t mode,
		     enum snap_file_driver driver, SnapFile **ret_file)
{
	struct snap_plain_file *p;
	int fd, r;

	fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	p = plain_new(fd);
	p->dirfd = dirfd;
	p->name = g_strdup(name);
	p->is_stream = true;
	if (driver != SNAP_FILE_PLAIN) {
		r = snap_uring_file_new(p, ret_file);
		if (r == 0)
			return 0;
		if (driver == SNAP_FILE_URING) {
			snap_plain_close(&p->file);
			return r;
		}
	}
	*ret_file = &p->file;
	return 0;
}

/* For file systems without O_TMPFILE. */
static int scratch_open_named(int dirfd)
{
	g_autofree char *uuid = g_uuid_string_random();
	g_autofree char *name = g_strconcat("scratch-", uuid, NULL);
	int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
			0600);

	if (fd < 0)
		return -errno;
	unlinkat(dirfd, name, 0);
	return fd;
}

int snap_file_scratch(int dirfd, SnapFile **ret_file)
{
	int fd = openat(dirfd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);

	if (fd < 0 &&
	    (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))
		fd = scratch_open_named(dirfd);
	else if (fd < 0)
		fd = -errno;
	if (fd < 0)
		return fd;
	*ret_file = snap_file_wrap(fd);
	return 0;
}

void snap_file_close(SnapFile *f)
{
	if (f)
		f->ops->close(f);
}

int snap_file_read(SnapFile *f, void *buf, size_t size, uint64_t offset)
{
	ssize_t n = f->ops->pread(f, buf, size, offset);

	if (n < 0)
		return (int)n;
	return (size_t)n < size ? -EBADMSG : 0;
}
