/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A user may have half of the slots that other users leave. So whoever begins
 * saves and lets them stand, others can still save, and the next user too, with
 * a smaller half. Root and the owner of the mount may have all of them.
 */
#include "fs/save/slots.h"

#include <errno.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"

/* The memory of a running save besides its jobs: the map, and the
 * buffers of the file in format/store. */
#define SAVE_MEMORY (2 * SNAP_MIB)
/* When the buffer has no memory left for that, so many more saves are admitted
 * with a small map that spills early. Their memory is small enough to
 * ignore. */
#define LEAN_SAVES 16

struct SnapSlots {
	SnapPool *pool;
	guint all;
	GMutex lock;	   /* protects all below */
	guint taken;	   /* slots */
	guint lean;	   /* those with little memory */
	GHashTable *users; /* how many of them each user has */
};

SnapSlots *snap_slots_new(SnapPool *pool, uint64_t buffer)
{
	SnapSlots *slots = g_new0(SnapSlots, 1);

	slots->pool = pool;
	/* snap_pool_reserve(): three quarters of the buffer. */
	slots->all = (guint)MIN(buffer / 4 * 3 / SAVE_MEMORY, G_MAXINT32) +
		     LEAN_SAVES;
	slots->users = g_hash_table_new(NULL, NULL);
	g_mutex_init(&slots->lock);
	return slots;
}

void snap_slots_free(SnapSlots *slots)
{
	g_hash_table_destroy(slots->users);
	g_mutex_clear(&slots->lock);
	g_free(slots);
}

static guint of_user_locked(const SnapSlots *slots, uid_t uid)
{
	return GPOINTER_TO_UINT(
		g_hash_table_lookup(slots->users, GUINT_TO_POINTER(uid)));
}

static void set_user_locked(SnapSlots *slots, uid_t uid, guint n)
{
	if (n)
		g_hash_table_replace(slots->users, GUINT_TO_POINTER(uid),
				     GUINT_TO_POINTER(n));
	else
		g_hash_table_remove(slots->users, GUINT_TO_POINTER(uid));
}

/* The most slots that a user may have now. */
static guint share_locked(const SnapSlots *slots, uid_t uid)
{
	guint others = slots->taken - of_user_locked(slots, uid);

	if (uid == 0 || uid == geteuid())
		return slots->all;
	return (slots->all - MIN(others, slots->all)) / 2;
}

int snap_slots_take(SnapSlots *slots, uid_t uid, bool *ret_lean, GError **error)
{
	SNAP_LOCKED(&slots->lock);
	guint has = of_user_locked(slots, uid);
	guint share = share_locked(slots, uid);
	bool lean;

	if (has >= share && share < slots->all)
		return snap_fail(error, EBUSY,
				 "user %u has %u saves under way, of %u that "
				 "-o buffer= has memory for; one user may have "
				 "half of what others leave",
				 (unsigned)uid, has, slots->all);
	lean = !snap_pool_reserve(slots->pool, SAVE_MEMORY);
	if (lean && slots->lean == LEAN_SAVES)
		return snap_fail(error, EBUSY,
				 "-o buffer= has no memory for one more save");
	slots->lean += lean;
	slots->taken++;
	set_user_locked(slots, uid, has + 1);
	*ret_lean = lean;
	return 0;
}

void snap_slots_give(SnapSlots *slots, uid_t uid, bool lean)
{
	SNAP_LOCKED(&slots->lock);

	if (!lean)
		snap_pool_unreserve(slots->pool, SAVE_MEMORY);
	slots->lean -= lean;
	slots->taken--;
	set_user_locked(slots, uid, of_user_locked(slots, uid) - 1);
}
