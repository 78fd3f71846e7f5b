/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Handles: open files, and the way from a request to the operation of a kind.
 */
#include "fs/node/node-internal.h"

#include "format/base/cleanup.h"

void *snap_handle_new(size_t size, const struct snap_handle_ops *ops,
		      SnapNode *node)
{
	SnapHandle *handle = g_malloc0(size);
	SNAP_LOCKED(&node->nodes->lock);

	handle->ops = ops;
	handle->node = node;
	handle->refs = 1;
	handle->link.data = handle;
	node->refs++;
	return handle;
}

void snap_handle_known(SnapHandle *handle)
{
	SNAP_LOCKED(&handle->node->nodes->lock);

	handle->known = true;
	g_queue_push_tail_link(&handle->node->handles, &handle->link);
}

SnapHandle *snap_handle_newest(SnapNode *node)
{
	SNAP_LOCKED(&node->nodes->lock);

	for (GList *l = node->handles.tail; l; l = l->prev) {
		SnapHandle *handle = l->data;

		if (handle->ops->truncates_on_open &&
		    !__atomic_load_n(&handle->changes, __ATOMIC_RELAXED)) {
			handle->refs++;
			return handle;
		}
	}
	return NULL;
}

SnapHandle *snap_node_handle(SnapNode *node, const struct snap_handle_ops *ops)
{
	SNAP_LOCKED(&node->nodes->lock);

	for (GList *l = node->handles.head; l; l = l->next) {
		SnapHandle *handle = l->data;

		if (!ops || handle->ops == ops) {
			handle->refs++;
			return handle;
		}
	}
	return NULL;
}

void snap_handle_unref(SnapHandle *handle)
{
	SnapNode *node = handle->node;
	bool last;

	g_mutex_lock(&node->nodes->lock);
	last = --handle->refs == 0;
	g_mutex_unlock(&node->nodes->lock);
	if (!last)
		return;
	handle->ops->clear(handle);
	g_free(handle);
	snap_node_unref(node, 1);
}

void snap_handle_close(SnapHandle *handle)
{
	SnapNode *node = handle->node;

	g_mutex_lock(&node->nodes->lock);
	if (handle->known)
		g_queue_unlink(&node->handles, &handle->link);
	g_mutex_unlock(&node->nodes->lock);
	snap_handle_unref(handle);
}

enum snap_handle_mode snap_handle_mode(const SnapHandle *handle)
{
	return handle->ops->mode;
}

/* Reads into room of the vector. */
static ssize_t read_room(SnapHandle *handle, SnapVec *vec, size_t size,
			 uint64_t offset)
{
	void *room = snap_vec_room(vec, size);
	ssize_t n =
		room ? handle->ops->read(handle, room, size, offset) : -ENOMEM;

	snap_vec_cut(vec, n > 0 ? (size_t)n : 0);
	return n;
}

ssize_t snap_handle_read(SnapHandle *handle, SnapVec *vec, size_t size,
			 uint64_t offset)
{
	const struct snap_handle_ops *ops = handle->ops;

	snap_nodes_count(handle->node->nodes, SNAP_COUNT_READ);
	snap_vec_begin(vec, size);
	if (!ops->read && !ops->give)
		return -EBADF;
	if (offset > INT64_MAX)
		return -EINVAL;
	if (!size)
		return 0;
	return ops->give ? ops->give(handle, vec, size, offset)
			 : read_room(handle, vec, size, offset);
}

bool snap_handle_await(SnapHandle *handle, struct snap_waiter *waiter)
{
	return handle->ops->await(handle, waiter);
}

bool snap_handle_forget(SnapHandle *handle, struct snap_waiter *waiter)
{
	return handle->ops->forget(handle, waiter);
}

static void note_change(SnapHandle *handle)
{
	__atomic_store_n(&handle->changes, true, __ATOMIC_RELAXED);
}

int snap_handle_truncate(SnapHandle *handle, uint64_t size)
{
	note_change(handle);
	return handle->ops->truncate(handle, size);
}

void snap_handle_write(SnapHandle *handle, const void *buf, size_t size,
		       uint64_t offset, snap_handle_answer answer, void *data)
{
	snap_nodes_count(handle->node->nodes, SNAP_COUNT_WRITE);
	note_change(handle);
	if (!handle->ops->write)
		answer(data, -EBADF);
	else if (offset > INT64_MAX || size > (uint64_t)INT64_MAX - offset)
		answer(data, -EFBIG);
	else
		handle->ops->write(handle, buf, size, offset, answer, data);
}

void snap_handle_note_writer(SnapHandle *handle, uint64_t process)
{
	__atomic_store_n(&handle->process, process, __ATOMIC_RELAXED);
}

void snap_handle_flush(SnapHandle *handle, uint64_t process,
		       snap_handle_answer answer, void *data)
{
	uint64_t wrote = __atomic_load_n(&handle->process, __ATOMIC_RELAXED);

	/* A child between fork and exec closes files that its parent still
	 * writes. */
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
	snap_nodes_count(handle->node->nodes, SNAP_COUNT_SEEK);
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
