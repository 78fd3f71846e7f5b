/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ordinary files: what is asked of them is asked of the store's file. */
#include "fs/view/view-internal.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/error.h"
#include "format/base/log.h"

struct plain_handle {
	SnapHandle handle;
	int fd;
};

static int plain_fd(SnapHandle *handle)
{
	return ((struct plain_handle *)handle)->fd;
}

/* Tells of errors that are the disk's; others are the caller's own. */
static int failed(SnapHandle *handle, const char *what, int error)
{
	struct stat st;

	if (error == EIO && fstat(plain_fd(handle), &st) == 0)
		snap_log(SNAP_LOG_ERROR,
			 "ordinary file, inode %" G_GUINT64_FORMAT ": %s: %s",
			 (uint64_t)st.st_ino, what, g_strerror(error));
	return -error;
}

static ssize_t plain_read(SnapHandle *handle, void *buf, size_t size,
			  uint64_t offset)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pread(plain_fd(handle), (char *)buf + done,
				  size - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return failed(handle, "read", errno);
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static void plain_write(SnapHandle *handle, const void *buf, size_t size,
			uint64_t offset, snap_handle_answer answer, void *data)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pwrite(plain_fd(handle), (const char *)buf + done,
				   size - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && done == 0) {
			answer(data, failed(handle, "write", errno));
			return;
		}
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	answer(data, (ssize_t)done);
}

static int plain_truncate(SnapHandle *handle, uint64_t size)
{
	return ftruncate(plain_fd(handle), (off_t)size) < 0 ? -errno : 0;
}

static int plain_sync(SnapHandle *handle, bool data_only)
{
	int fd = plain_fd(handle);

	if ((data_only ? fdatasync(fd) : fsync(fd)) < 0)
		return failed(handle, "sync", errno);
	return 0;
}

static int64_t plain_seek(SnapHandle *handle, int64_t offset, int whence)
{
	off_t at = lseek(plain_fd(handle), offset, whence);

	return at < 0 ? -errno : at;
}

static int plain_allocate(SnapHandle *handle, int mode, int64_t offset,
			  int64_t length)
{
	return fallocate(plain_fd(handle), mode, offset, length) < 0 ? -errno
								     : 0;
}

static void plain_handle_clear(SnapHandle *handle)
{
	close(plain_fd(handle));
}

static const struct snap_handle_ops plain_handle_ops = {
	.mode = SNAP_HANDLE_CACHED,
	.read = plain_read,
	.write = plain_write,
	.truncate = plain_truncate,
	.sync = plain_sync,
	.seek = plain_seek,
	.allocate = plain_allocate,
	.clear = plain_handle_clear,
};

SnapHandle *snap_plain_handle(SnapNode *node, int fd)
{
	struct plain_handle *h =
		snap_handle_new(sizeof(*h), &plain_handle_ops, node);

	h->fd = fd;
	return &h->handle;
}

int snap_plain_open(SnapNode *node, int flags, const struct snap_caller *caller,
		    SnapHandle **ret_handle)
{
	char path[SNAP_PROC_PATH];
	int fd;

	/* The kernel's requests are not aligned as O_DIRECT would have it. */
	flags &= O_ACCMODE | O_APPEND | O_TRUNC | O_SYNC | O_DSYNC | O_NOATIME;
	snap_proc_path(path, snap_store_node(node)->fd);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0 && errno == EPERM && (flags & O_NOATIME))
		fd = open(path, (flags & ~O_NOATIME) | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_handle = snap_plain_handle(node, fd);
	return 0;
}

static int plain_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
			 const struct stat *st)
{
	SnapStoreNode *s = snap_store_node(node);
	char path[SNAP_PROC_PATH];

	if (S_ISLNK(s->type) && (set & (SNAP_SET_SIZE | SNAP_SET_MODE)))
		return -EOPNOTSUPP;
	snap_proc_path(path, s->fd);
	if ((set & SNAP_SET_SIZE) && truncate(path, st->st_size) < 0)
		return -errno;
	return snap_store_setattr(s->fd, set, st);
}

static void plain_clear(SnapNode *node)
{
	close(snap_store_node(node)->fd);
}

const struct snap_node_ops snap_plain_ops = {
	.is_store = true,
	.getattr = snap_store_getattr,
	.setattr = plain_setattr,
	.open = snap_plain_open,
	.clear = plain_clear,
};
