/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/save/guard.h"

#include "format/base/cleanup.h"

/* How often the thread looks while saves run. */
#define LOOK_US (G_USEC_PER_SEC / 4)

struct SnapGuard {
	gint64 patience; /* microseconds; 0: no end */
	GThread *thread; /* NULL: none is needed */
	GMutex lock;	 /* protects all below, and `done` of the places */
	GCond changed;
	GQueue saves;
	struct snap_guarded *calls; /* whose function runs now */
	bool ending;
};

/* A save whose writer has waited for too long, or NULL. */
static struct snap_guarded *late_locked(SnapGuard *guard, gint64 now)
{
	for (GList *l = guard->saves.head; l; l = l->next) {
		struct snap_guarded *g = l->data;
		gint64 since = g->done ? 0 : snap_intake_waits_since(g->intake);

		if (since && now - since >= guard->patience)
			return g;
	}
	return NULL;
}

/* Ends a save. The lock is released meanwhile. */
static void end_locked(SnapGuard *guard, struct snap_guarded *g)
{
	g->done = true;
	guard->calls = g;
	g_mutex_unlock(&guard->lock);
	g->late(g->data);
	g_mutex_lock(&guard->lock);
	guard->calls = NULL;
	g_cond_broadcast(&guard->changed);
}

static gpointer guard_thread(gpointer data)
{
	SnapGuard *guard = data;
	SNAP_LOCKED(&guard->lock);

	while (!guard->ending) {
		gint64 now = g_get_monotonic_time();
		struct snap_guarded *g = late_locked(guard, now);

		if (g)
			end_locked(guard, g);
		else if (guard->saves.head)
			g_cond_wait_until(&guard->changed, &guard->lock,
					  now + LOOK_US);
		else
			g_cond_wait(&guard->changed, &guard->lock);
	}
	return NULL;
}

SnapGuard *snap_guard_new(guint seconds)
{
	SnapGuard *guard = g_new0(SnapGuard, 1);

	g_mutex_init(&guard->lock);
	g_cond_init(&guard->changed);
	guard->patience = (gint64)seconds * G_USEC_PER_SEC;
	if (seconds)
		guard->thread = g_thread_new("guard", guard_thread, guard);
	return guard;
}

void snap_guard_free(SnapGuard *guard)
{
	g_mutex_lock(&guard->lock);
	guard->ending = true;
	g_cond_broadcast(&guard->changed);
	g_mutex_unlock(&guard->lock);
	if (guard->thread)
		g_thread_join(guard->thread);
	g_cond_clear(&guard->changed);
	g_mutex_clear(&guard->lock);
	g_free(guard);
}

void snap_guard_add(SnapGuard *guard, struct snap_guarded *g)
{
	SNAP_LOCKED(&guard->lock);

	g->link.data = g;
	g_queue_push_tail_link(&guard->saves, &g->link);
	g_cond_broadcast(&guard->changed);
}

void snap_guard_remove(SnapGuard *guard, struct snap_guarded *g)
{
	SNAP_LOCKED(&guard->lock);

	while (guard->calls == g)
		g_cond_wait(&guard->changed, &guard->lock);
	g_queue_unlink(&guard->saves, &g->link);
}
