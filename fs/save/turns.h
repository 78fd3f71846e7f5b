/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saves into one folder publish their snapshots one after the other, and none
 * begins while one that has timed out is still at work there: when the store
 * answers it again, it may put the older snapshot back, or the new one in its
 * place. Inside fs/save.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* The saves that run. */
typedef struct SnapTurns SnapTurns;

/* One of them. */
typedef struct SnapTurn SnapTurn;

/* No saves. */
SnapTurns *snap_turns_new(void);
/* None may be left. */
void snap_turns_free(SnapTurns *turns);

/* A save into a folder begins: 0; -EBUSY where one that has timed out is still
 * at work there; -errno. */
int snap_turn_begin(SnapTurns *turns, int folder_fd, SnapTurn **ret_turn,
		    GError **error);
/* It is over, and will not change the folder any more. NULL is fine. */
void snap_turn_end(SnapTurn *turn);

/* It has timed out. Does not wait. */
void snap_turn_late(SnapTurn *turn);

/* It is about to publish its snapshot: waits for other saves that do so in its
 * folder. False when it has timed out; it may not publish then. */
bool snap_turn_take(SnapTurn *turn);
