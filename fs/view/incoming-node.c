/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The node of a stream on its way: what is seen of it, and who opens it. */
#include "fs/view/writing-internal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"

static SnapIncoming *incoming(SnapNode *node)
{
	return (SnapIncoming *)node;
}

SnapSealed *snap_incoming_base_locked(SnapIncoming *in)
{
	g_autoptr(SnapSealed) sealed = NULL;

	if (in->save || in->cut || in->hole || in->removed ||
	    snap_sealed_get(in->folder, &sealed) < 0 || sealed->error ||
	    !in->view->present(sealed))
		return NULL;
	return g_steal_pointer(&sealed);
}

/* How large the file is by now. */
static uint64_t size_locked(SnapIncoming *in)
{
	g_autoptr(SnapSealed) base = snap_incoming_base_locked(in);
	uint64_t size = in->hole;

	if (in->save)
		snap_save_state(in->save, &size);
	else if (base && in->view->size(base, &size) < 0)
		size = 0;
	return in->tail ? MIN(size, in->tail) : size;
}

uint64_t snap_incoming_ino(const SnapNode *node)
{
	return node->serial | (uint64_t)1 << 62;
}

static int incoming_getattr(SnapNode *node, SnapHandle *handle,
			    struct snap_attr *ret_attr)
{
	SnapIncoming *in = incoming(node);
	struct stat *st = &ret_attr->st;

	if (fstatat(snap_store_node(in->folder)->fd, "", st, AT_EMPTY_PATH) < 0)
		return -errno;
	g_mutex_lock(&in->lock);
	st->st_size = (off_t)size_locked(in);
	if (in->owner.uid != (uid_t)-1)
		st->st_uid = in->owner.uid;
	if (in->owner.gid != (gid_t)-1)
		st->st_gid = in->owner.gid;
	st->st_mode = S_IFREG | (in->owner.mode & 0777);
	g_mutex_unlock(&in->lock);
	st->st_blocks = 0;
	st->st_nlink = 1;
	st->st_ino = snap_incoming_ino(node);
	st->st_atim = st->st_mtim = st->st_ctim = in->began;
	return 0;
}

/* Before the first byte it is remembered; on a snapshot that is done it is
 * done to its file; between the two there is no file yet. */
static int incoming_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
			    const struct stat *st)
{
	SnapIncoming *in = incoming(node);
	snap_autofd int fd = -1;
	bool over;

	if (set & SNAP_SET_SIZE) {
		int r = snap_incoming_cut(in, (uint64_t)st->st_size);

		if (r < 0)
			return r;
	}
	g_mutex_lock(&in->lock);
	over = in->save && snap_save_over(in->save);
	if (set & SNAP_SET_MODE)
		in->owner.mode = st->st_mode & 07777;
	if ((set & SNAP_SET_UID) && node->tree->privileged)
		in->owner.uid = st->st_uid;
	if ((set & SNAP_SET_GID) && node->tree->privileged)
		in->owner.gid = st->st_gid;
	g_mutex_unlock(&in->lock);
	if (!over)
		return 0;
	fd = openat(snap_store_node(in->folder)->fd, SNAP_CATALOG_SNAPSHOT,
		    O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : snap_store_setattr(fd, set, st);
}

static int incoming_open(SnapNode *node, int flags,
			 const struct snap_caller *caller,
			 SnapHandle **ret_handle)
{
	SnapIncoming *in = incoming(node);

	snap_ticket_find(in->folder, caller->pid, true);
	if ((flags & O_ACCMODE) == O_RDONLY)
		return -EBUSY;
	*ret_handle = snap_writers_open(in->folder, in->view, &in->owner, node);
	return 0;
}

static void incoming_clear(SnapNode *node)
{
	SnapIncoming *in = incoming(node);

	snap_writers_drop(in);
	if (in->save)
		snap_save_unref(in->save);
	snap_node_unref(in->folder, 1);
	g_mutex_clear(&in->lock);
}

const struct snap_node_ops snap_incoming_ops = {
	.getattr = incoming_getattr,
	.setattr = incoming_setattr,
	.open = incoming_open,
	.clear = incoming_clear,
};

SnapIncoming *snap_incoming_new(SnapNode *folder, const struct snap_view *view,
				const struct snap_catalog_owner *owner)
{
	SnapIncoming *in = g_new0(SnapIncoming, 1);
	static uint64_t number;

	in->node.ops = &snap_incoming_ops;
	in->node.tree = folder->tree;
	in->node.key.kind = &snap_incoming_ops;
	in->node.key.extra = __atomic_add_fetch(&number, 1, __ATOMIC_RELAXED);
	g_mutex_init(&in->lock);
	in->folder = snap_node_ref(folder);
	in->view = view;
	in->owner = *owner;
	if (!folder->tree->privileged) {
		in->owner.uid = (uid_t)-1;
		in->owner.gid = (gid_t)-1;
	}
	clock_gettime(CLOCK_REALTIME, &in->began);
	snap_node_intern(&in->node);
	return in;
}
