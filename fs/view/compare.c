/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Views written while the snapshot they show is there: a copy on its way back.
 *
 * The bytes are the same in all views, so nothing is kept of them. They are
 * compared, and refused (EPERM) where they differ, with a line in the log. A
 * file that was cut to nothing, or removed and made anew, has zeros where the
 * writer, who ascends, leaves something out. At the end its size must be that
 * of the view.
 */
#include "fs/view/writing-internal.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/error.h"
#include "format/base/log.h"
#include "format/base/zero.h"

/* As much of a view is read at once. */
#define CHUNK (256 * SNAP_KIB)

struct compare_handle {
	SnapHandle handle; /* of a SnapViewNode */
	struct snap_pages_hint hint;
	/* protected by tree->lock */
	uint64_t done; /* up to here all is known to be the same */
	uint64_t size; /* of the file as its writer sees it */
	bool fresh;    /* nothing but zeros is behind `done` */
	bool wrote;
	bool told; /* the log knows that it differs */
};

static SnapViewNode *view_of(struct compare_handle *h)
{
	return (SnapViewNode *)h->handle.node;
}

/* ---- comparing ---- */

static size_t first_difference(const uint8_t *a, const uint8_t *b, size_t size)
{
	size_t i = 0;

	while (i + SNAP_PAGE <= size && !memcmp(a + i, b + i, SNAP_PAGE))
		i += SNAP_PAGE;
	while (i < size && a[i] == b[i])
		i++;
	return i;
}

static int compare_bytes(SnapSealed *sealed, const struct snap_view *view,
			 const uint8_t *data, size_t size, uint64_t offset,
			 struct snap_pages_hint *hint, uint64_t *ret_at)
{
	g_autofree uint8_t *buf = g_malloc(MIN(size, CHUNK));

	for (size_t done = 0; done < size;) {
		size_t n = MIN(size - done, CHUNK), same;
		int r = view->read(sealed, buf, n, offset + done, hint);

		if (r < 0)
			return r;
		same = first_difference(data + done, buf, n);
		if (same < n) {
			*ret_at = offset + done + same;
			return 1;
		}
		done += n;
	}
	return 0;
}

int snap_compare_bytes(SnapSealed *sealed, const struct snap_view *view,
		       const void *data, size_t size, uint64_t offset,
		       uint64_t *ret_at)
{
	struct snap_pages_hint hint = { 0 };

	return compare_bytes(sealed, view, data, size, offset, &hint, ret_at);
}

/* The next run of data in [at, end) of a view; *ret_to is 0 when there is
 * none. */
static int next_data(SnapSealed *sealed, const struct snap_view *view,
		     uint64_t at, uint64_t end, uint64_t *ret_from,
		     uint64_t *ret_to)
{
	int r;

	*ret_from = at;
	*ret_to = end;
	if (!view->seek)
		return 0;
	r = view->seek(sealed, at, false, ret_from);
	if (r < 0)
		return r;
	if (*ret_from >= end) {
		*ret_to = 0;
		return 0;
	}
	r = view->seek(sealed, *ret_from, true, ret_to);
	*ret_to = MIN(*ret_to, end);
	return r;
}

int snap_compare_zero(SnapSealed *sealed, const struct snap_view *view,
		      uint64_t offset, uint64_t end, uint64_t *ret_at)
{
	g_autofree uint8_t *zeros = NULL;

	while (offset < end) {
		uint64_t from, to;
		int r = next_data(sealed, view, offset, end, &from, &to);

		if (r < 0)
			return r;
		if (!to)
			return 0;
		if (!zeros)
			zeros = g_malloc0(CHUNK);
		offset = MIN(from + CHUNK, to);
		r = snap_compare_bytes(sealed, view, zeros,
				       (size_t)(offset - from), from, ret_at);
		if (r)
			return r;
	}
	return 0;
}

/* ---- the open file ---- */

/* Refuses what was written, and says so once. */
static int differs(struct compare_handle *h, uint64_t at)
{
	SnapViewNode *v = view_of(h);
	g_autofree char *path =
		snap_folder_path(v->folder, snap_views[v->view]->name);
	bool told;

	g_mutex_lock(&v->node.tree->lock);
	told = h->told;
	h->told = true;
	g_mutex_unlock(&v->node.tree->lock);
	if (!told)
		snap_log(SNAP_LOG_WARNING,
			 "%s: what is written differs from the snapshot that "
			 "is there, from offset %" G_GUINT64_FORMAT " on",
			 path, at);
	return -EPERM;
}

static int outcome(struct compare_handle *h, int r, uint64_t at)
{
	if (r > 0)
		return differs(h, at);
	return snap_told(r);
}

/* Compares [offset, offset + size) with `data`, or with zeros when that is
 * NULL, and zeros before it that the writer left out. */
static int compare_write(struct compare_handle *h, const void *data,
			 uint64_t size, uint64_t offset)
{
	SnapViewNode *v = view_of(h);
	const struct snap_view *view = snap_views[v->view];
	uint64_t end, at = 0, left_out;
	int r = view->size(v->sealed, &end);

	if (r < 0)
		return snap_told(r);
	if (offset > end || size > end - offset)
		return differs(h, end);
	g_mutex_lock(&v->node.tree->lock);
	left_out = h->fresh ? MIN(h->done, offset) : offset;
	g_mutex_unlock(&v->node.tree->lock);
	r = snap_compare_zero(v->sealed, view, left_out, offset, &at);
	if (r == 0)
		r = data ? compare_bytes(v->sealed, view, data, size, offset,
					 &h->hint, &at)
			 : snap_compare_zero(v->sealed, view, offset,
					     offset + size, &at);
	if (r)
		return outcome(h, r, at);
	g_mutex_lock(&v->node.tree->lock);
	h->wrote = true;
	h->done = MAX(h->done, offset + size);
	h->size = MAX(h->size, offset + size);
	g_mutex_unlock(&v->node.tree->lock);
	return 0;
}

static void compare_handle_write(SnapHandle *handle, const void *buf,
				 size_t size, uint64_t offset,
				 snap_handle_answer answer, void *data)
{
	int r = compare_write((struct compare_handle *)handle, buf, size,
			      offset);

	answer(data, r < 0 ? r : (ssize_t)size);
}

static ssize_t compare_handle_read(SnapHandle *handle, void *buf, size_t size,
				   uint64_t offset)
{
	struct compare_handle *h = (struct compare_handle *)handle;
	SnapViewNode *v = view_of(h);
	uint64_t end;
	int r = snap_views[v->view]->size(v->sealed, &end);

	if (r < 0)
		return snap_told(r);
	if (offset >= end)
		return 0;
	size = MIN(size, end - offset);
	r = snap_views[v->view]->read(v->sealed, buf, size, offset, &h->hint);
	return r < 0 ? snap_told(r) : (ssize_t)size;
}

/* What lies behind the cut is zero from now on; what lies before it is as it
 * was. */
static void cut_locked(struct compare_handle *h, uint64_t size)
{
	if (size < h->size) {
		h->done = h->fresh ? MIN(h->done, size) : size;
		h->fresh = true;
	}
	h->size = size;
}

static int compare_handle_truncate(SnapHandle *handle, uint64_t size)
{
	struct compare_handle *h = (struct compare_handle *)handle;

	g_mutex_lock(&handle->node->tree->lock);
	cut_locked(h, size);
	h->wrote |= size != 0;
	g_mutex_unlock(&handle->node->tree->lock);
	return 0;
}

/* One that was only cut to nothing is as one that was opened. */
static void compare_handle_flush(SnapHandle *handle, snap_handle_answer answer,
				 void *data)
{
	struct compare_handle *h = (struct compare_handle *)handle;
	SnapViewNode *v = view_of(h);
	const struct snap_view *view = snap_views[v->view];
	uint64_t end, size, done, at = 0;
	bool wrote;
	int r = view->size(v->sealed, &end);

	g_mutex_lock(&v->node.tree->lock);
	wrote = h->wrote;
	size = h->size;
	done = h->fresh ? h->done : size;
	g_mutex_unlock(&v->node.tree->lock);
	if (r < 0 || !wrote)
		r = snap_told(MIN(r, 0));
	else if (size != end)
		r = differs(h, MIN(size, end));
	else
		r = outcome(h,
			    snap_compare_zero(v->sealed, view, done, end, &at),
			    at);
	answer(data, r);
}

static int compare_handle_allocate(SnapHandle *handle, int mode, int64_t offset,
				   int64_t length)
{
	struct compare_handle *h = (struct compare_handle *)handle;
	SnapViewNode *v = view_of(h);
	uint64_t end, from = (uint64_t)offset, to;
	int r = snap_views[v->view]->size(v->sealed, &end);

	if (r < 0)
		return snap_told(r);
	if (offset < 0 || length <= 0)
		return -EINVAL;
	to = from + (uint64_t)length;
	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE |
		     FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (!(mode & FALLOC_FL_KEEP_SIZE) && to > end)
		return differs(h, end);
	if (!(mode & ~FALLOC_FL_KEEP_SIZE) || from >= end)
		return 0;
	return compare_write(h, NULL, MIN(to, end) - from, from);
}

static void compare_handle_clear(SnapHandle *handle)
{
}

static const struct snap_handle_ops compare_handle_ops = {
	.mode = SNAP_HANDLE_DIRECT,
	.read = compare_handle_read,
	.write = compare_handle_write,
	.flush = compare_handle_flush,
	.truncate = compare_handle_truncate,
	.allocate = compare_handle_allocate,
	.clear = compare_handle_clear,
};

/* ---- opening ---- */

int snap_compare_open(SnapNode *node, const struct snap_caller *caller,
		      SnapHandle **ret_handle)
{
	SnapViewNode *v = (SnapViewNode *)node;
	struct compare_handle *h;
	uint64_t size;
	int r = snap_views[v->view]->size(v->sealed, &size);

	if (r < 0)
		return snap_told(r);
	h = snap_handle_new(sizeof(*h), &compare_handle_ops, node);
	g_mutex_lock(&node->tree->lock);
	h->size = size;
	g_mutex_unlock(&node->tree->lock);
	*ret_handle = &h->handle;
	return 0;
}

/* The snapshot that is there has no such view. */
static int refuse(SnapNode *folder, const struct snap_view *view)
{
	g_autofree char *path = snap_folder_path(folder, view->name);

	snap_log(SNAP_LOG_WARNING,
		 "%s: the snapshot that is there has no %s; remove it first, "
		 "or write its stream",
		 path, view->name);
	return -EPERM;
}

int snap_compare_create(SnapNode *folder, SnapSealed *sealed, guint view,
			SnapHandle **ret_handle)
{
	SnapNode *node;
	int r;

	if (sealed->error || !snap_views[view]->present(sealed))
		return refuse(folder, snap_views[view]);
	node = snap_view_node(folder, sealed, view);
	r = snap_compare_open(node, NULL, ret_handle);
	snap_node_unref(node, 1);
	if (r < 0)
		return r;
	compare_handle_truncate(*ret_handle, 0);
	snap_hidden_remove(sealed, view);
	return 0;
}

bool snap_compare_cut(SnapNode *node, uint64_t size)
{
	SnapTree *tree = node->tree;
	GHashTableIter iter;
	gpointer handle;
	bool any = false;

	g_mutex_lock(&tree->lock);
	g_hash_table_iter_init(&iter, tree->handles);
	while (g_hash_table_iter_next(&iter, &handle, NULL)) {
		struct compare_handle *h = handle;

		if (h->handle.ops != &compare_handle_ops ||
		    h->handle.node != node)
			continue;
		cut_locked(h, size);
		any = true;
	}
	g_mutex_unlock(&tree->lock);
	return any;
}
