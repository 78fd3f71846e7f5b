/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The node of a stream on its way: what the folder shows of it. */
#include "fs/incoming/incoming-internal.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/log.h"

static const struct snap_node_ops incoming_ops;

SnapIncoming *snap_incoming_of(SnapNode *node)
{
	return node->ops == &incoming_ops ? (SnapIncoming *)node : NULL;
}

SnapNode *snap_incoming_node(SnapIncoming *in)
{
	return &in->node;
}

SnapNode *snap_incoming_folder(const SnapIncoming *in)
{
	return in->folder;
}

struct snap_former snap_incoming_former(SnapIncoming *in)
{
	SNAP_LOCKED(&in->lock);

	return in->former;
}

uint64_t snap_incoming_ino(const SnapIncoming *in)
{
	return in->head.ino ? in->head.ino
			    : in->node.number | (uint64_t)1 << 62;
}

int snap_incoming_refuse_locked(SnapIncoming *in, int code, const char *why)
{
	g_autofree char *path = NULL;

	if (in->refused)
		return -code;
	in->refused = true;
	path = snap_folder_path(in->folder, snap_incoming_name(in));
	snap_log(SNAP_LOG_WARNING, "%s: %s", path, why);
	return -code;
}

int snap_incoming_refuse(SnapIncoming *in, int code, const char *why)
{
	SNAP_LOCKED(&in->lock);

	return snap_incoming_refuse_locked(in, code, why);
}

/* ---- the node ---- */

/* Bytes of the file by now. */
static uint64_t size_locked(const SnapIncoming *in)
{
	uint64_t size = in->head.size;

	if (in->save)
		snap_save_state(in->save, &size);
	else if (in->state == SNAP_INCOMING_UNTOUCHED && in->former.exists)
		size = in->former.size;
	return in->tail ? MIN(size, in->tail) : size;
}

static int incoming_getattr(SnapNode *node, SnapHandle *handle,
			    struct snap_attr *ret_attr)
{
	SnapIncoming *in = (SnapIncoming *)node;
	struct stat *st = &ret_attr->st;
	int r = snap_store_getattr(in->folder, NULL, ret_attr);
	SNAP_LOCKED(&in->lock);

	if (r < 0)
		return r;
	st->st_size = (off_t)size_locked(in);
	if (in->former.owner.uid != (uid_t)-1)
		st->st_uid = in->former.owner.uid;
	if (in->former.owner.gid != (gid_t)-1)
		st->st_gid = in->former.owner.gid;
	st->st_mode = S_IFREG | (in->former.owner.mode & 0777);
	st->st_blocks = 0;
	st->st_nlink = 1;
	st->st_ino = snap_incoming_ino(in);
	st->st_atim = st->st_mtim = st->st_ctim = in->began;
	return 0;
}

int snap_incoming_set_file(SnapNode *folder, const char *name, uid_t owner,
			   unsigned set, const struct stat *st)
{
	snap_autofd int at = snap_store_open(folder);
	snap_autofd int fd = at < 0 ? at : snap_open_below(at, name, O_PATH, 0);
	struct stat now;

	if (fd < 0)
		return fd;
	if (fstat(fd, &now) < 0)
		return -errno;
	if (owner != (uid_t)-1 && now.st_uid != owner)
		return -ESTALE;
	return snap_store_setattr(fd, set, st);
}

/* Notes owner and mode for a save that begins later, and changes the file of
 * the head, or the snapshot's when the save is over. */
static int incoming_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
			    const struct stat *st)
{
	SnapIncoming *in = (SnapIncoming *)node;
	bool privileged = snap_plain_privileged(in->table->opts.plain);
	uid_t owner;
	bool over;
	int r;

	g_mutex_lock(&in->lock);
	owner = privileged ? in->former.owner.uid : (uid_t)-1;
	over = snap_incoming_over_locked(in);
	if ((set & SNAP_SET_SIZE) && !over) {
		g_mutex_unlock(&in->lock);
		return -EBUSY;
	}
	if (set & SNAP_SET_MODE)
		in->former.owner.mode = st->st_mode & 07777;
	if ((set & SNAP_SET_UID) && privileged)
		in->former.owner.uid = st->st_uid;
	if ((set & SNAP_SET_GID) && privileged)
		in->former.owner.gid = st->st_gid;
	g_mutex_unlock(&in->lock);
	if (over)
		return snap_incoming_set_file(in->folder, SNAP_CATALOG_SNAPSHOT,
					      owner, set, st);
	r = snap_incoming_set_file(in->folder, snap_incoming_name(in), owner,
				   set, st);
	return r == -ENOENT ? 0 : r;
}

static SnapNode *incoming_clear(SnapNode *node)
{
	SnapIncoming *in = (SnapIncoming *)node;

	snap_incoming_drop(in);
	snap_head_close(&in->head);
	if (in->save)
		snap_save_unref(in->save);
	g_mutex_clear(&in->lock);
	return in->folder;
}

static const struct snap_node_ops incoming_ops = {
	.getattr = incoming_getattr,
	.setattr = incoming_setattr,
	.clear = incoming_clear,
};

void snap_incoming_renew_locked(SnapIncoming *in,
				const struct snap_former *former)
{
	in->former = *former;
	if (!snap_plain_privileged(in->table->opts.plain)) {
		in->former.owner.uid = (uid_t)-1;
		in->former.owner.gid = (gid_t)-1;
	}
	snap_head_take(in);
}

SnapIncoming *snap_incoming_new(SnapIncomingTable *table, SnapNode *folder,
				guint name, const struct snap_former *former)
{
	SnapIncoming *in = g_new0(SnapIncoming, 1);
	static uint64_t number; /* atomic */

	in->node.ops = &incoming_ops;
	in->node.nodes = folder->nodes;
	in->node.key.kind = &incoming_ops;
	in->node.key.words[0] =
		__atomic_add_fetch(&number, 1, __ATOMIC_RELAXED);
	g_mutex_init(&in->lock);
	in->table = table;
	in->folder = snap_node_ref(folder);
	in->name = name;
	in->head.fd = -1;
	in->era = 1;
	snap_incoming_renew_locked(in, former);
	clock_gettime(CLOCK_REALTIME, &in->began);
	snap_node_intern(&in->node);
	return in;
}
