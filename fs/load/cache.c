/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hash table of frames, and two queues of the frames that may be dropped.
 *
 * A frame is LOADING, READY or FAILED. A thread that misses adds a LOADING
 * frame to the table and loads it without the lock. A thread that finds such a
 * frame waits on the condition. A FAILED frame is removed from the table, and
 * the last thread that holds it frees it.
 *
 * Most frames are used once: by a reader in order, or for a page here and
 * there. Those pass through a short queue, `once`, so that they do not drive
 * out what is used again, and so that the processor still has their memory in
 * its own cache when the next frame gets it. What is used again, also when it
 * was dropped meanwhile, is in `kept`, least recently used first, which may
 * fill the rest of the limit. So is what was loaded ahead, until it is used.
 *
 * Held frames are in no queue, so the cache exceeds its limit by at most the
 * frames that readers hold or load now, and by a few that are spare.
 */
#include "fs/load/cache.h"

#include <stdlib.h>

#include "format/base/cleanup.h"
#include "format/base/units.h"

/* Frames used once: at most this part of the limit, and this many bytes, which
 * nearly fit into a processor's second-level cache. With 16 MiB, to decompress
 * an extent took half as long again. */
#define ONCE_PART 4
#define ONCE_MAX (2 * SNAP_MIB)

/* How many frames that were dropped after one use are remembered, about: by
 * their hashes, in a table where later ones replace earlier ones. A wrong guess
 * only keeps a frame. */
#define DROPPED 8192u

/* Memory of dropped frames of the commonest size that is kept for the next. */
#define SPARE_SIZE (64 * SNAP_KIB)
#define SPARE_MAX 16u

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
	guint waiting; /* threads, for the load */
	guint uses;    /* by readers; 2 stands for more */
	GList link;    /* in a queue while not held */
};

struct SnapCache {
	GMutex lock;
	GCond loaded;
	GHashTable *frames; /* this and the rest: protected by lock */
	GQueue once;
	GQueue kept;
	uint64_t limit;
	uint64_t once_limit;
	uint64_t once_bytes;	/* of frames used once, also of held ones */
	guint dropped[DROPPED]; /* hashes */
	void *spare[SPARE_MAX];
	guint n_spare;
	struct snap_cache_stats stats;
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
	cache->once_limit = MIN(limit / ONCE_PART, ONCE_MAX);
	return cache;
}

/* ---- memory ---- */

static uint64_t frame_cost(const struct frame *f)
{
	return f->cached.size + sizeof(*f) + 64;
}

/* Memory of a dropped frame, or NULL. */
static void *spare_get_locked(SnapCache *cache, size_t size)
{
	return size == SPARE_SIZE && cache->n_spare
		       ? cache->spare[--cache->n_spare]
		       : NULL;
}

/* New memory: that of a full extent lies on pages, which the kernel copies one
 * by one. Of smaller ones, too much would be lost to that. NULL where there is
 * none. */
static void *memory_new(size_t size)
{
	void *memory;

	if (size != SPARE_SIZE)
		return malloc(size);
	return posix_memalign(&memory, SNAP_PAGE, size) ? NULL : memory;
}

static void memory_put_locked(SnapCache *cache, void *memory, size_t size)
{
	if (size == SPARE_SIZE && memory && cache->n_spare < SPARE_MAX)
		cache->spare[cache->n_spare++] = memory;
	else
		free(memory);
}

static void frame_free_locked(SnapCache *cache, struct frame *f)
{
	memory_put_locked(cache, f->cached.data, f->cached.size);
	g_free(f);
}

/* ---- the queues ---- */

static GQueue *queue_of(SnapCache *cache, const struct frame *f)
{
	return f->uses == 1 ? &cache->once : &cache->kept;
}

/* Removes an idle frame from table and queue and frees it. */
static void cache_drop_locked(SnapCache *cache, struct frame *f)
{
	g_queue_unlink(queue_of(cache, f), &f->link);
	g_hash_table_remove(cache->frames, f);
	cache->stats.bytes -= frame_cost(f);
	if (f->uses == 1) {
		guint hash = frame_hash(f);

		cache->once_bytes -= frame_cost(f);
		cache->dropped[hash % DROPPED] = hash;
	}
	frame_free_locked(cache, f);
}

/* True for a frame that was used once, and dropped not long ago. */
static bool was_dropped_locked(const SnapCache *cache, const struct frame *f)
{
	guint hash = frame_hash(f);

	return cache->dropped[hash % DROPPED] == hash;
}

static void cache_shrink_locked(SnapCache *cache)
{
	while (cache->once_bytes > cache->once_limit && cache->once.head)
		cache_drop_locked(cache, cache->once.head->data);
	while (cache->stats.bytes > cache->limit && cache->kept.head)
		cache_drop_locked(cache, cache->kept.head->data);
	while (cache->stats.bytes > cache->limit && cache->once.head)
		cache_drop_locked(cache, cache->once.head->data);
}

void snap_cache_free(SnapCache *cache)
{
	if (!cache)
		return;
	cache->limit = 0;
	cache_shrink_locked(cache);
	g_assert(g_hash_table_size(cache->frames) == 0);
	while (cache->n_spare)
		free(cache->spare[--cache->n_spare]);
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
		frame_free_locked(cache, f);
		return;
	}
	g_queue_push_tail_link(queue_of(cache, f), &f->link);
	cache_shrink_locked(cache);
}

/* A reader uses a loaded frame. */
static void frame_use_locked(SnapCache *cache, struct frame *f)
{
	if (f->uses == 0)
		cache->once_bytes += frame_cost(f);
	else if (f->uses == 1)
		cache->once_bytes -= frame_cost(f);
	f->uses = MIN(f->uses + 1, 2);
}

/* ---- loading ---- */

static struct frame *cache_lookup_locked(SnapCache *cache,
					 const struct snap_cache_key *key)
{
	struct frame wanted = { .key = *key };

	return g_hash_table_lookup(cache->frames, &wanted);
}

/* Holds a frame of the table and waits until it is loaded. */
static int cache_found_locked(SnapCache *cache, struct frame *f,
			      const struct snap_cached **ret_frame)
{
	if (f->held++ == 0)
		g_queue_unlink(queue_of(cache, f), &f->link);
	if (f->state == FRAME_LOADING)
		cache->stats.waits++;
	else
		cache->stats.hits++;
	f->waiting++;
	while (f->state == FRAME_LOADING)
		g_cond_wait(&cache->loaded, &cache->lock);
	f->waiting--;
	if (f->state == FRAME_FAILED) {
		int error = f->error;

		frame_release_locked(cache, f);
		return error;
	}
	frame_use_locked(cache, f);
	*ret_frame = &f->cached;
	return 0;
}

/* Adds a frame, which the caller holds, and loads it. Releases the lock
 * meanwhile. */
static int cache_load_locked(SnapCache *cache, const struct snap_cache_key *key,
			     const struct snap_cache_source *source,
			     struct frame **ret_frame)
{
	struct frame *f = g_new0(struct frame, 1);
	int r;

	f->key = *key;
	f->uses = source->keep || was_dropped_locked(cache, f) ? 2 : 0;
	f->held = 1;
	f->link.data = f;
	f->cached.size = source->size;
	f->cached.data = spare_get_locked(cache, source->size);
	g_hash_table_add(cache->frames, f);
	g_mutex_unlock(&cache->lock);
	if (!f->cached.data)
		f->cached.data = memory_new(source->size);
	r = f->cached.data
		    ? source->load(source->ctx, f->cached.data, source->size)
		    : -ENOMEM;
	g_mutex_lock(&cache->lock);
	f->state = r < 0 ? FRAME_FAILED : FRAME_READY;
	f->error = r;
	if (f->waiting)
		g_cond_broadcast(&cache->loaded);
	if (r < 0) {
		cache->stats.errors++;
		g_hash_table_remove(cache->frames, f);
		frame_release_locked(cache, f);
		return r;
	}
	cache->stats.bytes += frame_cost(f);
	*ret_frame = f;
	return 0;
}

int snap_cache_get(SnapCache *cache, const struct snap_cache_key *key,
		   const struct snap_cache_source *source,
		   const struct snap_cached **ret_frame)
{
	SNAP_LOCKED(&cache->lock);
	struct frame *f = cache_lookup_locked(cache, key);
	int r;

	if (f)
		return cache_found_locked(cache, f, ret_frame);
	cache->stats.misses++;
	r = cache_load_locked(cache, key, source, &f);
	if (r < 0)
		return r;
	frame_use_locked(cache, f);
	cache_shrink_locked(cache);
	*ret_frame = &f->cached;
	return 0;
}

int snap_cache_ahead(SnapCache *cache, const struct snap_cache_key *key,
		     const struct snap_cache_source *source)
{
	SNAP_LOCKED(&cache->lock);
	struct frame *f;
	int r;

	if (cache_lookup_locked(cache, key))
		return 0;
	r = cache_load_locked(cache, key, source, &f);
	if (r < 0)
		return r;
	cache->stats.ahead++;
	frame_release_locked(cache, f);
	return 0;
}

int snap_cache_find(SnapCache *cache, const struct snap_cache_key *key,
		    const struct snap_cached **ret_frame)
{
	SNAP_LOCKED(&cache->lock);
	struct frame *f = cache_lookup_locked(cache, key);

	*ret_frame = NULL;
	return f ? cache_found_locked(cache, f, ret_frame) : 0;
}

bool snap_cache_has(SnapCache *cache, const struct snap_cache_key *key)
{
	SNAP_LOCKED(&cache->lock);

	return cache_lookup_locked(cache, key) != NULL;
}

void snap_cache_put(SnapCache *cache, const struct snap_cached *frame)
{
	SNAP_LOCKED(&cache->lock);

	frame_release_locked(cache, (struct frame *)frame);
}

static void queue_forget_locked(SnapCache *cache, GQueue *queue, uint64_t owner)
{
	GList *next;

	for (GList *l = queue->head; l; l = next) {
		struct frame *f = l->data;

		next = l->next;
		if (f->key.owner == owner)
			cache_drop_locked(cache, f);
	}
}

void snap_cache_forget(SnapCache *cache, uint64_t owner)
{
	SNAP_LOCKED(&cache->lock);

	queue_forget_locked(cache, &cache->once, owner);
	queue_forget_locked(cache, &cache->kept, owner);
}

struct snap_cache_stats snap_cache_stats(SnapCache *cache)
{
	SNAP_LOCKED(&cache->lock);

	return cache->stats;
}
