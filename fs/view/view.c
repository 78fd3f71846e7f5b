/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node of a view: what all views have in common.
 *
 * The bytes of a view never change, so the kernel may keep them for ever; a new
 * snapshot in the same folder is another node. Owner, mode and times are those
 * of the snapshot's file. `ram` shows all of the file's blocks on disk, or
 * `stream` where there is no `ram`. Every other view shows one block: programs
 * take a file without blocks for a hole.
 */
#include "fs/view/view-internal.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/error.h"

typedef struct {
	SnapNode node;
	struct snap_view_of of; /* references */
	struct snap_hot_file hot;
} ViewNode;

struct view_handle {
	SnapHandle handle;
	struct snap_pages_hint hint;
	bool exact;	      /* read nothing but what is asked for */
	SnapLearner *learner; /* may be NULL */
};

static const struct snap_view_of *of_node(SnapNode *node)
{
	return &((ViewNode *)node)->of;
}

int snap_view_size(const SnapView *view, SnapSealed *sealed, uint64_t *ret_size)
{
	*ret_size = 0;
	return sealed->error ? sealed->error : view->size(sealed, ret_size);
}

uint64_t snap_view_ino(const SnapView *view, const SnapSealed *sealed)
{
	const struct snap_meta *meta = snap_sealed_meta(sealed);
	uint64_t hash = 14695981039346656037u; /* FNV-1a */

	for (guint i = 0; meta && i < sizeof(meta->uuid); i++)
		hash = (hash ^ meta->uuid[i]) * 1099511628211u;
	if (!meta)
		hash = (hash ^ sealed->key.ino) * 1099511628211u;
	hash = (hash ^ view->number) * 1099511628211u;
	/* The store's own numbers rarely have the upper bit. */
	return hash | (uint64_t)1 << 63;
}

/* True for the view that shows the blocks on disk. */
static bool shows_blocks(const struct snap_view_of *of)
{
	if (of->sealed->error)
		return false;
	return of->view == (snap_view_ram.present(of->sealed)
				    ? &snap_view_ram
				    : &snap_view_stream);
}

static int view_getattr(SnapNode *node, SnapHandle *handle,
			struct snap_attr *ret_attr)
{
	const struct snap_view_of *of = of_node(node);
	uint64_t size;
	int r = snap_view_size(of->view, of->sealed, &size);

	/* A damaged snapshot is an empty file, so that it can be removed. */
	if (r < 0 && !snap_is_damage(r))
		return r;
	if (fstat(of->sealed->fd, &ret_attr->st) < 0)
		return -errno;
	if (!shows_blocks(of))
		ret_attr->st.st_blocks = 1;
	ret_attr->st.st_ino = snap_view_ino(of->view, of->sealed);
	ret_attr->st.st_size = (off_t)size;
	ret_attr->st.st_nlink = 1;
	ret_attr->st.st_mode = S_IFREG | (ret_attr->st.st_mode & 0777);
	ret_attr->sealed = true;
	return 0;
}

static int view_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
			const struct stat *st)
{
	const struct snap_view_of *of = of_node(node);
	uint64_t size;

	if ((set & SNAP_SET_SIZE) &&
	    (snap_view_size(of->view, of->sealed, &size) < 0 ||
	     (uint64_t)st->st_size != size))
		return -EPERM;
	return snap_store_setattr(of->sealed->fd, set, st);
}

/* Reads up to `size` bytes: their count, -errno. */
static ssize_t read_view(const SnapView *view, SnapSealed *sealed, void *buf,
			 size_t size, uint64_t offset,
			 struct snap_pages_hint *hint)
{
	uint64_t end;
	int r = snap_view_size(view, sealed, &end);

	if (r < 0)
		return r;
	if (offset >= end)
		return 0;
	size = MIN(size, end - offset);
	r = view->read(sealed, buf, size, offset, hint);
	return r < 0 ? r : (ssize_t)size;
}

ssize_t snap_view_read(const SnapView *view, SnapSealed *sealed, void *buf,
		       size_t size, uint64_t offset)
{
	return read_view(view, sealed, buf, size, offset, NULL);
}

static ssize_t view_read(SnapHandle *handle, void *buf, size_t size,
			 uint64_t offset)
{
	struct view_handle *h = (struct view_handle *)handle;
	const struct snap_view_of *of = of_node(handle->node);
	ssize_t n = read_view(of->view, of->sealed, buf, size, offset,
			      h->exact ? NULL : &h->hint);

	if (h->learner && n > 0)
		snap_learner_note(h->learner, offset, (uint64_t)n);
	return n;
}

static int64_t view_seek(SnapHandle *handle, int64_t offset, int whence)
{
	const struct snap_view_of *of = of_node(handle->node);
	bool hole = whence == SEEK_HOLE;
	uint64_t end, at = (uint64_t)offset;
	int r = snap_view_size(of->view, of->sealed, &end);

	if (r < 0)
		return r;
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (at >= end)
		return -ENXIO;
	if (!of->view->seek)
		return hole ? (int64_t)end : offset;
	r = of->view->seek(of->sealed, at, hole, &at);
	if (r < 0)
		return r;
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
	ViewNode *v = (ViewNode *)node;
	struct view_handle *h;
	uint64_t size;
	int r;

	if ((flags & O_ACCMODE) != O_RDONLY)
		return -EPERM;
	r = snap_view_size(v->of.view, v->of.sealed, &size);
	if (r < 0)
		return r;
	h = snap_handle_new(sizeof(*h), &view_handle_ops, node);
	h->exact = v->of.view->learns && (flags & O_NOATIME);
	if (v->of.view->learns && !h->exact) {
		h->learner = snap_learner_new(&v->hot, caller->pid);
		snap_hot_give(&v->hot);
	}
	*ret_handle = &h->handle;
	return 0;
}

static void view_clear(SnapNode *node)
{
	const struct snap_view_of *of = of_node(node);

	snap_sealed_unref(of->sealed);
	snap_node_unref(of->folder, 1);
}

static const struct snap_node_ops view_ops = {
	.getattr = view_getattr,
	.setattr = view_setattr,
	.open = view_open,
	.clear = view_clear,
};

bool snap_view_of(SnapNode *node, struct snap_view_of *ret_of)
{
	if (node->ops != &view_ops)
		return false;
	*ret_of = *of_node(node);
	return true;
}

/* The key of a view's node: folder, snapshot and view. Only `stream` and
 * `preamble` show the side file. */
static struct snap_node_key node_key(const SnapView *view,
				     const SnapSealed *sealed, SnapNode *folder)
{
	struct snap_node_key key = { .kind = &view_ops };
	struct snap_sealed_key of = sealed->key;

	if (view != &snap_view_stream && view != &snap_view_preamble) {
		of.side_ino = of.side_size = 0;
		of.side_mtime_sec = of.side_mtime_nsec = 0;
	}
	G_STATIC_ASSERT(sizeof(of) <= (SNAP_NODE_WORDS - 3) * 8);
	memcpy(key.words + 3, &of, sizeof(of));
	key.words[0] = view->number;
	key.words[1] = folder->key.words[0];
	key.words[2] = folder->key.words[1];
	return key;
}

SnapNode *snap_view_node(const SnapView *view, SnapSealed *sealed,
			 SnapNode *folder)
{
	ViewNode *v = g_new0(ViewNode, 1);

	v->node.ops = &view_ops;
	v->node.nodes = folder->nodes;
	v->node.key = node_key(view, sealed, folder);
	v->of.view = view;
	v->of.sealed = snap_sealed_ref(sealed);
	v->of.folder = snap_node_ref(folder);
	v->hot.hot = sealed->snapshots->opts.hot;
	v->hot.node = &v->node;
	v->hot.folder_fd = snap_folder_fd(folder);
	v->hot.snapshot_fd = sealed->fd;
	v->hot.ino = snap_view_ino(view, sealed);
	v->hot.ram = &sealed->info.ram;
	v->hot.pages = sealed->pages;
	return snap_node_intern(&v->node);
}
