/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Things that are kept for a while: a queue, the oldest first, and a thread
 * that sleeps until the oldest is too old. */
#include "fs/node/idle.h"

#include "format/base/cleanup.h"

/* How long a thing is kept. */
#define KEPT_US (2 * G_USEC_PER_SEC)

struct SnapIdle {
	struct snap_idle_opts opts;
	GCond changed; /* this and the rest: under the caller's lock */
	GQueue things;
	bool unbounded; /* the thread sleeps until it is woken */
	bool ending;
	GThread *thread;
};

static struct snap_idle_place *oldest(SnapIdle *idle)
{
	G_STATIC_ASSERT(offsetof(struct snap_idle_place, link) == 0);
	return (struct snap_idle_place *)idle->things.head;
}

/* Closes the oldest thing. Releases the lock meanwhile. */
static void close_oldest(SnapIdle *idle)
{
	struct snap_idle_place *place = oldest(idle);
	void *what;

	snap_idle_take(idle, place);
	what = idle->opts.part(place->link.data);
	g_mutex_unlock(idle->opts.lock);
	idle->opts.close(what);
	g_mutex_lock(idle->opts.lock);
}

static gpointer idle_thread(gpointer data)
{
	SnapIdle *idle = data;
	SNAP_LOCKED(idle->opts.lock);

	while (!idle->ending) {
		gint64 now = g_get_monotonic_time();

		idle->unbounded = !idle->things.head;
		if (idle->unbounded)
			g_cond_wait(&idle->changed, idle->opts.lock);
		else if (now < oldest(idle)->since + KEPT_US)
			g_cond_wait_until(&idle->changed, idle->opts.lock,
					  oldest(idle)->since + KEPT_US);
		else
			close_oldest(idle);
	}
	return NULL;
}

SnapIdle *snap_idle_new(const struct snap_idle_opts *opts)
{
	SnapIdle *idle = g_new0(SnapIdle, 1);

	idle->opts = *opts;
	g_cond_init(&idle->changed);
	idle->thread = g_thread_new("idle", idle_thread, idle);
	return idle;
}

void snap_idle_free(SnapIdle *idle)
{
	g_mutex_lock(idle->opts.lock);
	idle->ending = true;
	g_cond_signal(&idle->changed);
	g_mutex_unlock(idle->opts.lock);
	g_thread_join(idle->thread);
	g_mutex_lock(idle->opts.lock);
	while (idle->things.head)
		close_oldest(idle);
	g_mutex_unlock(idle->opts.lock);
	g_cond_clear(&idle->changed);
	g_free(idle);
}

void snap_idle_keep(SnapIdle *idle, struct snap_idle_place *place, void *thing)
{
	snap_idle_take(idle, place);
	place->link.data = thing;
	place->since = g_get_monotonic_time();
	place->kept = true;
	g_queue_push_tail_link(&idle->things, &place->link);
	/* Else the thread looks again soon enough. To wake it at each request
	 * would cost more than the request. */
	if (idle->unbounded)
		g_cond_signal(&idle->changed);
	idle->unbounded = false;
}

void snap_idle_take(SnapIdle *idle, struct snap_idle_place *place)
{
	if (!place->kept)
		return;
	g_queue_unlink(&idle->things, &place->link);
	place->kept = false;
}

void snap_idle_trim(SnapIdle *idle)
{
	SNAP_LOCKED(idle->opts.lock);

	while (idle->things.length > idle->opts.most)
		close_oldest(idle);
}
