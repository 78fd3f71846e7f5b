/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node of a view of a sealed snapshot: what all views have in common.
 *
 * Its bytes never change, so the kernel may keep them for good; a new snapshot
 * in the same folder is another node. Owner, mode and times are those of the
 * snapshot's file. All its blocks on disk are shown once: by `ram`, or by
 * `stream` where there is no `ram`. The others show one block, since a file
 * without any would pass for a hole.
 */
#include "fs/view/writing-internal.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/error.h"

struct view_handle {
	SnapHandle handle;
	struct snap_pages_hint hint;
	bool exact;	      /* nothing is read but what is asked for */
	SnapLearner *learner; /* may be NULL */
};

static SnapViewNode *view_node(SnapNode *node)
{
	return (SnapViewNode *)node;
}

static int view_size(const SnapViewNode *v, uint64_t *ret_size)
{
	*ret_size = 0;
	return v->sealed->error
		       ? v->sealed->error
		       : snap_views[v->view]->size(v->sealed, ret_size);
}

/* True for the view that shows the blocks on disk. */
static bool shows_blocks(const SnapViewNode *v)
{
	return snap_views[v->view] == (snap_view_ram.present(v->sealed)
					       ? &snap_view_ram
					       : &snap_view_stream);
}

uint64_t snap_view_ino(const SnapSealed *sealed, guint view)
{
	const struct snap_meta *meta = snap_sealed_meta(sealed);
	uint64_t hash = 14695981039346656037u; /* FNV-1a */

	for (guint i = 0; meta && i < sizeof(meta->uuid); i++)
		hash = (hash ^ meta->uuid[i]) * 1099511628211u;
	if (!meta)
		hash = (hash ^ sealed->key.ino) * 1099511628211u;
	hash = (hash ^ view) * 1099511628211u;
	/* The store's own numbers rarely have the upper bit. */
	return hash | (uint64_t)1 << 63;
}

static int view_getattr(SnapNode *node, SnapHandle *handle,
			struct snap_attr *ret_attr)
{
	SnapViewNode *v = view_node(node);
	uint64_t size;
	int r = view_size(v, &size);

	/* A broken one is an empty file, so that it can be removed. */
	if (r < 0 && !snap_is_damage(r))
		return r;
	if (fstat(v->sealed->fd, &ret_attr->st) < 0)
		return -errno;
	if (v->sealed->error || !shows_blocks(v))
		ret_attr->st.st_blocks = 1;
	ret_attr->st.st_ino = snap_view_ino(v->sealed, v->view);
	ret_attr->st.st_size = (off_t)size;
	ret_attr->st.st_nlink = 1;
	ret_attr->st.st_mode = S_IFREG | (ret_attr->st.st_mode & 0777);
	ret_attr->sealed = true;
	return 0;
}

/* A view that is being replaced, by who was served on its own node, is cut as
 * the stream on its way is; no other is. */
static int view_cut(SnapViewNode *v, uint64_t size)
{
	SnapIncoming *in;
	uint64_t now;
	int r = view_size(v, &now);

	if (r == 0 && size == now)
		return 0;
	if (snap_compare_cut(&v->node, size))
		return 0;
	in = snap_views[v->view]->saves
		     ? snap_writers_find(v->folder, snap_views[v->view])
		     : NULL;
	if (!in)
		return -EPERM;
	r = snap_incoming_cut(in, size);
	snap_node_unref(&in->node, 1);
	return r;
}

static int view_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
			const struct stat *st)
{
	SnapViewNode *v = view_node(node);

	if (set & SNAP_SET_SIZE) {
		int r = view_cut(v, (uint64_t)st->st_size);

		if (r < 0)
			return r;
	}
	return snap_store_setattr(v->sealed->fd, set, st);
}

static ssize_t view_read(SnapHandle *handle, void *buf, size_t size,
			 uint64_t offset)
{
	struct view_handle *h = (struct view_handle *)handle;
	SnapViewNode *v = view_node(handle->node);
	uint64_t end;
	int r = view_size(v, &end);

	if (r < 0)
		return snap_told(r);
	if (offset >= end)
		return 0;
	size = MIN(size, end - offset);
	if (h->learner)
		snap_learner_note(h->learner, offset, size);
	r = snap_views[v->view]->read(v->sealed, buf, size, offset,
				      h->exact ? NULL : &h->hint);
	return r < 0 ? snap_told(r) : (ssize_t)size;
}

static int64_t view_seek(SnapHandle *handle, int64_t offset, int whence)
{
	SnapViewNode *v = view_node(handle->node);
	const struct snap_view *view = snap_views[v->view];
	bool hole = whence == SEEK_HOLE;
	uint64_t end, at = (uint64_t)offset;
	int r = view_size(v, &end);

	if (r < 0)
		return snap_told(r);
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (at >= end)
		return -ENXIO;
	if (!view->seek)
		return hole ? (int64_t)end : offset;
	r = view->seek(v->sealed, at, hole, &at);
	if (r < 0)
		return snap_told(r);
	if (at >= end && !hole)
		return -ENXIO;
	return (int64_t)MIN(at, end);
}

static void view_handle_clear(SnapHandle *handle)
{
	snap_learner_free(((struct view_handle *)handle)->learner);
}

static const struct snap_handle_ops view_handle_ops = {
	.mode = SNAP_HANDLE_KEPT,
	.read = view_read,
	.seek = view_seek,
	.clear = view_handle_clear,
};

static int view_open(SnapNode *node, int flags,
		     const struct snap_caller *caller, SnapHandle **ret_handle)
{
	SnapViewNode *v = view_node(node);
	const struct snap_view *view = snap_views[v->view];
	struct view_handle *h;
	uint64_t size;
	int r;

	if ((flags & O_ACCMODE) != O_RDONLY)
		return view->open_to_write
			       ? view->open_to_write(node, caller, ret_handle)
			       : -EROFS;
	r = view_size(v, &size);
	if (r < 0)
		return snap_told(r);
	h = snap_handle_new(sizeof(*h), &view_handle_ops, node);
	h->exact = view->learns && (flags & O_NOATIME);
	if (view->learns && !h->exact) {
		h->learner = snap_learner_new(v, caller->pid);
		snap_learn_push(node);
	}
	*ret_handle = &h->handle;
	return 0;
}

static void view_clear(SnapNode *node)
{
	SnapViewNode *v = view_node(node);

	snap_sealed_unref(v->sealed);
	snap_node_unref(v->folder, 1);
}

const struct snap_node_ops snap_view_ops = {
	.getattr = view_getattr,
	.setattr = view_setattr,
	.open = view_open,
	.clear = view_clear,
};

SnapNode *snap_view_node(SnapNode *folder, SnapSealed *sealed, guint view)
{
	SnapViewNode *v = g_new0(SnapViewNode, 1);

	v->node.ops = &snap_view_ops;
	v->node.tree = folder->tree;
	v->node.key.kind = &snap_view_ops;
	v->node.key.folder_dev = folder->key.dev;
	v->node.key.folder_ino = folder->key.ino;
	v->node.key.dev = sealed->key.dev;
	v->node.key.ino = sealed->key.ino;
	v->node.key.size = sealed->key.size;
	v->node.key.mtime_sec = sealed->key.mtime_sec;
	v->node.key.mtime_nsec = sealed->key.mtime_nsec;
	v->node.key.extra = view;
	/* The other views do not show what stands before the stream. */
	if (snap_views[view] == &snap_view_stream) {
		v->node.key.head_ino = sealed->key.head_ino;
		v->node.key.head_size = sealed->key.head_size;
		v->node.key.head_mtime_sec = sealed->key.head_mtime_sec;
		v->node.key.head_mtime_nsec = sealed->key.head_mtime_nsec;
	}
	v->folder = snap_node_ref(folder);
	v->sealed = snap_sealed_ref(sealed);
	v->view = view;
	return snap_node_intern(&v->node);
}
