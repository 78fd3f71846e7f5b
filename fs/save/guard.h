/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * No writer waits longer than it was told: a thread looks at the saves that
 * run, and ends those whose writer waits for too long. Inside fs/save.
 *
 * The save's own thread cannot do that: it is the one that waits for the store.
 */
#pragma once

#include "fs/save/intake.h"

typedef struct SnapGuard SnapGuard;

/* A save's place in the guard. */
struct snap_guarded {
	GList link;
	SnapIntake *intake; /* borrowed, as the rest */
	/* Its writer waits for too long. Called once, without a lock; it may
	 * not wait for the store. */
	void (*late)(void *data);
	void *data;
	bool done;
};

/* A guard that lets writers wait for so many seconds; 0: for ever. */
SnapGuard *snap_guard_new(guint seconds);
/* No save may be left in it. */
void snap_guard_free(SnapGuard *guard);

/* A save begins. */
void snap_guard_add(SnapGuard *guard, struct snap_guarded *g);
/* It is over: `late` is not called any more, nor running. */
void snap_guard_remove(SnapGuard *guard, struct snap_guarded *g);
