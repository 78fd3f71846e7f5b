/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reference back end: pread, pwrite, fdatasync.
 *
 * A new file has a temporary name. Publish renames it; a file that is closed
 * without publish is removed. Publish opens both folders before it renames, so
 * that a shortage of descriptors shows while nothing has changed.
 */
#include "format/store/plain-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/fileio.h"

static struct snap_plain_file *plain(SnapFile *f)
{
	return (struct snap_plain_file *)f;
}

ssize_t snap_plain_pread(SnapFile *f, void *buf, size_t size, uint64_t offset)
{
	return snap_pread_all(plain(f)->fd, buf, size, offset);
}

static void plain_expect(SnapFile *f, uint64_t offset, uint64_t size)
{
	snap_expect(plain(f)->fd, offset, size);
}

/* Opens the file once more for the thread that writes back. Without that, the
 * kernel writes when it wants to. */
static void writeback_begin(struct snap_plain_file *p)
{
	int fd = snap_open_again(p->fd, O_RDONLY);

	p->writeback = fd < 0 ? NULL : snap_writeback_new(fd);
	p->is_stream = p->writeback != NULL;
}

void snap_plain_arrived(struct snap_plain_file *p, uint64_t end)
{
	if (p->is_stream && !p->writeback && end >= SNAP_WRITEBACK)
		writeback_begin(p);
	if (p->writeback)
		snap_writeback_arrived(p->writeback, end);
}

uint64_t snap_plain_on_disk(SnapFile *f)
{
	SnapWriteback *w = plain(f)->writeback;

	return w ? snap_writeback_on_disk(w) : 0;
}

static int plain_pwrite(SnapFile *f, const void *buf, size_t size,
			uint64_t offset)
{
	int r = snap_pwrite_all(plain(f)->fd, buf, size, offset);

	if (r == 0)
		snap_plain_arrived(plain(f), offset + size);
	return r;
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

static int plain_identify(SnapFile *f, struct snap_file_id *ret_id)
{
	struct stat st;

	if (fstat(plain(f)->fd, &st) < 0)
		return -errno;
	ret_id->device = st.st_dev;
	ret_id->inode = st.st_ino;
	ret_id->owner = st.st_uid;
	ret_id->names = st.st_nlink;
	return 0;
}

int snap_plain_publish(SnapFile *f, int dirfd, const char *name)
{
	struct snap_plain_file *p = plain(f);
	snap_autofd int from = -1, to = -1;
	int r;

	if (!p->name)
		return -EINVAL;
	from = snap_open_folder(p->dirfd);
	if (from < 0)
		return from;
	to = snap_open_folder(dirfd);
	if (to < 0)
		return to;
	r = snap_rename_durably(from, p->name, to, name);
	if (r < 0)
		return r;
	g_clear_pointer(&p->name, g_free);
	/* Not an error if it fails: the file is there, and a temporary name
	 * that comes back is removed by the next mount. */
	snap_sync_folder(from);
	return 0;
}

void snap_plain_close(SnapFile *f)
{
	struct snap_plain_file *p = plain(f);

	snap_writeback_free(p->writeback);
	if (p->name)
		unlinkat(p->dirfd, p->name, 0);
	if (p->companion)
		unlinkat(p->dirfd, p->companion, 0);
	snap_close_fd(&p->fd);
	g_free(p->name);
	g_free(p->companion);
	g_free(p);
}

static const struct snap_file_ops plain_ops = {
	.name = "plain",
	.pread = snap_plain_pread,
	.expect = plain_expect,
	.pwrite = plain_pwrite,
	.drain = plain_drain,
	.sync = plain_sync,
	.size = snap_plain_size,
	.identify = plain_identify,
	.on_disk = snap_plain_on_disk,
	.publish = snap_plain_publish,
	.close = snap_plain_close,
};

struct snap_plain_file *snap_plain_new(int fd)
{
	struct snap_plain_file *p = g_new0(struct snap_plain_file, 1);

	p->file.ops = &plain_ops;
	p->fd = fd;
	p->dirfd = -1;
	return p;
}
