/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A new writer joins the stream that is on its way, or begins one. */
#include "fs/incoming/incoming-internal.h"

#include "format/base/cleanup.h"

/* True where the head still is the file in the folder. The number of a file
 * that was removed may be another user's. */
static bool has_head_locked(SnapIncoming *in)
{
	const struct stat *st = &in->head.st;
	struct stat now;

	if (!snap_head_stat(in->folder, snap_incoming_name(in), &now))
		return !st->st_ino;
	return now.st_ino == st->st_ino && now.st_dev == st->st_dev &&
	       now.st_uid == st->st_uid;
}

/* True while a new writer may join the stream. The first one after a while
 * finds the folder as it is now; a process that has the stream open still does
 * not get what others put there. */
static bool is_open(SnapIncoming *in, const struct snap_former *former)
{
	SNAP_LOCKED(&in->lock);

	if (in->state == SNAP_INCOMING_UNTOUCHED && !in->writers) {
		if (!has_head_locked(in) ||
		    in->former.exists != former->exists ||
		    in->former.dev != former->dev ||
		    in->former.ino != former->ino)
			return false;
		snap_incoming_renew_locked(in, former);
	}
	return in->state < SNAP_INCOMING_ENDED &&
	       !snap_incoming_over_locked(in);
}

SnapIncoming *snap_incoming_join(SnapIncomingTable *table, SnapNode *folder,
				 const char *name,
				 const struct snap_former *former)
{
	guint number = (guint)snap_incoming_number(name);

	for (;;) {
		SnapIncoming *in = snap_incoming_lookup(table, folder, number);

		if (in && is_open(in, former))
			return in;
		if (in) {
			snap_incoming_drop(in);
			snap_node_unref(&in->node, 1);
		}
		in = snap_incoming_new(table, folder, number, former);
		if (snap_incoming_put_first(in))
			return in;
		snap_node_unref(&in->node, 1);
	}
}
