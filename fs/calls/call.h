/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What waits for the store, and since when.
 *
 * The store may lie on a file system that stops answering for a while: a
 * cluster, a server. Then a call of ours does not return. Whoever makes such a
 * call says so before and after. One thread looks at what is under way each
 * second, logs what is waited for when that has lasted for some seconds, and
 * logs that it goes on. While nothing is under way, it sleeps.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

struct snap_call;

struct snap_call_ops {
	/* What is waited for, as "read of vm1/ram"; g_free. *ret_held is what
	 * `let_go` is called with then, without the lock; NULL: nothing. */
	char *(*name)(const struct snap_call *call, void **ret_held);
	void (*let_go)(void *held);
	/* It has lasted for a second or more; called each second. May be
	 * NULL. */
	void (*look)(struct snap_call *call);
};

/* Something that is under way. `name` and `look` are called with the lock
 * of this room held: they begin and end no call, and touch no file of the
 * store. */
struct snap_call {
	const struct snap_call_ops *ops;
	const char *what; /* with ops NULL: "what of path" */
	const char *path;
	/* the rest is this room's */
	GList link;
	gint64 since;
	gint quiet; /* atomic */
};

/* It begins, and ends, in any thread. */
void snap_call_begin(struct snap_call *call);
void snap_call_end(struct snap_call *call);

/* What the calling thread has begun last goes on, and the store has just
 * answered a part of it: as if it had ended and begun again. */
void snap_call_go_on(void);

/* It goes on, but it is not for the store that it waits: the log does not name
 * it. Takes no lock. */
void snap_call_hush(struct snap_call *call);

/* The same for what the calling thread has begun last. */
void snap_call_hush_mine(void);

/* Starts and stops the thread. Without it, nothing is looked at. */
void snap_calls_start(void);
void snap_calls_stop(void);

/* For how many seconds the oldest call of the store has been under way; 0: none
 * is, or not for long. */
guint snap_calls_seconds(void);

/* A save begins and ends, in any thread. Its writer may have been told that all
 * went well before the snapshot has its name. */
void snap_calls_save_begin(void);
void snap_calls_save_end(void);

/* Until when the end of a mount, which began at `begun`, waits for the store if
 * that goes on not to answer; monotonic time. While a save runs, that is much
 * later: a store that is only slow must not cost a snapshot. */
gint64 snap_calls_until(gint64 begun);
