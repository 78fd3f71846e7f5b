/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes and handles as such: references, the table in which a node is found
 * again, and the way from the door to the functions of each kind.
 */
#include "fs/view/view-internal.h"

#include <fcntl.h>
#include <string.h>

#include "format/base/error.h"

SnapNode *snap_node_ref(SnapNode *node)
{
	g_mutex_lock(&node->tree->lock);
	node->refs++;
	g_mutex_unlock(&node->tree->lock);
	return node;
}

static void node_free(SnapNode *node)
{
	node->ops->clear(node);
	g_free(node);
}

void snap_node_unref(SnapNode *node, uint64_t n)
{
	SnapTree *tree = node->tree;
	bool gone;

	g_mutex_lock(&tree->lock);
	g_assert(node->refs >= n);
	node->refs -= n;
	gone = node->refs == 0;
	if (gone)
		g_hash_table_remove(tree->nodes, &node->key);
	g_mutex_unlock(&tree->lock);
	if (gone)
		node_free(node);
}

uint64_t snap_node_serial(const SnapNode *node)
{
	return node->serial;
}

SnapNode *snap_node_intern(SnapNode *fresh)
{
	SnapTree *tree = fresh->tree;
	SnapNode *node;

	g_mutex_lock(&tree->lock);
	node = g_hash_table_lookup(tree->nodes, &fresh->key);
	if (!node) {
		node = fresh;
		node->serial = ++tree->serial;
		g_hash_table_insert(tree->nodes, &node->key, node);
	}
	node->refs++;
	g_mutex_unlock(&tree->lock);
	if (node != fresh)
		node_free(fresh);
	return node;
}

void *snap_handle_new(size_t size, const struct snap_handle_ops *ops,
		      SnapNode *node)
{
	SnapHandle *handle = g_malloc0(size);

	handle->ops = ops;
	handle->node = node;
	g_mutex_lock(&node->tree->lock);
	node->refs++;
	g_hash_table_add(node->tree->handles, handle);
	g_mutex_unlock(&node->tree->lock);
	return handle;
}

enum snap_handle_mode snap_handle_mode(const SnapHandle *handle)
{
	return handle->ops->mode;
}

/* What the mount's options say of owners and modes. */
static void show_attr(SnapTree *tree, struct snap_attr *attr)
{
	if (tree->opts.uid != (uid_t)-1)
		attr->st.st_uid = tree->opts.uid;
	if (tree->opts.gid != (gid_t)-1)
		attr->st.st_gid = tree->opts.gid;
	attr->st.st_mode &= ~tree->opts.umask;
}

int snap_node_getattr(SnapNode *node, SnapHandle *handle,
		      struct snap_attr *ret_attr)
{
	int r;

	snap_count(node->tree, SNAP_COUNT_GETATTR);
	memset(ret_attr, 0, sizeof(*ret_attr));
	r = node->ops->getattr(node, handle, ret_attr);
	if (r == 0)
		show_attr(node->tree, ret_attr);
	return r;
}

int snap_node_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
		      const struct stat *st, struct snap_attr *ret_attr)
{
	int r = 0;

	snap_count(node->tree, SNAP_COUNT_SETATTR);
	if (node->tree->read_only)
		return -EROFS;
	/* An open file knows its own size, whatever node it was opened by. */
	if (handle && (set & SNAP_SET_SIZE) && handle->ops->truncate) {
		r = handle->ops->truncate(handle, (uint64_t)st->st_size);
		set &= ~(unsigned)SNAP_SET_SIZE;
	}
	if (r == 0 && set)
		r = node->ops->setattr
			    ? node->ops->setattr(node, handle, set, st)
			    : -EPERM;
	return r < 0 ? r : snap_node_getattr(node, handle, ret_attr);
}

int snap_node_open(SnapNode *node, int flags, const struct snap_caller *caller,
		   SnapHandle **ret_handle)
{
	snap_count(node->tree, SNAP_COUNT_OPEN);
	if (!node->ops->open)
		return -EISDIR;
	if (node->tree->read_only && (flags & O_ACCMODE) != O_RDONLY)
		return -EROFS;
	return node->ops->open(node, flags, caller, ret_handle);
}

ssize_t snap_handle_read(SnapHandle *handle, void *buf, size_t size,
			 uint64_t offset)
{
	snap_count(handle->node->tree, SNAP_COUNT_READ);
	if (!handle->ops->read)
		return -EBADF;
	if (offset > INT64_MAX)
		return -EINVAL;
	return handle->ops->read(handle, buf, size, offset);
}

void snap_handle_write(SnapHandle *handle, const void *buf, size_t size,
		       uint64_t offset, snap_handle_answer answer, void *data)
{
	snap_count(handle->node->tree, SNAP_COUNT_WRITE);
	if (!handle->ops->write)
		answer(data, -EBADF);
	else if (offset > INT64_MAX || size > (uint64_t)INT64_MAX - offset)
		answer(data, -EFBIG);
	else
		handle->ops->write(handle, buf, size, offset, answer, data);
}

void snap_handle_writer(SnapHandle *handle, uint64_t process)
{
	__atomic_store_n(&handle->process, process, __ATOMIC_RELAXED);
}

void snap_handle_flush(SnapHandle *handle, uint64_t process,
		       snap_handle_answer answer, void *data)
{
	uint64_t wrote = __atomic_load_n(&handle->process, __ATOMIC_RELAXED);

	/* A child between fork and exec closes what its parent goes on with. */
	if (handle->ops->flush && (!wrote || !process || wrote == process))
		handle->ops->flush(handle, answer, data);
	else
		answer(data, 0);
}

void snap_handle_sync(SnapHandle *handle, bool data_only,
		      snap_handle_answer answer, void *data)
{
	if (handle->ops->sync)
		handle->ops->sync(handle, data_only, answer, data);
	else
		answer(data, 0);
}

int64_t snap_handle_seek(SnapHandle *handle, int64_t offset, int whence)
{
	snap_count(handle->node->tree, SNAP_COUNT_SEEK);
	if (offset < 0)
		return -ENXIO;
	return handle->ops->seek ? handle->ops->seek(handle, offset, whence)
				 : -EINVAL;
}

int snap_handle_allocate(SnapHandle *handle, int mode, int64_t offset,
			 int64_t length)
{
	return handle->ops->allocate
		       ? handle->ops->allocate(handle, mode, offset, length)
		       : -EOPNOTSUPP;
}

void snap_handle_close(SnapHandle *handle)
{
	SnapNode *node = handle->node;

	g_mutex_lock(&node->tree->lock);
	g_hash_table_remove(node->tree->handles, handle);
	g_mutex_unlock(&node->tree->lock);
	handle->ops->clear(handle);
	g_free(handle);
	snap_node_unref(node, 1);
}
