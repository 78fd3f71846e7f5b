/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any free worker compresses a job, but jobs are appended in the order in which
 * they were submitted to their lane. The worker that finishes the oldest job of
 * a lane appends it, and all finished jobs that follow it. So the order of
 * extents does not depend on which worker was faster, and appending needs no
 * thread of its own.
 *
 * The memory is bounded by the number of jobs, which are reused. A thread that
 * needs a job waits while all are in use.
 */
#include "fs/save/pool.h"

#include <string.h>

#include "format/base/cleanup.h"

struct SnapPool {
	GMutex lock;
	GCond work;    /* there is a job, or the pool closes */
	GCond freed;   /* there is memory */
	GQueue queue;  /* jobs to compress; protected by lock */
	GQueue unused; /* protected by lock */
	uint64_t limit;
	uint64_t taken;	   /* bytes of jobs in use; protected by lock */
	uint64_t reserved; /* protected by lock */
	uint64_t claimed;  /* for writes under way; protected by lock */
	bool closing;	   /* protected by lock */
	/* threads that wait for work, and for memory; protected by lock. Each
	 * signal of a GCond costs a system call, also when nobody waits */
	guint idle;
	guint hungry;
	int level; /* SNAP_LEVEL_AUTO: each lane's effort decides */
	/* bytes of pages by level; protected by lock */
	struct snap_saver_levels levels;
	guint n_threads;
	GThread **threads;
};

struct SnapLane {
	SnapPool *pool;
	snap_lane_append append;
	void *ctx;
	snap_lane_compare compare; /* or NULL */
	void *compare_ctx;
	struct snap_effort effort; /* protected by pool->lock */
	GMutex lock;
	GCond empty;
	GQueue order;	/* protected by lock */
	bool appending; /* a worker appends now; protected by lock */
	int error;	/* changes with the lock held only; atomic */
};

#define JOB_COST (sizeof(struct snap_job) + SNAP_EXTENT_BOUND)

/* ---- memory ---- */

/* True when `bytes` more can be taken. */
static bool room_locked(const SnapPool *pool, uint64_t bytes)
{
	return pool->taken + pool->reserved + bytes <= pool->limit;
}

/* The memory of the jobs that a write opens at most: one for each page. */
static uint64_t claim_of(size_t bytes)
{
	return (bytes / SNAP_PAGE + 2) * JOB_COST;
}

/* Waits for a change of the memory in use. */
static void wait_locked(SnapPool *pool)
{
	pool->hungry++;
	g_cond_wait(&pool->freed, &pool->lock);
	pool->hungry--;
}

static void freed_locked(SnapPool *pool)
{
	if (pool->hungry)
		g_cond_broadcast(&pool->freed);
}

bool snap_pool_claim(SnapPool *pool, size_t bytes, bool wait)
{
	uint64_t claim = claim_of(bytes);
	/* Reservations leave an eighth (pool_reserve). */
	uint64_t least = wait ? MIN(claim, pool->limit / 8) : claim;
	SNAP_LOCKED(&pool->lock);

	while (!room_locked(pool, pool->claimed + least)) {
		if (!wait)
			return false;
		wait_locked(pool);
	}
	pool->claimed += claim;
	return true;
}

void snap_pool_unclaim(SnapPool *pool, size_t bytes)
{
	SNAP_LOCKED(&pool->lock);

	pool->claimed -= claim_of(bytes);
	freed_locked(pool);
}

static struct snap_job *job_new(void)
{
	struct snap_job *job = g_new(struct snap_job, 1);

	job->bytes = g_malloc(SNAP_EXTENT_BOUND);
	return job;
}

static void job_free(struct snap_job *job)
{
	g_free(job->bytes);
	g_free(job);
}

struct snap_job *snap_pool_take(SnapPool *pool, uint64_t region, bool wait)
{
	SNAP_LOCKED(&pool->lock);
	struct snap_job *job;
	GList *link;

	while (!room_locked(pool, JOB_COST)) {
		if (!wait)
			return NULL;
		wait_locked(pool);
	}
	pool->taken += JOB_COST;
	link = g_queue_pop_tail_link(&pool->unused);
	job = link ? link->data : job_new();
	memset(job, 0, offsetof(struct snap_job, bytes));
	job->link.data = job;
	job->region = region;
	return job;
}

void snap_pool_give(SnapPool *pool, struct snap_job *job)
{
	SNAP_LOCKED(&pool->lock);

	pool->taken -= JOB_COST;
	g_queue_push_tail_link(&pool->unused, &job->link);
	freed_locked(pool);
}

/* Reserves memory unless more than `eighths` of it would be reserved. */
static bool pool_reserve(SnapPool *pool, uint64_t bytes, unsigned eighths)
{
	SNAP_LOCKED(&pool->lock);
	uint64_t most = pool->limit / 8 * eighths;

	if (pool->reserved > most || bytes > most - pool->reserved)
		return false;
	pool->reserved += bytes;
	return true;
}

bool snap_pool_reserve(SnapPool *pool, uint64_t bytes)
{
	return pool_reserve(pool, bytes, 6);
}

bool snap_pool_reserve_late(SnapPool *pool, uint64_t bytes)
{
	return pool_reserve(pool, bytes, 7);
}

void snap_pool_unreserve(SnapPool *pool, uint64_t bytes)
{
	SNAP_LOCKED(&pool->lock);

	pool->reserved -= bytes;
	freed_locked(pool);
}

uint64_t snap_pool_held(SnapPool *pool)
{
	SNAP_LOCKED(&pool->lock);

	return pool->taken;
}

/* ---- lanes ---- */

SnapLane *snap_lane_new(SnapPool *pool, snap_lane_append append, void *ctx)
{
	SnapLane *lane = g_new0(SnapLane, 1);

	g_mutex_init(&lane->lock);
	g_cond_init(&lane->empty);
	lane->pool = pool;
	lane->append = append;
	lane->ctx = ctx;
	snap_effort_init(&lane->effort);
	return lane;
}

void snap_lane_set_compare(SnapLane *lane, snap_lane_compare compare, void *ctx)
{
	lane->compare = compare;
	lane->compare_ctx = ctx;
}

void snap_lane_free(SnapLane *lane)
{
	if (!lane)
		return;
	snap_lane_wait(lane);
	g_cond_clear(&lane->empty);
	g_mutex_clear(&lane->lock);
	g_free(lane);
}

/* The lane's oldest job, if it is finished. */
static struct snap_job *lane_next_locked(SnapLane *lane)
{
	struct snap_job *job = g_queue_peek_head(&lane->order);

	return job && job->done ? job : NULL;
}

/* Appends the lane's finished jobs, from the oldest on, unless another worker
 * does so. Appending may wait for the disk, so the lock is not held meanwhile,
 * and other threads go on. */
static void lane_append_locked(SnapLane *lane)
{
	struct snap_job *job;

	if (lane->appending)
		return;
	lane->appending = true;
	while ((job = lane_next_locked(lane))) {
		int error = lane->error ? lane->error : job->error;

		g_mutex_unlock(&lane->lock);
		if (!error)
			error = lane->append(lane->ctx, job);
		g_mutex_lock(&lane->lock);
		__atomic_store_n(&lane->error, error, __ATOMIC_RELAXED);
		g_queue_unlink(&lane->order, &job->link);
		snap_pool_give(lane->pool, job);
	}
	lane->appending = false;
	if (!lane->order.head)
		g_cond_broadcast(&lane->empty);
}

static void job_finish(struct snap_job *job, int error)
{
	SnapLane *lane = job->lane;

	g_mutex_lock(&lane->lock);
	job->done = true;
	job->error = error;
	lane_append_locked(lane);
	g_mutex_unlock(&lane->lock);
}

/* Sorts the pages. Most already are in order. */
static void job_sort(struct snap_job *job)
{
	uint8_t page[SNAP_PAGE];

	for (guint i = 1; i < job->n; i++)
		for (guint j = i; j && job->pages[j - 1] > job->pages[j]; j--) {
			uint8_t *a = job->bytes + (size_t)(j - 1) * SNAP_PAGE;
			uint8_t *b = job->bytes + (size_t)j * SNAP_PAGE;
			uint16_t n = job->pages[j];

			job->pages[j] = job->pages[j - 1];
			job->pages[j - 1] = n;
			memcpy(page, a, SNAP_PAGE);
			memcpy(a, b, SNAP_PAGE);
			memcpy(b, page, SNAP_PAGE);
		}
}

void snap_lane_submit(SnapLane *lane, struct snap_job *job)
{
	SnapPool *pool = lane->pool;

	job->lane = lane;
	g_mutex_lock(&lane->lock);
	g_queue_push_tail_link(&lane->order, &job->link);
	g_mutex_unlock(&lane->lock);
	/* Also without a page to compress: to append it may wait for the store,
	 * and the caller holds locks. */
	g_mutex_lock(&pool->lock);
	g_queue_push_tail(&pool->queue, job);
	if (pool->idle)
		g_cond_signal(&pool->work);
	g_mutex_unlock(&pool->lock);
}

int snap_lane_wait(SnapLane *lane)
{
	SNAP_LOCKED(&lane->lock);

	while (lane->order.head || lane->appending)
		g_cond_wait(&lane->empty, &lane->lock);
	return lane->error;
}

int snap_lane_error(const SnapLane *lane)
{
	return __atomic_load_n(&lane->error, __ATOMIC_RELAXED);
}

/* ---- levels ---- */

void snap_lane_disk(SnapLane *lane, uint64_t written, uint64_t on_disk)
{
	SNAP_LOCKED(&lane->pool->lock);

	snap_effort_disk(&lane->effort, written, on_disk);
}

/* The level for an extent of a lane while `queued` jobs wait. */
static int lane_level_locked(SnapLane *lane, guint queued)
{
	const SnapPool *pool = lane->pool;
	uint64_t room = (pool->limit - pool->reserved) / JOB_COST;

	if (pool->level != SNAP_LEVEL_AUTO)
		return pool->level;
	return snap_effort_level(&lane->effort, queued, (guint)room);
}

int snap_lane_level(SnapLane *lane)
{
	SNAP_LOCKED(&lane->pool->lock);

	return lane_level_locked(lane, G_MAXUINT);
}

struct snap_saver_levels snap_pool_levels(SnapPool *pool)
{
	SNAP_LOCKED(&pool->lock);

	return pool->levels;
}

/* ---- workers ---- */

/* Waits for a job. Returns NULL when the pool closes. */
static struct snap_job *pool_next(SnapPool *pool, int *ret_level)
{
	SNAP_LOCKED(&pool->lock);
	struct snap_job *job;

	while (!pool->queue.head && !pool->closing) {
		pool->idle++;
		g_cond_wait(&pool->work, &pool->lock);
		pool->idle--;
	}
	job = g_queue_pop_head(&pool->queue);
	if (job)
		*ret_level = lane_level_locked(job->lane, pool->queue.length);
	return job;
}

/* Takes out of a job what its lane need not store. */
static void job_compare(struct snap_job *job, SnapCompare **compare)
{
	if (!job->n || !job->lane->compare)
		return;
	if (!*compare)
		*compare = snap_compare_new();
	job->lane->compare(job->lane->compare_ctx, *compare, job);
}

static void count_level(SnapPool *pool, int level, guint pages)
{
	SNAP_LOCKED(&pool->lock);

	pool->levels.bytes[level - SNAP_LEVEL_MIN] +=
		(uint64_t)pages * SNAP_PAGE;
}

/* Compresses a job. *frame is a buffer, which the job takes for its own. */
static int job_compress(struct snap_job *job, SnapCodec *codec, uint8_t **frame)
{
	uint8_t *pages = job->bytes;
	ssize_t size = snap_codec_compress(codec, pages, job->n, *frame);

	if (size < 0)
		return (int)size;
	job->bytes = *frame;
	job->frame_size = (size_t)size;
	*frame = pages;
	return 0;
}

static gpointer pool_thread(gpointer data)
{
	SnapPool *pool = data;
	g_autoptr(SnapCodec) codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	g_autoptr(SnapCompare) compare = NULL; /* when it is first needed */
	uint8_t *frame = g_malloc(SNAP_EXTENT_BOUND);
	struct snap_job *job;
	int level;

	while ((job = pool_next(pool, &level))) {
		int r = 0;

		job_sort(job);
		job_compare(job, &compare);
		if (job->n) {
			count_level(pool, level, job->n);
			snap_codec_set_level(codec, level);
			r = job_compress(job, codec, &frame);
		}
		job_finish(job, r);
	}
	g_free(frame);
	return NULL;
}

SnapPool *snap_pool_new(guint threads, int level, uint64_t limit)
{
	SnapPool *pool = g_new0(SnapPool, 1);

	g_mutex_init(&pool->lock);
	g_cond_init(&pool->work);
	g_cond_init(&pool->freed);
	pool->limit = limit;
	pool->level = level;
	pool->n_threads = threads;
	pool->threads = g_new(GThread *, threads);
	for (guint i = 0; i < threads; i++)
		pool->threads[i] = g_thread_new("compress", pool_thread, pool);
	return pool;
}

void snap_pool_free(SnapPool *pool)
{
	GList *link;

	if (!pool)
		return;
	g_mutex_lock(&pool->lock);
	pool->closing = true;
	g_cond_broadcast(&pool->work);
	g_mutex_unlock(&pool->lock);
	for (guint i = 0; i < pool->n_threads; i++)
		g_thread_join(pool->threads[i]);
	while ((link = g_queue_pop_head_link(&pool->unused)))
		job_free(link->data);
	g_cond_clear(&pool->freed);
	g_cond_clear(&pool->work);
	g_mutex_clear(&pool->lock);
	g_free(pool->threads);
	g_free(pool);
}
