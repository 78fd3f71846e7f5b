/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Things that are kept open for a while after their last use, so that the next
 * use costs little: but only so many, and only for some seconds, for each has a
 * descriptor, and the space of a file that was removed is not free while it is
 * open.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* The things of one kind that are kept. */
typedef struct SnapIdle SnapIdle;

struct snap_idle_opts {
	GMutex *lock; /* the caller's; protects the places of the things */
	guint most;   /* things that are kept */
	/* The thing is not kept any longer: returns what is to be closed. With
	 * the lock held. */
	void *(*part)(void *thing);
	/* Closes that, which may take long. Without the lock. */
	void (*close)(void *what);
};

/* A thing embeds this, zeroed at first. */
struct snap_idle_place {
	GList link;
	gint64 since;
	bool kept;
};

/* Nothing is kept yet. Makes a thread. */
SnapIdle *snap_idle_new(const struct snap_idle_opts *opts);
/* Closes what is kept, and ends the thread. */
void snap_idle_free(SnapIdle *idle);

/* The thing was used just now. The lock is held; after releasing it, the caller
 * calls snap_idle_trim(). */
void snap_idle_keep(SnapIdle *idle, struct snap_idle_place *place, void *thing);

/* Takes the thing out, if it is kept. The lock is held. */
void snap_idle_take(SnapIdle *idle, struct snap_idle_place *place);

/* Closes the oldest things while there are too many. Without the lock. */
void snap_idle_trim(SnapIdle *idle);
