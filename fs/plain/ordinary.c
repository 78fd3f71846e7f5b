/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ordinary files: each request goes to the file in the store. */
#include "fs/plain/plain-internal.h"

#include <fcntl.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "format/base/log.h"

/* Logs an error of the disk; other errors are the caller's own. */
static int failed(SnapHandle *handle, const char *what, int r)
{
	struct stat st;

	if (r == -EIO && fstat(snap_ordinary_fd(handle), &st) == 0)
		snap_log(SNAP_LOG_ERROR,
			 "ordinary file, inode %" G_GUINT64_FORMAT ": %s: %s",
			 (uint64_t)st.st_ino, what, g_strerror(-r));
	return r;
}

/* ---- open files ---- */

ssize_t snap_ordinary_read(SnapHandle *handle, void *buf, size_t size,
			   uint64_t offset)
{
	ssize_t n = snap_pread_all(snap_ordinary_fd(handle), buf, size, offset);

	return n < 0 ? failed(handle, "read", (int)n) : n;
}

void snap_ordinary_write(SnapHandle *handle, const void *buf, size_t size,
			 uint64_t offset, snap_handle_answer answer, void *data)
{
	size_t done = 0;
	ssize_t n = 0;

	while (done < size) {
		n = pwrite(snap_ordinary_fd(handle), (const char *)buf + done,
			   size - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (n < 0 && done == 0)
		answer(data, failed(handle, "write", -errno));
	else
		answer(data, (ssize_t)done);
}

int snap_ordinary_truncate(SnapHandle *handle, uint64_t size)
{
	return ftruncate(snap_ordinary_fd(handle), (off_t)size) < 0 ? -errno
								    : 0;
}

void snap_ordinary_sync(SnapHandle *handle, bool data_only,
			snap_handle_answer answer, void *data)
{
	int fd = snap_ordinary_fd(handle);
	int r = data_only ? fdatasync(fd) : fsync(fd);

	answer(data, r < 0 ? failed(handle, "sync", -errno) : 0);
}

int64_t snap_ordinary_seek(SnapHandle *handle, int64_t offset, int whence)
{
	off_t at = lseek(snap_ordinary_fd(handle), offset, whence);

	return at < 0 ? -errno : at;
}

int snap_ordinary_allocate(SnapHandle *handle, int mode, int64_t offset,
			   int64_t length)
{
	return fallocate(snap_ordinary_fd(handle), mode, offset, length) < 0
		       ? -errno
		       : 0;
}

static void handle_clear(SnapHandle *handle)
{
	close(snap_ordinary_fd(handle));
}

static const struct snap_handle_ops file_handle_ops = {
	.mode = SNAP_HANDLE_CACHED,
	.read = snap_ordinary_read,
	.write = snap_ordinary_write,
	.truncate = snap_ordinary_truncate,
	.sync = snap_ordinary_sync,
	.seek = snap_ordinary_seek,
	.allocate = snap_ordinary_allocate,
	.clear = handle_clear,
};

/* Opened to be read: open(2) with O_TRUNC never means this one. */
static const struct snap_handle_ops reader_ops = {
	.mode = SNAP_HANDLE_CACHED,
	.read = snap_ordinary_read,
	.sync = snap_ordinary_sync,
	.seek = snap_ordinary_seek,
	.clear = handle_clear,
};

SnapHandle *snap_ordinary_handle_new(SnapNode *node, int fd)
{
	bool reads = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY;
	struct snap_ordinary_handle *h = snap_handle_new(
		sizeof(*h), reads ? &reader_ops : &file_handle_ops, node);

	h->fd = fd;
	return &h->handle;
}

int snap_ordinary_reopen(SnapNode *node, int flags)
{
	SnapPlain *plain = snap_store_node(node)->plain;
	snap_autofd int at = snap_store_open(node);
	int fd;

	if (at < 0)
		return at;
	/* O_DIRECT would need aligned requests, which the kernel does not send.
	 * With O_APPEND pwrite(2) would ignore the offset. */
	flags &= O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC | O_NOATIME;
	fd = snap_open_again(at, flags);
	if (fd == -EPERM && (flags & O_NOATIME))
		fd = snap_open_again(at, flags & ~O_NOATIME);
	if (fd < 0)
		return fd;
	if (snap_plain_fd_fits(plain, fd))
		return fd;
	close(fd);
	return -ENFILE;
}

/* ---- nodes ---- */

static int file_open(SnapNode *node, int flags,
		     const struct snap_caller *caller, SnapHandle **ret_handle)
{
	int fd = snap_ordinary_reopen(node, flags);

	if (fd < 0)
		return fd;
	*ret_handle = snap_ordinary_handle_new(node, fd);
	return 0;
}

/* truncate(2) would wait for the holder of a lease. */
static int set_size(SnapNode *node, off_t size)
{
	snap_autofd int fd = snap_ordinary_reopen(node, O_WRONLY);

	if (fd < 0)
		return fd;
	return ftruncate(fd, size) < 0 ? -errno : 0;
}

int snap_ordinary_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
			  const struct stat *st)
{
	bool is_link = S_ISLNK(snap_store_node(node)->type);
	snap_autofd int fd = -1;
	int r = 0;

	if (is_link && (set & (SNAP_SET_SIZE | SNAP_SET_MODE)))
		return -EOPNOTSUPP;
	if (set & SNAP_SET_SIZE)
		r = set_size(node, st->st_size);
	if (r < 0)
		return r;
	fd = snap_store_open(node);
	return fd < 0 ? fd : snap_store_setattr(fd, set, st);
}

const struct snap_node_ops snap_ordinary_ops = {
	.getattr = snap_store_getattr,
	.setattr = snap_ordinary_setattr,
	.open = file_open,
	.clear = snap_store_clear,
};

bool snap_is_ordinary(const SnapNode *node)
{
	return node->ops == &snap_ordinary_ops;
}

int snap_ordinary_link(SnapNode *node, SnapNode *folder, const char *name)
{
	snap_autofd int fd = -1;
	snap_autofd int at = -1;
	char path[SNAP_PROC_PATH];

	if (!snap_is_ordinary(node))
		return -EPERM;
	fd = snap_store_open(node);
	at = fd < 0 ? fd : snap_store_open(folder);
	if (at < 0)
		return at;
	snap_proc_path(path, fd);
	return linkat(AT_FDCWD, path, at, name, AT_SYMLINK_FOLLOW) < 0 ? -errno
								       : 0;
}

int snap_ordinary_readlink(SnapNode *node, char *ret, size_t size)
{
	snap_autofd int fd = -1;
	ssize_t n;

	if (!snap_is_ordinary(node) || !S_ISLNK(snap_store_node(node)->type))
		return -EINVAL;
	fd = snap_store_open(node);
	if (fd < 0)
		return fd;
	n = readlinkat(fd, "", ret, size);
	if (n < 0)
		return -errno;
	if ((size_t)n >= size)
		return -ENAMETOOLONG;
	ret[n] = '\0';
	return 0;
}
