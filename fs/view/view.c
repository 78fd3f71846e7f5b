/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node of a view: what all views have in common.
 *
 * The bytes of a view never change, so the kernel may keep them for ever; a new
 * snapshot in the same folder is another node. An open file holds the snapshot;
 * the node does not. Owner, mode and times are those
 * of the snapshot's file. `ram` shows all of the file's blocks on disk, or
 * `stream` where there is no `ram`. Every other view shows one block: programs
 * take a file without blocks for a hole.
 */
#include "fs/view/view-internal.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"

/* A node holds no snapshot: the kernel may know any number of them. It
 * remembers which one it is for. */
typedef struct {
	SnapNode node;
	SnapSnapshots *snapshots;
	const SnapView *view;
	SnapNode *folder; /* a reference */
	struct snap_sealed_key made_of;
	struct snap_sealed_key key; /* as remembered() */
	uint64_t ino;
	uint64_t size;	   /* 0 for damage */
	bool shows_blocks; /* the blocks on disk */
	struct snap_hot_state hot;
} ViewNode;

struct view_handle {
	SnapHandle handle;
	SnapSealed *sealed; /* a reference */
	struct snap_pages_hint hint;
	bool exact; /* read no extents but those asked for */
	struct snap_hot_file hot;
	SnapLearner *learner; /* may be NULL */
};

static const struct snap_handle_ops view_handle_ops;

int snap_view_size(const SnapView *view, SnapSealed *sealed, uint64_t *ret_size)
{
	*ret_size = 0;
	return sealed->error ? sealed->error : view->size(sealed, ret_size);
}

static uint64_t hash_in(uint64_t hash, uint64_t value)
{
	return (hash ^ value) * 1099511628211u; /* FNV-1a, a word at a time */
}

uint64_t snap_view_ino(const SnapView *view, const SnapSealed *sealed)
{
	const struct snap_meta *meta = snap_sealed_meta(sealed);
	uint64_t hash = 14695981039346656037u;

	for (guint i = 0; meta && i < sizeof(meta->uuid); i++)
		hash = hash_in(hash, meta->uuid[i]);
	hash = hash_in(hash, sealed->key.folder_ino);
	hash = hash_in(hash, sealed->key.ino);
	hash = hash_in(hash, sealed->elsewhere);
	hash = hash_in(hash, view->number);
	/* The store's own numbers rarely have the upper bit. */
	return hash | (uint64_t)1 << 63;
}

/* True for the view that shows the blocks on disk. */
static bool shows_blocks(const SnapView *view, const SnapSealed *sealed)
{
	if (sealed->error)
		return false;
	return view == (snap_view_ram.present(sealed) ? &snap_view_ram
						      : &snap_view_stream);
}

/* What a node remembers of a snapshot. Only `stream` and `preamble` show the
 * side file: the others stay the same when it is replaced. */
static struct snap_sealed_key remembered(const SnapView *view,
					 const struct snap_sealed_key *key)
{
	struct snap_sealed_key of = *key;

	if (view != &snap_view_stream && view != &snap_view_preamble) {
		of.side_ino = of.side_size = 0;
		of.side_mtime_sec = of.side_mtime_nsec = 0;
	}
	return of;
}

/* The snapshot in the folder, if it is the one that the node is for; or that
 * one, if it is still open: a process that has just looked the name up gets
 * what it saw. */
static int find_sealed(ViewNode *v, SnapSealed **ret_sealed)
{
	struct snap_sealed_key now, of;
	int r = snap_sealed_look(v->folder, &now);

	if (r == 0) {
		of = remembered(v->view, &now);
		if (!memcmp(&of, &v->key, sizeof(of)))
			return snap_sealed_find(v->snapshots, v->folder, &now,
						ret_sealed);
	}
	*ret_sealed = snap_sealed_known(v->snapshots, &v->made_of);
	if (*ret_sealed)
		return 0;
	return r == 0 || r == -ENOENT ? -ESTALE : r;
}

int snap_view_sealed(SnapNode *node, SnapSealed **ret_sealed)
{
	SnapHandle *handle = snap_node_handle(node, &view_handle_ops);

	if (!handle)
		return find_sealed((ViewNode *)node, ret_sealed);
	*ret_sealed = snap_sealed_ref(((struct view_handle *)handle)->sealed);
	snap_handle_unref(handle);
	return 0;
}

/* The attributes of the snapshot's file. */
static int stat_file(SnapNode *node, struct stat *ret)
{
	ViewNode *v = (ViewNode *)node;
	snap_autofd int at = snap_store_open(v->folder);
	g_autoptr(SnapSealed) sealed = NULL;
	int r;

	/* It need not be opened for that. */
	if (fstatat(at, SNAP_CATALOG_SNAPSHOT, ret, AT_SYMLINK_NOFOLLOW) == 0 &&
	    ret->st_dev == v->key.dev && ret->st_ino == v->key.ino &&
	    (uint64_t)ret->st_size == v->key.size)
		return 0;
	r = snap_view_sealed(node, &sealed);
	return r < 0 ? r : snap_sealed_stat(sealed, ret);
}

static int view_getattr(SnapNode *node, SnapHandle *handle,
			struct snap_attr *ret_attr)
{
	ViewNode *v = (ViewNode *)node;
	int r = stat_file(node, &ret_attr->st);

	if (r < 0)
		return r;
	if (!v->shows_blocks)
		ret_attr->st.st_blocks = 1;
	ret_attr->st.st_ino = v->ino;
	/* A damaged snapshot is an empty file, so that it can be removed. */
	ret_attr->st.st_size = (off_t)v->size;
	ret_attr->st.st_nlink = 1;
	ret_attr->st.st_mode = S_IFREG | (ret_attr->st.st_mode & 0777);
	ret_attr->sealed = true;
	return 0;
}

static int view_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
			const struct stat *st)
{
	g_autoptr(SnapSealed) sealed = NULL;
	ViewNode *v = (ViewNode *)node;
	int r;

	if ((set & SNAP_SET_SIZE) && (uint64_t)st->st_size != v->size)
		return -EPERM;
	r = snap_view_sealed(node, &sealed);
	return r < 0 ? r : snap_store_setattr(sealed->fd, set, st);
}

/* Gives up to `size` bytes: their count, -errno. */
static ssize_t give_view(const SnapView *view, SnapSealed *sealed, SnapVec *vec,
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
	r = view->give(sealed, vec, size, offset, hint);
	return r < 0 ? r : (ssize_t)size;
}

ssize_t snap_view_read(const SnapView *view, SnapSealed *sealed, void *buf,
		       size_t size, uint64_t offset)
{
	g_autoptr(SnapVec) vec = snap_vec_new();
	ssize_t n;

	snap_vec_begin(vec, size);
	n = give_view(view, sealed, vec, size, offset, NULL);
	if (n > 0)
		snap_vec_copy_out(vec, buf);
	return n;
}

static ssize_t view_give(SnapHandle *handle, SnapVec *vec, size_t size,
			 uint64_t offset)
{
	struct view_handle *h = (struct view_handle *)handle;
	ViewNode *v = (ViewNode *)handle->node;
	ssize_t n = give_view(v->view, h->sealed, vec, size, offset,
			      h->exact ? NULL : &h->hint);

	if (h->learner && n > 0)
		snap_learner_note(h->learner, offset, (uint64_t)n);
	return n;
}

static int64_t view_seek(SnapHandle *handle, int64_t offset, int whence)
{
	SnapSealed *sealed = ((struct view_handle *)handle)->sealed;
	const SnapView *view = ((ViewNode *)handle->node)->view;
	bool hole = whence == SEEK_HOLE;
	uint64_t end, at = (uint64_t)offset;
	int r = snap_view_size(view, sealed, &end);

	if (r < 0)
		return r;
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (at >= end)
		return -ENXIO;
	if (!view->seek)
		return hole ? (int64_t)end : offset;
	r = view->seek(sealed, at, hole, &at);
	if (r < 0)
		return r;
	if (at >= end && !hole)
		return -ENXIO;
	return (int64_t)MIN(at, end);
}

static void view_handle_clear(SnapHandle *handle)
{
	struct view_handle *h = (struct view_handle *)handle;

	snap_learner_free(h->learner);
	snap_sealed_unref(h->sealed);
}

static const struct snap_handle_ops view_handle_ops = {
	.mode = SNAP_HANDLE_KEPT,
	.give = view_give,
	.seek = view_seek,
	.clear = view_handle_clear,
};

/* Learns from the process that has opened the file, and gives the kernel what
 * was learnt before. */
static void learn(struct view_handle *h, pid_t thread)
{
	ViewNode *v = (ViewNode *)h->handle.node;

	h->hot = (struct snap_hot_file){
		.hot = v->snapshots->opts.hot,
		.node = &v->node,
		.state = &v->hot,
		.folder = v->folder,
		.snapshot_fd = h->sealed->fd,
		.ino = v->ino,
		.ram = &h->sealed->info.ram,
		.pages = h->sealed->pages,
	};
	h->learner = snap_learner_new(&h->hot, thread);
	snap_hot_give(&h->hot);
}

/* Opens the snapshot of a view whose size can be told. */
static int open_sealed(SnapNode *node, SnapSealed **ret_sealed)
{
	ViewNode *v = (ViewNode *)node;
	SnapPlain *plain = snap_store_node(v->folder)->plain;
	g_autoptr(SnapSealed) sealed = NULL;
	uint64_t size;
	int r = snap_view_sealed(node, &sealed);

	if (r == 0)
		r = snap_view_size(v->view, sealed, &size);
	if (r == 0 && !snap_plain_fd_fits(plain, sealed->fd))
		r = -ENFILE;
	if (r < 0)
		return r;
	*ret_sealed = g_steal_pointer(&sealed);
	return 0;
}

static int view_open(SnapNode *node, int flags,
		     const struct snap_caller *caller, SnapHandle **ret_handle)
{
	const SnapView *view = ((ViewNode *)node)->view;
	struct view_handle *h;
	SnapSealed *sealed = NULL;
	int r;

	if ((flags & O_ACCMODE) != O_RDONLY)
		return -EPERM;
	r = open_sealed(node, &sealed);
	if (r < 0)
		return r;
	h = snap_handle_new(sizeof(*h), &view_handle_ops, node);
	h->sealed = sealed;
	h->exact = view->learns && (flags & O_NOATIME);
	if (view->learns && !h->exact)
		learn(h, caller->pid);
	*ret_handle = &h->handle;
	return 0;
}

static SnapNode *view_clear(SnapNode *node)
{
	return ((ViewNode *)node)->folder;
}

static const struct snap_node_ops view_ops = {
	.getattr = view_getattr,
	.setattr = view_setattr,
	.open = view_open,
	.clear = view_clear,
};

bool snap_view_of(SnapNode *node, struct snap_view_of *ret_of)
{
	ViewNode *v = (ViewNode *)node;

	if (node->ops != &view_ops)
		return false;
	*ret_of = (struct snap_view_of){ v->view, v->folder };
	return true;
}

int snap_view_node(const SnapView *view, SnapSealed *sealed, SnapNode *folder,
		   SnapNode **ret_node)
{
	ViewNode *v;
	uint64_t size;
	int r = snap_view_size(view, sealed, &size);

	if (r < 0 && !snap_is_damage(r))
		return r;
	v = g_new0(ViewNode, 1);
	v->node.ops = &view_ops;
	v->node.nodes = folder->nodes;
	v->made_of = sealed->key;
	v->key = remembered(view, &sealed->key);
	v->node.key.kind = &view_ops;
	/* What could not be read is another file than it is once it can. */
	v->node.key.words[0] = view->number * 2 + (sealed->error != 0);
	v->node.key.words[1] = snap_node_number(folder);
	G_STATIC_ASSERT(sizeof(v->key) <= (SNAP_NODE_WORDS - 2) * 8);
	memcpy(v->node.key.words + 2, &v->key, sizeof(v->key));
	v->snapshots = sealed->snapshots;
	v->view = view;
	v->folder = snap_node_ref(folder);
	v->ino = snap_view_ino(view, sealed);
	v->size = size;
	v->shows_blocks = shows_blocks(view, sealed);
	*ret_node = snap_node_intern(&v->node);
	return 0;
}
