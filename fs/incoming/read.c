/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stream on its way in, as a process reads it that has it open:
 *
 *	there is an older snapshot	that, until the new one is complete; but
 *					not for who writes the new one
 *	before a byte has come		the head, as a plain file
 *	while the save runs		the read waits
 *	afterwards			the snapshot
 *
 * A stream is not read while it comes: its pages are put in order, and only the
 * snapshot has checksums.
 */
#include "fs/incoming/incoming-internal.h"

#include "format/base/cleanup.h"

/* True while the snapshot that the stream replaces is in the folder. */
static bool has_former_locked(const SnapIncoming *in)
{
	struct stat st;

	return in->former.exists &&
	       snap_head_stat(in->folder, SNAP_CATALOG_SNAPSHOT, &st) &&
	       st.st_dev == in->former.dev && st.st_ino == in->former.ino;
}

enum snap_incoming_read snap_incoming_reads(SnapIncoming *in, bool writes)
{
	SNAP_LOCKED(&in->lock);
	enum snap_save_state save =
		in->save ? snap_save_state(in->save, NULL) : SNAP_SAVE_RUNNING;

	if (in->state == SNAP_INCOMING_REMOVED)
		return SNAP_INCOMING_GONE;
	if (in->former.exists && in->state == SNAP_INCOMING_UNTOUCHED)
		return SNAP_INCOMING_SNAPSHOT;
	if (!writes && (in->save ? in->former.exists : has_former_locked(in)))
		return SNAP_INCOMING_SNAPSHOT;
	if (!in->save)
		return SNAP_INCOMING_BYTES;
	if (save == SNAP_SAVE_RUNNING)
		return SNAP_INCOMING_LATER;
	return save == SNAP_SAVE_DONE ? SNAP_INCOMING_SNAPSHOT
				      : SNAP_INCOMING_LOST;
}

void snap_incoming_note_locked(SnapIncoming *in)
{
	struct snap_former *former = &in->former;
	uint64_t size;
	struct stat st;

	if (in->noted || !in->save ||
	    snap_save_state(in->save, &size) != SNAP_SAVE_DONE)
		return;
	in->noted = true;
	former->size = size;
	former->exists = snap_head_stat(in->folder, SNAP_CATALOG_SNAPSHOT, &st);
	former->dev = former->exists ? st.st_dev : 0;
	former->ino = former->exists ? st.st_ino : 0;
}

bool snap_incoming_has(SnapIncoming *in, uint64_t dev, uint64_t ino)
{
	SNAP_LOCKED(&in->lock);

	snap_incoming_note_locked(in);
	return in->former.dev == dev && in->former.ino == ino;
}

ssize_t snap_incoming_read(SnapIncoming *in, void *buf, size_t size,
			   uint64_t offset)
{
	SNAP_LOCKED(&in->lock);

	return snap_head_read(in, buf, size, offset);
}

bool snap_incoming_await(SnapIncoming *in, struct snap_waiter *waiter)
{
	SNAP_LOCKED(&in->lock);

	if (!in->save || snap_save_over(in->save) ||
	    g_atomic_int_get(&waiter->ended))
		return false;
	g_queue_push_tail_link(&in->readers, &waiter->link);
	waiter->waits = true;
	return true;
}

bool snap_incoming_forget(SnapIncoming *in, struct snap_waiter *waiter)
{
	SNAP_LOCKED(&in->lock);

	g_atomic_int_set(&waiter->ended, 1);
	if (!waiter->waits)
		return false;
	waiter->waits = false;
	g_queue_unlink(&in->readers, &waiter->link);
	return true;
}
