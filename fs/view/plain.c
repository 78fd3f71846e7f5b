/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ordinary files: what is asked of them is asked of the store's file. */
#include "fs/view/view-internal.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "format/base/error.h"
#include "format/base/log.h"

static int plain_fd(SnapHandle *handle)
{
	return ((struct snap_plain_handle *)handle)->fd;
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

ssize_t snap_plain_handle_read(SnapHandle *handle, void *buf, size_t size,
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

void snap_plain_handle_write(SnapHandle *handle, const void *buf, size_t size,
			     uint64_t offset, snap_handle_answer answer,
			     void *data)
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

int snap_plain_handle_truncate(SnapHandle *handle, uint64_t size)
{
	return ftruncate(plain_fd(handle), (off_t)size) < 0 ? -errno : 0;
}

void snap_plain_handle_sync(SnapHandle *handle, bool data_only,
			    snap_handle_answer answer, void *data)
{
	int fd = plain_fd(handle);
	int r = data_only ? fdatasync(fd) : fsync(fd);

	answer(data, r < 0 ? failed(handle, "sync", errno) : 0);
}

int64_t snap_plain_handle_seek(SnapHandle *handle, int64_t offset, int whence)
{
	off_t at = lseek(plain_fd(handle), offset, whence);

	return at < 0 ? -errno : at;
}

int snap_plain_handle_allocate(SnapHandle *handle, int mode, int64_t offset,
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
	.read = snap_plain_handle_read,
	.write = snap_plain_handle_write,
	.truncate = snap_plain_handle_truncate,
	.sync = snap_plain_handle_sync,
	.seek = snap_plain_handle_seek,
	.allocate = snap_plain_handle_allocate,
	.clear = plain_handle_clear,
};

SnapHandle *snap_plain_handle(SnapNode *node, int fd)
{
	struct snap_plain_handle *h =
		snap_handle_new(sizeof(*h), &plain_handle_ops, node);

	h->fd = fd;
	return &h->handle;
}

int snap_plain_reopen(SnapNode *node, int flags)
{
	char path[SNAP_PROC_PATH];
	int fd;

	/* The kernel's requests are not aligned as O_DIRECT would have it, and
	 * say where to write: pwrite(2) would ignore that with O_APPEND. */
	flags &= O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC | O_NOATIME;
	snap_proc_path(path, snap_store_node(node)->fd);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0 && errno == EPERM && (flags & O_NOATIME))
		fd = open(path, (flags & ~O_NOATIME) | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!snap_fd_spare(node->tree, fd)) {
		close(fd);
		return -ENFILE;
	}
	return fd;
}

int snap_plain_open(SnapNode *node, int flags, const struct snap_caller *caller,
		    SnapHandle **ret_handle)
{
	int fd = snap_plain_reopen(node, flags);

	if (fd < 0)
		return fd;
	*ret_handle = snap_plain_handle(node, fd);
	return 0;
}

int snap_plain_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
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

/* ---- more files than may be open ---- */

/* How many the kernel is asked to forget for each new one. */
#define FORGOTTEN 2

/* The node of the folder at `path`, a reference, or NULL when it has none. */
static SnapNode *known_folder(SnapTree *tree, const char *path)
{
	struct snap_node_key key = { .kind = &snap_folder_ops };
	SnapNode *folder;
	struct stat st;

	if (stat(path, &st) < 0)
		return NULL;
	key.dev = st.st_dev;
	key.ino = st.st_ino;
	g_mutex_lock(&tree->lock);
	folder = g_hash_table_lookup(tree->nodes, &key);
	if (folder)
		folder->refs++;
	g_mutex_unlock(&tree->lock);
	return folder;
}

/* Asks the kernel to forget the name that a file has now. */
static void forget_name(SnapNode *node)
{
	SnapTree *tree = node->tree;
	char proc[SNAP_PROC_PATH], path[PATH_MAX], *name;
	SnapNode *folder;
	ssize_t n;

	snap_proc_path(proc, snap_store_node(node)->fd);
	n = readlink(proc, path, sizeof(path) - 1);
	path[MAX(n, 0)] = '\0';
	name = strrchr(path, '/');
	if (!name || name == path)
		return;
	*name++ = '\0';
	folder = known_folder(tree, path);
	if (!folder)
		return;
	tree->changed(tree->changed_data, folder, name);
	snap_node_unref(folder, 1);
}

/* The node whose turn it is to be forgotten, a reference, or NULL. */
static SnapNode *next_plain(SnapTree *tree)
{
	SnapStoreNode *s = NULL;
	GList *link;

	g_mutex_lock(&tree->lock);
	link = g_queue_pop_head_link(&tree->plain);
	if (link) {
		g_queue_push_tail_link(&tree->plain, link);
		s = link->data;
		/* One that is being freed is no more. */
		if (s->node.refs)
			s->node.refs++;
		else
			s = NULL;
	}
	g_mutex_unlock(&tree->lock);
	return s ? &s->node : NULL;
}

void snap_plain_known(SnapNode *node)
{
	SnapStoreNode *s = snap_store_node(node);
	SnapTree *tree = node->tree;

	g_mutex_lock(&tree->lock);
	s->link.data = s;
	s->linked = true;
	g_queue_push_tail_link(&tree->plain, &s->link);
	g_mutex_unlock(&tree->lock);
	if (!tree->changed || s->fd < tree->fds_ordinary / 2)
		return;
	for (int i = 0; i < FORGOTTEN; i++) {
		SnapNode *other = next_plain(tree);

		if (!other)
			return;
		forget_name(other);
		snap_node_unref(other, 1);
	}
}

/* ---- the node ---- */

static void plain_clear(SnapNode *node)
{
	SnapStoreNode *s = snap_store_node(node);

	g_mutex_lock(&node->tree->lock);
	if (s->linked)
		g_queue_unlink(&node->tree->plain, &s->link);
	g_mutex_unlock(&node->tree->lock);
	close(snap_store_node(node)->fd);
}

const struct snap_node_ops snap_plain_ops = {
	.is_store = true,
	.getattr = snap_store_getattr,
	.setattr = snap_plain_setattr,
	.open = snap_plain_open,
	.clear = plain_clear,
};
