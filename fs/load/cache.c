/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hash table of frames, and a queue of the frames that may be dropped, least
 * recently used first.
 *
 * A frame is LOADING, READY or FAILED. A thread that misses adds a LOADING
 * frame to the table and loads it without the lock. A thread that finds such a
 * frame waits on the condition. A FAILED frame is removed from the table, and
 * the last thread that holds it frees it.
 *
 * Held frames are not in the queue, so the cache exceeds its limit by at most
 * the frames that readers hold now.
 */
#include "fs/load/cache.h"

#include "format/base/cleanup.h"

enum frame_state {
	FRAME_LOADING,
	FRAME_READY,
	FRAME_FAILED,
};

struct frame {
	struct snap_cached cached; /* first: callers have a pointer to it */
	struct snap_cache_key key;
	enum frame_state
		state; /* this and the rest: protected by cache->lock */
	int error;
	guint held;
	GList link; /* in cache->idle while not held */
};

struct SnapCache {
	GMutex lock;
	GCond loaded;
	GHashTable *frames; /* protected by lock */
	GQueue idle;	    /* protected by lock */
	uint64_t limit;
	struct snap_cache_stats stats; /* protected by lock */
};

static guint frame_hash(gconstpointer p)
{
	const struct snap_cache_key *key = &((const struct frame *)p)->key;

	return (guint)((key->offset ^ key->owner << 40) * 0x9e3779b97f4a7c15u >>
		       32);
}

static gboolean frame_equal(gconstpointer a, gconstpointer b)
{
	const struct snap_cache_key *x = &((const struct frame *)a)->key;
	const struct snap_cache_key *y = &((const struct frame *)b)->key;

	return x->owner == y->owner && x->offset == y->offset &&
	       x->length == y->length && x->crc32c == y->crc32c &&
	       x->kind == y->kind && x->number == y->number;
}

SnapCache *snap_cache_new(uint64_t limit)
{
	SnapCache *cache = g_new0(SnapCache, 1);

	g_mutex_init(&cache->lock);
	g_cond_init(&cache->loaded);
	cache->frames = g_hash_table_new(frame_hash, frame_equal);
	cache->limit = limit;
	return cache;
}

static uint64_t frame_cost(const struct frame *f)
{
	return f->cached.size + sizeof(*f) + 64;
}

static void frame_free(struct frame *f)
{
	g_free(f->cached.data);
	g_free(f);
}

/* Removes an idle frame from table and queue and frees it. */
static void cache_drop_locked(SnapCache *cache, struct frame *f)
{
	g_queue_unlink(&cache->idle, &f->link);
	g_hash_table_remove(cache->frames, f);
	cache->stats.bytes -= frame_cost(f);
	frame_free(f);
}

static void cache_shrink_locked(SnapCache *cache)
{
	while (cache->stats.bytes > cache->limit && cache->idle.head)
		cache_drop_locked(cache, cache->idle.head->data);
}

void snap_cache_free(SnapCache *cache)
{
	if (!cache)
		return;
	cache->limit = 0;
	cache_shrink_locked(cache);
	g_assert(g_hash_table_size(cache->frames) == 0);
	g_hash_table_destroy(cache->frames);
	g_cond_clear(&cache->loaded);
	g_mutex_clear(&cache->lock);
	g_free(cache);
}

static void frame_release_locked(SnapCache *cache, struct frame *f)
{
	if (--f->held)
		return;
	if (f->state == FRAME_FAILED) {
		frame_free(f);
		return;
	}
	g_queue_push_tail_link(&cache->idle, &f->link);
	cache_shrink_locked(cache);
}

/* Holds a frame of the table and waits until it is loaded. */
static int cache_found_locked(SnapCache *cache, struct frame *f,
			      const struct snap_cached **ret_frame)
{
	if (f->held++ == 0)
		g_queue_unlink(&cache->idle, &f->link);
	if (f->state == FRAME_LOADING)
		cache->stats.waits++;
	else
		cache->stats.hits++;
	while (f->state == FRAME_LOADING)
		g_cond_wait(&cache->loaded, &cache->lock);
	if (f->state == FRAME_FAILED) {
		int error = f->error;

		frame_release_locked(cache, f);
		return error;
	}
	*ret_frame = &f->cached;
	return 0;
}

int snap_cache_get(SnapCache *cache, const struct snap_cache_key *key,
		   snap_cache_load load, void *ctx,
		   const struct snap_cached **ret_frame)
{
	struct frame wanted = { .key = *key };
	SNAP_LOCKED(&cache->lock);
	struct frame *f = g_hash_table_lookup(cache->frames, &wanted);
	int r;

	if (f)
		return cache_found_locked(cache, f, ret_frame);
	cache->stats.misses++;
	f = g_new0(struct frame, 1);
	f->key = *key;
	f->held = 1;
	f->link.data = f;
	g_hash_table_add(cache->frames, f);
	g_mutex_unlock(&cache->lock);
	r = load(ctx, &f->cached.data, &f->cached.size);
	g_mutex_lock(&cache->lock);
	f->state = r < 0 ? FRAME_FAILED : FRAME_READY;
	f->error = r;
	g_cond_broadcast(&cache->loaded);
	if (r < 0) {
		cache->stats.errors++;
		g_hash_table_remove(cache->frames, f);
		frame_release_locked(cache, f);
		return r;
	}
	cache->stats.bytes += frame_cost(f);
	cache_shrink_locked(cache);
	*ret_frame = &f->cached;
	return 0;
}

int snap_cache_find(SnapCache *cache, const struct snap_cache_key *key,
		    const struct snap_cached **ret_frame)
{
	struct frame wanted = { .key = *key };
	SNAP_LOCKED(&cache->lock);
	struct frame *f = g_hash_table_lookup(cache->frames, &wanted);

	*ret_frame = NULL;
	return f ? cache_found_locked(cache, f, ret_frame) : 0;
}

void snap_cache_put(SnapCache *cache, const struct snap_cached *frame)
{
	SNAP_LOCKED(&cache->lock);

	frame_release_locked(cache, (struct frame *)frame);
}

void snap_cache_forget(SnapCache *cache, uint64_t owner)
{
	SNAP_LOCKED(&cache->lock);
	GList *next;

	for (GList *l = cache->idle.head; l; l = next) {
		struct frame *f = l->data;

		next = l->next;
		if (f->key.owner == owner)
			cache_drop_locked(cache, f);
	}
}

struct snap_cache_stats snap_cache_stats(SnapCache *cache)
{
	SNAP_LOCKED(&cache->lock);

	return cache->stats;
}
