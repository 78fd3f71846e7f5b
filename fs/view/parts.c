/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `ram` and `devstate` that are written where there is no snapshot: parts of
 * one to be. Until both are whole each is an ordinary file of the store, under
 * the name of the view that it becomes; whoever closes the second one waits for
 * the snapshot (settle.c).
 *
 * One that somebody has open to write, and has not closed since he wrote, is
 * unfinished. A close that is not the last (a shell's, of a descriptor that it
 * has doubled) comes before anything was written.
 */
#include "fs/view/writing-internal.h"

#include <fcntl.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"

struct part_handle {
	struct snap_plain_handle plain;
	bool writes;
	gint wrote;  /* atomic */
	gint closed; /* since; atomic */
	gint taken;  /* a snapshot is made of it; atomic */
};

static SnapPartNode *part_node(SnapNode *node)
{
	return (SnapPartNode *)node;
}

/* ---- the open file ---- */

/* Whether it may be changed; it is not closed then. */
static int begin_change(SnapHandle *handle)
{
	struct part_handle *h = (struct part_handle *)handle;

	/* In this order: who takes the parts looks at `closed` afterwards. */
	g_atomic_int_set(&h->wrote, 1);
	g_atomic_int_set(&h->closed, 0);
	return g_atomic_int_get(&h->taken) ? -EBUSY : 0;
}

static void part_write(SnapHandle *handle, const void *buf, size_t size,
		       uint64_t offset, snap_handle_answer answer, void *data)
{
	int r = begin_change(handle);

	if (r < 0)
		answer(data, r);
	else
		snap_plain_handle_write(handle, buf, size, offset, answer,
					data);
}

static int part_truncate(SnapHandle *handle, uint64_t size)
{
	int r = begin_change(handle);

	return r < 0 ? r : snap_plain_handle_truncate(handle, size);
}

static int part_allocate(SnapHandle *handle, int mode, int64_t offset,
			 int64_t length)
{
	int r = begin_change(handle);

	return r < 0 ? r
		     : snap_plain_handle_allocate(handle, mode, offset, length);
}

static void part_flush(SnapHandle *handle, snap_handle_answer answer,
		       void *data)
{
	struct part_handle *h = (struct part_handle *)handle;
	SnapPartNode *p = part_node(handle->node);

	if (!h->writes || !g_atomic_int_get(&h->wrote)) {
		answer(data, 0);
		return;
	}
	g_atomic_int_set(&h->closed, 1);
	snap_parts_settle(p->folder, p->view, answer, data);
}

static void part_handle_clear(SnapHandle *handle)
{
	struct part_handle *h = (struct part_handle *)handle;

	close(h->plain.fd);
	/* Who had it open and did nothing may have been waited for. */
	if (h->writes && !g_atomic_int_get(&h->closed))
		snap_parts_check(part_node(handle->node)->folder);
}

static const struct snap_handle_ops part_handle_ops = {
	/* Only so does the kernel tell who writes. */
	.mode = SNAP_HANDLE_DIRECT,
	.read = snap_plain_handle_read,
	.write = part_write,
	.flush = part_flush,
	.truncate = part_truncate,
	.sync = snap_plain_handle_sync,
	.seek = snap_plain_handle_seek,
	.allocate = part_allocate,
	.clear = part_handle_clear,
};

SnapHandle *snap_part_handle(SnapNode *node, int fd, bool writes)
{
	struct part_handle *h =
		snap_handle_new(sizeof(*h), &part_handle_ops, node);

	h->plain.fd = fd;
	h->writes = writes;
	return &h->plain.handle;
}

/* The next handle by which a part of the folder may be written, or NULL. */
static struct part_handle *next_writer(GHashTableIter *iter, SnapNode *folder,
				       const struct snap_view *view)
{
	gpointer handle;

	while (g_hash_table_iter_next(iter, &handle, NULL)) {
		struct part_handle *h = handle;
		SnapPartNode *p;

		if (h->plain.handle.ops != &part_handle_ops || !h->writes)
			continue;
		p = part_node(h->plain.handle.node);
		if (p->folder == folder && (!view || p->view == view))
			return h;
	}
	return NULL;
}

bool snap_parts_unfinished(SnapNode *folder, const struct snap_view *view)
{
	SnapTree *tree = folder->tree;
	struct part_handle *h;
	GHashTableIter iter;
	SNAP_LOCKED(&tree->lock);

	g_hash_table_iter_init(&iter, tree->handles);
	while ((h = next_writer(&iter, folder, view)))
		if (!g_atomic_int_get(&h->closed))
			return true;
	return false;
}

void snap_parts_take(SnapNode *folder, bool take)
{
	SnapTree *tree = folder->tree;
	struct part_handle *h;
	GHashTableIter iter;
	SNAP_LOCKED(&tree->lock);

	g_hash_table_iter_init(&iter, tree->handles);
	while ((h = next_writer(&iter, folder, NULL)))
		g_atomic_int_set(&h->taken, take);
}

/* ---- the node ---- */

static int part_open(SnapNode *node, int flags,
		     const struct snap_caller *caller, SnapHandle **ret_handle)
{
	SnapPartNode *p = part_node(node);
	bool writes = (flags & O_ACCMODE) != O_RDONLY;
	int fd = snap_plain_reopen(node, flags);
	struct stat st;

	if (fd < 0)
		return fd;
	*ret_handle = snap_part_handle(node, fd, writes);
	if (!writes)
		return 0;
	/* Whoever looks at the parts sees the handle by now, or is waited for;
	 * then the name may be that of a view. */
	snap_parts_wait(p->folder);
	if (fstat(fd, &st) == 0 && st.st_nlink)
		return 0;
	snap_handle_close(*ret_handle);
	return -ESTALE;
}

static void part_clear(SnapNode *node)
{
	SnapPartNode *p = part_node(node);

	close(p->store.fd);
	snap_node_unref(p->folder, 1);
}

static const struct snap_node_ops part_ops = {
	.getattr = snap_store_getattr,
	.setattr = snap_plain_setattr,
	.open = part_open,
	.clear = part_clear,
};

bool snap_part_stat(SnapNode *folder, const struct snap_view *view,
		    struct stat *ret)
{
	struct stat st;

	if (!view->part || fstatat(snap_store_node(folder)->fd, view->name, &st,
				   AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	if (ret)
		*ret = st;
	return S_ISREG(st.st_mode);
}

int snap_part_lookup(SnapNode *folder, const struct snap_view *view,
		     SnapNode **ret_node)
{
	SnapPartNode *p;
	snap_autofd int fd = -1;
	struct stat st;

	if (!view->part)
		return -ENOENT;
	fd = openat(snap_store_node(folder)->fd, view->name,
		    O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENOENT;
	p = g_new0(SnapPartNode, 1);
	p->store.node.ops = &part_ops;
	p->store.node.tree = folder->tree;
	p->store.node.key.kind = &part_ops;
	p->store.node.key.folder_dev = folder->key.dev;
	p->store.node.key.folder_ino = folder->key.ino;
	p->store.node.key.dev = st.st_dev;
	p->store.node.key.ino = st.st_ino;
	p->store.fd = snap_steal_fd(&fd);
	p->store.type = S_IFREG;
	p->folder = snap_node_ref(folder);
	p->view = view;
	*ret_node = snap_node_intern(&p->store.node);
	return 0;
}
