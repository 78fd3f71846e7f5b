/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GLib's mutexes and conditions, made of POSIX ones, and its queues and pools
 * made visible.
 *
 * GLib makes its own of futexes, which ThreadSanitizer does not see: it would
 * call everything that they protect a race. tests/run preloads this under
 * ThreadSanitizer, and only there. A GMutex or GCond of zeroes is one that is
 * ready; what it stands for is made when it is first used.
 */
#include <dlfcn.h>
#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define SLOTS (1 << 20)

/* Slots are zero from the start and never used twice, so that there is no write
 * to them that ThreadSanitizer could take for a race. */
static union {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
} slots[SLOTS];
static guint slots_used;

/* The slot that *place points at; a fresh one where it points nowhere yet. */
static void *get(gpointer *place)
{
	void *there = __atomic_load_n(place, __ATOMIC_ACQUIRE);
	guint n;

	if (there)
		return there;
	n = __atomic_fetch_add(&slots_used, 1, __ATOMIC_RELAXED);
	if (n >= SLOTS)
		abort();
	if (__atomic_compare_exchange_n(place, &there, &slots[n], FALSE,
					__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return &slots[n];
	return there;
}

/* All zeroes is PTHREAD_MUTEX_INITIALIZER, and so for a condition. */
static pthread_mutex_t *mutex_of(GMutex *m)
{
	return get(&m->p);
}

static pthread_cond_t *cond_of(GCond *c)
{
	return get(&c->p);
}

void g_mutex_init(GMutex *m)
{
	m->p = NULL;
}

void g_mutex_clear(GMutex *m)
{
	if (m->p)
		pthread_mutex_destroy(m->p);
	m->p = NULL;
}

void g_mutex_lock(GMutex *m)
{
	pthread_mutex_lock(mutex_of(m));
}

gboolean g_mutex_trylock(GMutex *m)
{
	return pthread_mutex_trylock(mutex_of(m)) == 0;
}

void g_mutex_unlock(GMutex *m)
{
	pthread_mutex_unlock(mutex_of(m));
}

void g_cond_init(GCond *c)
{
	c->p = NULL;
}

void g_cond_clear(GCond *c)
{
	if (c->p)
		pthread_cond_destroy(c->p);
	c->p = NULL;
}

void g_cond_wait(GCond *c, GMutex *m)
{
	pthread_cond_wait(cond_of(c), mutex_of(m));
}

void g_cond_signal(GCond *c)
{
	pthread_cond_signal(cond_of(c));
}

void g_cond_broadcast(GCond *c)
{
	pthread_cond_broadcast(cond_of(c));
}

/* `end` is of the monotonic clock, in microseconds. */
gboolean g_cond_wait_until(GCond *c, GMutex *m, gint64 end)
{
	gint64 left = end - g_get_monotonic_time();
	struct timespec at;
	gint64 ns;

	clock_gettime(CLOCK_REALTIME, &at);
	ns = at.tv_nsec + MAX(left, 0) * 1000;
	at.tv_sec += ns / 1000000000;
	at.tv_nsec = ns % 1000000000;
	return pthread_cond_timedwait(cond_of(c), mutex_of(m), &at) !=
	       ETIMEDOUT;
}

/* What GLib does inside goes past the above. Where it hands something from one
 * thread to another, this mutex stands for its own. */
static pthread_mutex_t handing = PTHREAD_MUTEX_INITIALIZER;

static void hand(void)
{
	pthread_mutex_lock(&handing);
	pthread_mutex_unlock(&handing);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void g_async_queue_push(GAsyncQueue *queue, gpointer data)
{
	hand();
	REAL(g_async_queue_push)(queue, data);
}

gpointer g_async_queue_pop(GAsyncQueue *queue)
{
	gpointer data = REAL(g_async_queue_pop)(queue);

	hand();
	return data;
}

/* A pool's function and what it is given. */
struct work {
	GFunc work;
	gpointer data;
};

static void do_work(gpointer item, gpointer data)
{
	struct work *w = data;

	hand();
	w->work(item, w->data);
	hand();
}

GThreadPool *g_thread_pool_new(GFunc work, gpointer data, gint threads,
			       gboolean exclusive, GError **error)
{
	struct work *w = g_new0(struct work, 1); /* lives as long as all does */

	w->work = work;
	w->data = data;
	return REAL(g_thread_pool_new)(do_work, w, threads, exclusive, error);
}

gboolean g_thread_pool_push(GThreadPool *pool, gpointer item, GError **error)
{
	hand();
	return REAL(g_thread_pool_push)(pool, item, error);
}

void g_thread_pool_free(GThreadPool *pool, gboolean immediate, gboolean wait)
{
	REAL(g_thread_pool_free)(pool, immediate, wait);
	hand();
}
