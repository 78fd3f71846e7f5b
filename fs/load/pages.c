/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The page space of a snapshot, read at random.
 *
 * A read walks its regions. The leaf of a region says where its pages are, and
 * the cache has the extents. Leaves and nodes are in the same cache, so one
 * number bounds the memory of a mount.
 *
 * For a sequential reader, threads load extents into the cache ahead of it.
 * They drop their errors, because the reader meets them again.
 */
#include "fs/load/pages-internal.h"

#include <string.h>

#include "format/base/cleanup.h"
#include "format/base/log.h"
#include "fs/load/readahead.h"

struct SnapLoader {
	SnapCache *cache;
	GThreadPool *ahead;
	uint64_t window; /* of readahead, in bytes */
	gint next_id;	 /* this and the rest are atomic */
	uint64_t readahead;
	uint64_t bytes_out;
	uint64_t bytes_read;
	uint64_t errors; /* besides those of the cache */
};

#define COUNT(field, n) __atomic_fetch_add(&(field), n, __ATOMIC_RELAXED)

/* ---- the loader ---- */

static void ahead_work(gpointer data, gpointer user_data);

SnapLoader *snap_loader_new(const struct snap_loader_opts *opts)
{
	SnapLoader *loader = g_new0(SnapLoader, 1);
	guint threads = opts->threads ? opts->threads : g_get_num_processors();

	loader->cache = snap_cache_new(opts->cache);
	loader->window = MIN(SNAP_READAHEAD_WINDOW, opts->cache / 4);
	loader->ahead = g_thread_pool_new(ahead_work, loader, (gint)threads,
					  FALSE, NULL);
	return loader;
}

void snap_loader_free(SnapLoader *loader)
{
	if (!loader)
		return;
	g_thread_pool_free(loader->ahead, FALSE, TRUE);
	snap_cache_free(loader->cache);
	g_free(loader);
}

SnapCache *snap_loader_cache(SnapLoader *loader)
{
	return loader->cache;
}

struct snap_loader_stats snap_loader_stats(SnapLoader *loader)
{
	struct snap_cache_stats c = snap_cache_stats(loader->cache);

	return (struct snap_loader_stats){
		.hits = c.hits,
		.misses = c.misses,
		.waits = c.waits,
		.errors = c.errors + COUNT(loader->errors, 0),
		.cached = c.bytes,
		.readahead = COUNT(loader->readahead, 0),
		.bytes_out = COUNT(loader->bytes_out, 0),
		.bytes_read = COUNT(loader->bytes_read, 0),
	};
}

/* ---- a snapshot ---- */

SnapPages *snap_pages_new(SnapLoader *loader, SnapReader *reader,
			  const char *name)
{
	SnapPages *pages = g_new0(SnapPages, 1);

	pages->refs = 1;
	pages->loader = loader;
	pages->reader = reader;
	pages->id = (uint64_t)(guint)g_atomic_int_add(&loader->next_id, 1);
	pages->name = g_strdup(name);
	pages->top = snap_reader_top(reader, &pages->n_nodes);
	pages->n_regions = snap_meta_regions(snap_reader_meta(reader));
	g_mutex_init(&pages->lock);
	return pages;
}

SnapPages *snap_pages_ref(SnapPages *pages)
{
	g_atomic_int_inc(&pages->refs);
	return pages;
}

void snap_pages_unref(SnapPages *pages)
{
	if (!pages || !g_atomic_int_dec_and_test(&pages->refs))
		return;
	snap_cache_forget(pages->loader->cache, pages->id);
	snap_reader_free(pages->reader);
	g_mutex_clear(&pages->lock);
	g_free(pages->name);
	g_free(pages);
}

const struct snap_meta *snap_pages_meta(const SnapPages *pages)
{
	return snap_reader_meta(pages->reader);
}

const char *snap_pages_name(const SnapPages *pages)
{
	return pages->name;
}

/* True when damage at this offset is not among the last few that were
 * logged. */
static bool is_news(SnapPages *pages, uint64_t offset)
{
	SNAP_LOCKED(&pages->lock);
	guint n = G_N_ELEMENTS(pages->logged);

	for (guint i = 0; i < MIN(n, pages->n_logged); i++)
		if (pages->logged[i] == offset)
			return false;
	pages->logged[pages->n_logged++ % n] = offset;
	return true;
}

/* Logs damage, once per place as long as there are few places. */
static int damaged(SnapPages *pages, const char *what, uint64_t offset, int r)
{
	if (is_news(pages, offset))
		snap_log(SNAP_LOG_ERROR,
			 "%s: %s at byte %" G_GUINT64_FORMAT
			 " of its snapshot file: %s",
			 pages->name, what, offset,
			 r == -EBADMSG ? "damaged" : g_strerror(-r));
	return r;
}

/* ---- the frames in the cache: nodes, leaves, extents ---- */

enum kind {
	KIND_NODE,
	KIND_LEAF,
	KIND_EXTENT,
};

struct load {
	SnapPages *pages;
	uint64_t index; /* of the node or region */
	const struct snap_entry *entry;
	const struct snap_segment *segment;
};

static void codec_free(gpointer codec)
{
	snap_codec_free(codec);
}

/* The calling thread's decompressor. */
static SnapCodec *thread_codec(void)
{
	static GPrivate key = G_PRIVATE_INIT(codec_free);
	SnapCodec *codec = g_private_get(&key);

	if (!codec) {
		codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
		g_private_set(&key, codec);
	}
	return codec;
}

static int load_node(void *ctx, void **ret_data, size_t *ret_size)
{
	struct load *l = ctx;
	g_autofree struct snap_node *node = g_new(struct snap_node, 1);
	int r = snap_reader_node(l->pages->reader, (guint)l->index, node);

	uint64_t stored = 0;

	for (guint i = 0; r == 0 && i < node->n; i++)
		stored += node->entries[i].stored;
	if (r == 0 && stored != l->entry->stored)
		r = -EBADMSG;
	if (r < 0)
		return damaged(l->pages, "map node", l->entry->offset, r);
	COUNT(l->pages->loader->bytes_read, l->entry->length);
	*ret_size = sizeof(*node);
	*ret_data = g_steal_pointer(&node);
	return 0;
}

static int load_leaf(void *ctx, void **ret_data, size_t *ret_size)
{
	struct load *l = ctx;
	struct snap_leaf leaf;
	int r = snap_reader_leaf(l->pages->reader, l->index, l->entry, &leaf);

	uint32_t stored = 0;

	for (guint i = 0; r == 0 && i < leaf.n; i++)
		if (leaf.segments[i].kind != SNAP_SEGMENT_ZERO)
			stored += leaf.segments[i].count;
	if (r == 0 && stored != l->entry->stored)
		r = -EBADMSG;
	if (r < 0)
		return damaged(l->pages, "map leaf", l->entry->offset, r);
	COUNT(l->pages->loader->bytes_read, l->entry->length);
	*ret_size = offsetof(struct snap_leaf, segments) +
		    leaf.n * sizeof(leaf.segments[0]);
	*ret_data = g_memdup2(&leaf, *ret_size);
	return 0;
}

/* Decompresses a whole extent. */
static int fetch_extent(SnapPages *pages, const struct snap_segment *s,
			void *ret)
{
	int r = snap_reader_extent(pages->reader, s, thread_codec(), ret);

	if (r < 0)
		return damaged(pages, "extent", s->offset, r);
	COUNT(pages->loader->bytes_read, s->length);
	return 0;
}

static int load_extent(void *ctx, void **ret_data, size_t *ret_size)
{
	struct load *l = ctx;
	size_t size = (size_t)l->segment->pages * SNAP_PAGE;
	g_autofree void *data = g_malloc(size);
	int r = fetch_extent(l->pages, l->segment, data);

	if (r < 0)
		return r;
	*ret_size = size;
	*ret_data = g_steal_pointer(&data);
	return 0;
}

int snap_pages_get_node(SnapPages *pages, guint index,
			const struct snap_cached **ret_frame)
{
	const struct snap_entry *e = &pages->top[index];
	struct load l = { .pages = pages, .index = index, .entry = e };
	struct snap_cache_key key = { pages->id, e->offset, e->length,
				      e->crc32c, KIND_NODE, index };

	return snap_cache_get(pages->loader->cache, &key, load_node, &l,
			      ret_frame);
}

int snap_pages_get_leaf(SnapPages *pages, uint64_t region,
			struct held_leaf *ret_leaf)
{
	struct load l = { .pages = pages, .index = region };
	struct snap_cache_key key;
	const struct snap_cached *frame;
	struct snap_entry entry;
	int r;

	*ret_leaf = (struct held_leaf){ 0 };
	if (region >= pages->n_regions ||
	    !pages->top[region / SNAP_NODE_ENTRIES].length)
		return 0;
	r = snap_pages_get_node(pages, (guint)(region / SNAP_NODE_ENTRIES),
				&frame);
	if (r < 0)
		return r;
	entry = ((const struct snap_node *)frame->data)
			->entries[region % SNAP_NODE_ENTRIES];
	snap_cache_put(pages->loader->cache, frame);
	if (!entry.length)
		return 0;
	l.entry = &entry;
	key = (struct snap_cache_key){ pages->id,    entry.offset, entry.length,
				       entry.crc32c, KIND_LEAF,	   region };
	r = snap_cache_get(pages->loader->cache, &key, load_leaf, &l,
			   &ret_leaf->frame);
	if (r < 0)
		return r;
	ret_leaf->leaf = ret_leaf->frame->data;
	return 0;
}

void snap_pages_put_leaf(SnapPages *pages, struct held_leaf *leaf)
{
	if (leaf->frame)
		snap_cache_put(pages->loader->cache, leaf->frame);
	*leaf = (struct held_leaf){ 0 };
}

static struct snap_cache_key extent_key(const SnapPages *pages,
					const struct snap_segment *segment)
{
	return (struct snap_cache_key){ pages->id,	 segment->offset,
					segment->length, segment->crc32c,
					KIND_EXTENT,	 segment->pages };
}

static int get_extent(SnapPages *pages, const struct snap_segment *segment,
		      const struct snap_cached **ret_frame)
{
	struct load l = { .pages = pages, .segment = segment };
	struct snap_cache_key key = extent_key(pages, segment);

	return snap_cache_get(pages->loader->cache, &key, load_extent, &l,
			      ret_frame);
}

/* The same, but only a cached extent; else NULL. */
static int find_extent(SnapPages *pages, const struct snap_segment *segment,
		       const struct snap_cached **ret_frame)
{
	struct snap_cache_key key = extent_key(pages, segment);

	return snap_cache_find(pages->loader->cache, &key, ret_frame);
}

/* ---- reading ---- */

/* Copies the bytes [from, to) of a region, all in one run. With `once`, no
 * other reader needs the extent: a read of a whole extent does not add it to
 * the cache. */
static int read_segment(SnapPages *pages, const struct snap_segment *s,
			uint64_t from, uint64_t to, bool once, uint8_t *buf)
{
	const struct snap_cached *frame;
	uint64_t skip;
	int r;

	once = once && to - from == (uint64_t)s->pages * SNAP_PAGE;

	if (s->kind != SNAP_SEGMENT_EXTENT) {
		memset(buf, s->kind == SNAP_SEGMENT_FILL ? s->fill : 0,
		       to - from);
		return 0;
	}
	r = once ? find_extent(pages, s, &frame) : get_extent(pages, s, &frame);
	if (r < 0)
		return r;
	if (!frame) {
		r = fetch_extent(pages, s, buf);
		COUNT(pages->loader->errors, r < 0);
		return r;
	}
	skip = from - (uint64_t)s->page * SNAP_PAGE +
	       (uint64_t)s->first * SNAP_PAGE;
	g_assert(skip + (to - from) <= frame->size);
	memcpy(buf, (const uint8_t *)frame->data + skip, to - from);
	snap_cache_put(pages->loader->cache, frame);
	return 0;
}

/* Copies the bytes [from, to) of a region. */
static int read_region(SnapPages *pages, uint64_t region, uint64_t from,
		       uint64_t to, bool once, uint8_t *buf)
{
	struct held_leaf held;
	int r = snap_pages_get_leaf(pages, region, &held);

	if (r < 0)
		return r;
	if (!held.leaf)
		memset(buf, 0, to - from);
	for (guint i = 0; r == 0 && held.leaf && i < held.leaf->n; i++) {
		const struct snap_segment *s = &held.leaf->segments[i];
		uint64_t begin = (uint64_t)s->page * SNAP_PAGE;
		uint64_t end = begin + (uint64_t)s->count * SNAP_PAGE;

		if (end <= from)
			continue;
		if (begin >= to)
			break;
		begin = MAX(begin, from);
		r = read_segment(pages, s, begin, MIN(end, to), once,
				 buf + (begin - from));
	}
	snap_pages_put_leaf(pages, &held);
	return r;
}

/* ---- readahead ---- */

/* A part of one region to be loaded ahead. */
struct ahead {
	SnapPages *pages;
	uint64_t region;
	uint64_t from;
	uint64_t to;
};

/* With more parts than this waiting, the threads do not keep up and readahead
 * would only slow them. */
#define AHEAD_QUEUE_MAX 64
#define AHEAD_STRETCH (256 * SNAP_KIB)

static void ahead_load(const struct ahead *a)
{
	SnapCache *cache = a->pages->loader->cache;
	struct held_leaf held;

	if (snap_pages_get_leaf(a->pages, a->region, &held) < 0)
		return;
	for (guint i = 0; held.leaf && i < held.leaf->n; i++) {
		const struct snap_segment *s = &held.leaf->segments[i];
		uint64_t begin = (uint64_t)s->page * SNAP_PAGE;
		const struct snap_cached *frame;

		if (s->kind != SNAP_SEGMENT_EXTENT || begin < a->from)
			continue;
		if (begin >= a->to || get_extent(a->pages, s, &frame) < 0)
			break;
		COUNT(a->pages->loader->readahead, 1);
		snap_cache_put(cache, frame);
	}
	snap_pages_put_leaf(a->pages, &held);
}

static void ahead_work(gpointer data, gpointer user_data)
{
	g_autofree struct ahead *a = data;

	ahead_load(a);
	snap_pages_unref(a->pages);
}

static void read_ahead(SnapPages *pages, uint64_t offset, uint64_t size,
		       struct snap_pages_hint *hint)
{
	SnapLoader *loader = pages->loader;
	uint64_t from, to;

	if (!snap_readahead_next(hint, offset, size, loader->window, &from,
				 &to))
		return;
	to = MIN(to, pages->n_regions * SNAP_REGION);
	while (from < to &&
	       g_thread_pool_unprocessed(loader->ahead) < AHEAD_QUEUE_MAX) {
		uint64_t region = from / SNAP_REGION;
		uint64_t end = MIN(from / AHEAD_STRETCH * AHEAD_STRETCH +
					   AHEAD_STRETCH,
				   to);
		struct ahead *a = g_new(struct ahead, 1);

		*a = (struct ahead){ snap_pages_ref(pages), region,
				     from - region * SNAP_REGION,
				     end - region * SNAP_REGION };
		g_thread_pool_push(loader->ahead, a, NULL);
		from = end;
	}
}

int snap_pages_read(SnapPages *pages, void *buf, size_t size, uint64_t offset,
		    struct snap_pages_hint *hint)
{
	uint8_t *to = buf;

	if (hint)
		read_ahead(pages, offset, size, hint);
	COUNT(pages->loader->bytes_out, size);
	while (size > 0) {
		uint64_t region = offset / SNAP_REGION;
		uint64_t from = offset % SNAP_REGION;
		size_t n = MIN(size, SNAP_REGION - from);
		int r = read_region(pages, region, from, from + n, !hint, to);

		if (r < 0)
			return r;
		to += n;
		offset += n;
		size -= n;
	}
	return 0;
}
