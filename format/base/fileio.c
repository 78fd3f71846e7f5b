/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/base/fileio.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"

/* ---- reading and writing ---- */

ssize_t snap_pread_all(int fd, void *buf, size_t size, uint64_t offset)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pread(fd, (char *)buf + done, size - done,
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

int snap_pread_exact(int fd, void *buf, size_t size, uint64_t offset)
{
	ssize_t n = snap_pread_all(fd, buf, size, offset);

	if (n < 0)
		return (int)n;
	return (size_t)n < size ? -ENODATA : 0;
}

/* Writes at `offset`, or at the descriptor's own position where that is -1. */
static int write_loop(int fd, const void *buf, size_t size, off_t offset)
{
	size_t done = 0;

	while (done < size) {
		const char *from = (const char *)buf + done;
		ssize_t n = offset < 0 ? write(fd, from, size - done)
				       : pwrite(fd, from, size - done,
						offset + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

int snap_pwrite_all(int fd, const void *buf, size_t size, uint64_t offset)
{
	return offset > INT64_MAX ? -EINVAL
				  : write_loop(fd, buf, size, (off_t)offset);
}

int snap_write_all(int fd, const void *buf, size_t size)
{
	return write_loop(fd, buf, size, -1);
}

/* ---- whole files ---- */

int snap_open_regular(int dirfd, const char *name, struct stat *ret_st)
{
	snap_autofd int fd = snap_open_below(dirfd, name, O_RDONLY, 0);
	struct stat st;

	/* A link, or a socket. */
	if (fd < 0)
		return fd == -ELOOP || fd == -ENXIO ? -EINVAL : fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (ret_st)
		*ret_st = st;
	return snap_steal_fd(&fd);
}

int snap_read_fd(int fd, size_t max, char **ret_data, size_t *ret_size)
{
	/* The additional byte is for the NUL, and shows a larger file. */
	g_autofree char *data = g_try_malloc(max + 1);
	ssize_t n = data ? snap_pread_all(fd, data, max + 1, 0) : -ENOMEM;

	if (n < 0)
		return (int)n;
	if ((size_t)n > max)
		return -EFBIG;
	data[n] = '\0';
	*ret_data = g_realloc(g_steal_pointer(&data), (size_t)n + 1);
	if (ret_size)
		*ret_size = (size_t)n;
	return 0;
}

int snap_read_file(int dirfd, const char *name, size_t max, char **ret_data,
		   size_t *ret_size)
{
	snap_autofd int fd = snap_open_regular(dirfd, name, NULL);

	return fd < 0 ? fd : snap_read_fd(fd, max, ret_data, ret_size);
}

/* Gives the temporary file its owner and mode. */
static int set_owner(int fd, const struct snap_replace *how)
{
	struct stat like, st;
	mode_t mode = how->mode;
	int r = 0;

	if (how->like_fd >= 0) {
		if (fstat(how->like_fd, &like) < 0 || fstat(fd, &st) < 0)
			return -errno;
		if (like.st_uid != st.st_uid || like.st_gid != st.st_gid)
			r = snap_set_owner(fd, like.st_uid, like.st_gid);
		mode &= like.st_mode;
	}
	return r < 0 ? r : snap_set_mode(fd, mode);
}

/* Writes the temporary file and renames it. */
static int write_and_rename(int fd, const struct snap_replace *how,
			    const void *data, size_t size)
{
	snap_autofd int folder =
		how->durable ? snap_open_folder(how->dirfd) : -1;
	int r = set_owner(fd, how);

	if (r < 0)
		return r;
	r = snap_write_all(fd, data, size);
	if (r < 0)
		return r;
	if (how->durable && folder < 0)
		return folder;
	if (how->durable && fsync(fd) < 0)
		return -errno;
	if (how->durable)
		return snap_rename_durably(how->tmp_dirfd, how->tmp_name,
					   folder, how->name);
	return renameat(how->tmp_dirfd, how->tmp_name, how->dirfd, how->name) <
			       0
		       ? -errno
		       : 0;
}

int snap_replace_file(const struct snap_replace *how, const void *data,
		      size_t size)
{
	snap_autofd int fd = -1;
	int r;

	unlinkat(how->tmp_dirfd, how->tmp_name, 0);
	fd = snap_open_below(how->tmp_dirfd, how->tmp_name,
			     O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return fd;
	r = write_and_rename(fd, how, data, size);
	if (r < 0)
		unlinkat(how->tmp_dirfd, how->tmp_name, 0);
	return r;
}

/* ---- folders ---- */

int snap_open_folder(int dirfd)
{
	return snap_open_below(dirfd, ".", O_RDONLY | O_DIRECTORY, 0);
}

int snap_sync_folder(int fd)
{
	/* Some file systems, FUSE ones among them, cannot fsync a folder. */
	if (fsync(fd) < 0 && errno != EINVAL && errno != ENOSYS)
		return -errno;
	return 0;
}

/* What has become of an older file of the name. */
enum former {
	FORMER_NONE,	 /* there was none */
	FORMER_KEPT,	 /* it has the other name */
	FORMER_REPLACED, /* it is gone: the file system cannot exchange */
};

/* Gives a file its name. rename(2): RENAME_EXCHANGE fails with ENOENT where one
 * of the names is missing, and with EINVAL where the file system cannot do
 * it. */
static int take_name(int from, const char *old, int to, const char *name,
		     enum former *ret_former)
{
	struct stat st;

	*ret_former = FORMER_NONE;
	if (fstatat(to, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		*ret_former = FORMER_REPLACED;
		if (S_ISREG(st.st_mode) &&
		    renameat2(from, old, to, name, RENAME_EXCHANGE) == 0) {
			*ret_former = FORMER_KEPT;
			return 0;
		}
	}
	return renameat(from, old, to, name) < 0 ? -errno : 0;
}

/* Puts the older file back, or takes the name away where there was none. */
static int give_name_back(int from, const char *old, int to, const char *name,
			  enum former former)
{
	if (former == FORMER_KEPT)
		return renameat2(to, name, from, old, RENAME_EXCHANGE);
	return former == FORMER_NONE ? renameat(to, name, from, old) : -1;
}

int snap_rename_durably(int from, const char *old, int to, const char *name)
{
	enum former former;
	int r = take_name(from, old, to, name, &former);

	if (r < 0)
		return r;
	r = snap_sync_folder(to);
	if (r < 0)
		return give_name_back(from, old, to, name, former) < 0
			       ? -EUCLEAN
			       : r;
	if (former == FORMER_KEPT)
		unlinkat(from, old, 0);
	return 0;
}

/* ---- holes ---- */

/* A call brings no more than the device's read_ahead_kb, or the most that the
 * device takes at once (Linux, force_page_cache_ra() in mm/readahead.c); 128
 * KiB is the usual value. */
#define EXPECT_STEP (128u << 10)

void snap_expect(int fd, uint64_t offset, uint64_t size)
{
	for (uint64_t end = offset + size; offset < end; offset += EXPECT_STEP)
		(void)posix_fadvise(fd, (off_t)offset,
				    (off_t)MIN(EXPECT_STEP, end - offset),
				    POSIX_FADV_WILLNEED);
}

void snap_next_data(int fd, uint64_t at, uint64_t end, uint64_t *ret_from,
		    uint64_t *ret_to)
{
	off_t from = lseek(fd, (off_t)at, SEEK_DATA), to;

	if (from < 0 && errno != ENXIO)
		from = (off_t)at;
	if (from < 0 || (uint64_t)from >= end) {
		*ret_from = *ret_to = end;
		return;
	}
	to = lseek(fd, from, SEEK_HOLE);
	*ret_from = (uint64_t)from;
	*ret_to = to > from ? MIN((uint64_t)to, end) : end;
}
