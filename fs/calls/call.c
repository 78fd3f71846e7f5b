/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/calls/call.h"

#include "format/base/cleanup.h"
#include "format/base/log.h"

/* After how long the log says what is waited for. */
#define TELL_US (5 * G_USEC_PER_SEC)
/* How often the thread looks, and what it looks at. */
#define LOOK_US G_USEC_PER_SEC
/* For so long after its last answer the end of a mount waits for the store; and
 * so long for the sake of a save. One fdatasync(2) of a large snapshot may take
 * minutes. */
#define PATIENCE_US (10 * G_USEC_PER_SEC)
#define SAVE_PATIENCE_US (600 * G_USEC_PER_SEC)

static GMutex lock; /* protects all below */
static GCond changed;
static GQueue calls = G_QUEUE_INIT; /* the oldest first */
static bool asleep;		    /* the thread, until it is woken */
static bool ending;
static gint64 told; /* since when the log says that the store hangs; 0: not */
static gint64 returned; /* when the store answered last */
static guint saves;	/* that run */
static GThread *thread;

/* What the calling thread has begun last. */
static __thread struct snap_call *mine;

void snap_call_begin(struct snap_call *call)
{
	SNAP_LOCKED(&lock);

	call->link.data = call;
	call->since = g_get_monotonic_time();
	g_atomic_int_set(&call->quiet, 0);
	g_queue_push_tail_link(&calls, &call->link);
	mine = call;
	/* A thread that does not sleep looks again soon enough. */
	if (asleep)
		g_cond_signal(&changed);
	asleep = false;
}

/* The oldest call of the store, or NULL. */
static const struct snap_call *oldest_locked(void)
{
	for (GList *l = calls.head; l; l = l->next)
		if (!g_atomic_int_get(&((struct snap_call *)l->data)->quiet))
			return l->data;
	return NULL;
}

/* Whether the end of a call tells that the store answers. Many requests are
 * answered without it. So while a call hangs, a request that was over at once
 * tells nothing. */
static bool tells_locked(const struct snap_call *call, gint64 now)
{
	/* Before it is asked whether the call is quiet: it may become so
	 * without the lock, and then there may be none. */
	const struct snap_call *oldest = oldest_locked();

	if (!call->ops)
		return true;
	return !g_atomic_int_get(&call->quiet) &&
	       (now - call->since >= LOOK_US || now - oldest->since < TELL_US);
}

void snap_call_end(struct snap_call *call)
{
	SNAP_LOCKED(&lock);
	gint64 now = g_get_monotonic_time();

	if (tells_locked(call, now))
		returned = now;
	g_queue_unlink(&calls, &call->link);
	if (mine == call)
		mine = NULL;
}

void snap_call_hush(struct snap_call *call)
{
	g_atomic_int_set(&call->quiet, 1);
}

void snap_call_hush_mine(void)
{
	if (mine)
		snap_call_hush(mine);
}

void snap_call_go_on(void)
{
	SNAP_LOCKED(&lock);

	returned = g_get_monotonic_time();
	if (!mine)
		return;
	g_queue_unlink(&calls, &mine->link);
	mine->since = returned;
	g_queue_push_tail_link(&calls, &mine->link);
}

/* What the log is to say. */
struct news {
	char *text; /* NULL: nothing */
	void *held;
	void (*let_go)(void *held);
};

static char *name_of(const struct snap_call *call, struct news *news)
{
	if (call->ops) {
		news->let_go = call->ops->let_go;
		return call->ops->name(call, &news->held);
	}
	return g_strdup_printf("%s of %s", call->what, call->path);
}

/* Fills in what the log is to say now. */
static void news_locked(gint64 now, struct news *news)
{
	const struct snap_call *call = oldest_locked();
	bool hangs = call && now - call->since >= TELL_US;
	g_autofree char *name = NULL;
	gint64 since = told;

	if (hangs == (told != 0))
		return;
	told = hangs ? call->since : 0;
	if (!hangs) {
		news->text = g_strdup_printf(
			"the store answers again, after %u s",
			(guint)((now - since) / G_USEC_PER_SEC));
		return;
	}
	name = name_of(call, news);
	news->text =
		g_strdup_printf("waiting for the store since %u s: %s",
				(guint)((now - told) / G_USEC_PER_SEC), name);
}

/* Logs the news, without the lock: to let go of a thing may call the store. */
static void news_tell(struct news *news)
{
	if (!news->text)
		return;
	snap_log(SNAP_LOG_WARNING, "%s", news->text);
	g_free(news->text);
	if (news->held)
		news->let_go(news->held);
}

static void look_locked(gint64 now)
{
	for (GList *l = calls.head; l; l = l->next) {
		struct snap_call *call = l->data;

		if (now - call->since < LOOK_US)
			return;
		if (call->ops && call->ops->look)
			call->ops->look(call);
	}
}

static gpointer calls_thread(gpointer data)
{
	SNAP_LOCKED(&lock);

	while (!ending) {
		gint64 now = g_get_monotonic_time();
		struct news news = { 0 };

		news_locked(now, &news);
		g_mutex_unlock(&lock);
		news_tell(&news);
		g_mutex_lock(&lock);
		look_locked(now);
		asleep = !calls.head && !told;
		if (asleep)
			g_cond_wait(&changed, &lock);
		else
			g_cond_wait_until(&changed, &lock, now + LOOK_US);
	}
	return NULL;
}

void snap_calls_start(void)
{
	ending = false;
	thread = g_thread_new("calls", calls_thread, NULL);
}

void snap_calls_stop(void)
{
	g_mutex_lock(&lock);
	ending = true;
	g_cond_signal(&changed);
	g_mutex_unlock(&lock);
	g_thread_join(g_steal_pointer(&thread));
}

guint snap_calls_seconds(void)
{
	SNAP_LOCKED(&lock);
	const struct snap_call *call = oldest_locked();

	return call ? (guint)((g_get_monotonic_time() - call->since) /
			      G_USEC_PER_SEC)
		    : 0;
}

void snap_calls_save_begin(void)
{
	SNAP_LOCKED(&lock);

	saves++;
}

void snap_calls_save_end(void)
{
	SNAP_LOCKED(&lock);

	saves--;
	returned = g_get_monotonic_time();
}

gint64 snap_calls_until(gint64 begun)
{
	SNAP_LOCKED(&lock);

	return MAX(begun, returned) + (saves ? SAVE_PATIENCE_US : PATIENCE_US);
}
