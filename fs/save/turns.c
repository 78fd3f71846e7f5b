/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/save/turns.h"

#include <errno.h>
#include <sys/stat.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"

struct SnapTurns {
	GMutex lock; /* protects all below, and `late` and `taken` of turns */
	GCond changed;
	GQueue running;
};

struct SnapTurn {
	GList link;
	SnapTurns *turns;
	dev_t dev; /* of the folder */
	ino_t ino;
	bool late;
	bool taken; /* it may have published */
};

SnapTurns *snap_turns_new(void)
{
	SnapTurns *turns = g_new0(SnapTurns, 1);

	g_mutex_init(&turns->lock);
	g_cond_init(&turns->changed);
	return turns;
}

void snap_turns_free(SnapTurns *turns)
{
	g_assert(!turns->running.head);
	g_cond_clear(&turns->changed);
	g_mutex_clear(&turns->lock);
	g_free(turns);
}

/* True when a save into that folder is late (`late`), or publishes. */
static bool find_locked(SnapTurns *turns, const struct stat *folder, bool late)
{
	for (GList *l = turns->running.head; l; l = l->next) {
		const SnapTurn *t = l->data;

		if (t->dev == folder->st_dev && t->ino == folder->st_ino &&
		    (late ? t->late : t->taken))
			return true;
	}
	return false;
}

int snap_turn_begin(SnapTurns *turns, int folder_fd, SnapTurn **ret_turn,
		    GError **error)
{
	struct stat st;
	SnapTurn *turn;

	if (fstat(folder_fd, &st) < 0)
		return snap_fail_errno(error, errno, "its folder");
	SNAP_LOCKED(&turns->lock);
	if (find_locked(turns, &st, true))
		return snap_fail(error, EBUSY,
				 "a save into the folder has timed out, and "
				 "still waits for the store; until that "
				 "answers it, none can begin");
	turn = g_new0(SnapTurn, 1);
	turn->link.data = turn;
	turn->turns = turns;
	turn->dev = st.st_dev;
	turn->ino = st.st_ino;
	g_queue_push_tail_link(&turns->running, &turn->link);
	*ret_turn = turn;
	return 0;
}

void snap_turn_end(SnapTurn *turn)
{
	SnapTurns *turns;

	if (!turn)
		return;
	turns = turn->turns;
	g_mutex_lock(&turns->lock);
	g_queue_unlink(&turns->running, &turn->link);
	g_cond_broadcast(&turns->changed);
	g_mutex_unlock(&turns->lock);
	g_free(turn);
}

void snap_turn_late(SnapTurn *turn)
{
	SNAP_LOCKED(&turn->turns->lock);

	turn->late = true;
	g_cond_broadcast(&turn->turns->changed);
}

bool snap_turn_take(SnapTurn *turn)
{
	SnapTurns *turns = turn->turns;
	const struct stat folder = { .st_dev = turn->dev, .st_ino = turn->ino };
	SNAP_LOCKED(&turns->lock);

	while (!turn->late && find_locked(turns, &folder, false))
		g_cond_wait(&turns->changed, &turns->lock);
	turn->taken = !turn->late;
	return turn->taken;
}
