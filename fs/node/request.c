/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel's requests about a node, and the end of the mount. */
#include "fs/node/node-internal.h"

#include <fcntl.h>
#include <string.h>

#include "format/base/cleanup.h"

int snap_node_getattr(SnapNode *node, SnapHandle *handle,
		      struct snap_attr *ret_attr)
{
	const struct snap_nodes_opts *opts = &node->nodes->opts;
	int r;

	snap_nodes_count(node->nodes, SNAP_COUNT_GETATTR);
	memset(ret_attr, 0, sizeof(*ret_attr));
	r = node->ops->getattr(node, handle, ret_attr);
	if (r < 0)
		return r;
	if (opts->uid != (uid_t)-1)
		ret_attr->st.st_uid = opts->uid;
	if (opts->gid != (gid_t)-1)
		ret_attr->st.st_gid = opts->gid;
	ret_attr->st.st_mode &= ~opts->umask;
	return 0;
}

/* Sets the size of an open file. The kernel names no handle when a process
 * opens a file with O_TRUNC: it means the handle that was opened last. 1 when
 * there is no such handle: a process called truncate(2). */
static int truncate_handle(SnapNode *node, SnapHandle *handle, uint64_t size)
{
	int r;

	if (handle && handle->ops->truncate)
		return snap_handle_truncate(handle, size);
	handle = snap_handle_newest(node);
	if (!handle)
		return 1;
	r = snap_handle_truncate(handle, size);
	snap_handle_unref(handle);
	return r;
}

int snap_node_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
		      const struct stat *st, struct snap_attr *ret_attr)
{
	int r = 0;

	snap_nodes_count(node->nodes, SNAP_COUNT_SETATTR);
	if (node->nodes->opts.read_only)
		return -EROFS;
	if (set & SNAP_SET_SIZE) {
		r = truncate_handle(node, handle, (uint64_t)st->st_size);
		if (r < 0)
			return r;
		if (r == 0)
			set &= ~(unsigned)SNAP_SET_SIZE;
	}
	r = 0;
	if (set)
		r = node->ops->setattr
			    ? node->ops->setattr(node, handle, set, st)
			    : -EPERM;
	return r < 0 ? r : snap_node_getattr(node, handle, ret_attr);
}

int snap_node_open(SnapNode *node, int flags, const struct snap_caller *caller,
		   SnapHandle **ret_handle)
{
	snap_nodes_count(node->nodes, SNAP_COUNT_OPEN);
	if (!node->ops->open)
		return -EISDIR;
	if (node->nodes->opts.read_only && (flags & O_ACCMODE) != O_RDONLY)
		return -EROFS;
	return node->ops->open(node, flags, caller, ret_handle);
}

/* ---- the end ---- */

/* Closes the open files of all nodes. */
static void close_handles(SnapNodes *nodes)
{
	g_autoptr(GPtrArray) list = g_ptr_array_new();
	GHashTableIter iter;
	gpointer node;

	g_mutex_lock(&nodes->lock);
	g_hash_table_iter_init(&iter, nodes->table);
	while (g_hash_table_iter_next(&iter, NULL, &node)) {
		((SnapNode *)node)->refs++;
		g_ptr_array_add(list, node);
	}
	g_mutex_unlock(&nodes->lock);
	for (guint i = 0; i < list->len; i++) {
		SnapNode *with = list->pdata[i];

		while (with->handles.head)
			snap_handle_close(with->handles.head->data);
		snap_node_unref(with, 1);
	}
}

/* Drops the references that the kernel never gave back. */
static void forget_all(SnapNodes *nodes)
{
	g_autoptr(GArray) numbers = g_array_new(FALSE, FALSE, sizeof(uint64_t));
	GHashTableIter iter;
	gpointer number;

	g_mutex_lock(&nodes->lock);
	g_hash_table_iter_init(&iter, nodes->numbers);
	while (g_hash_table_iter_next(&iter, &number, NULL))
		g_array_append_vals(numbers, number, 1);
	g_mutex_unlock(&nodes->lock);
	for (guint i = 0; i < numbers->len; i++)
		snap_nodes_forget(nodes, g_array_index(numbers, uint64_t, i),
				  UINT64_MAX);
}

void snap_nodes_drop(SnapNodes *nodes)
{
	close_handles(nodes);
	forget_all(nodes);
}
