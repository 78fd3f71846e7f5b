/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frames of a snapshot in the cache: nodes and leaves of the map, extents.
 * All are in the same cache, so one number bounds the memory of a mount.
 */
#include <string.h>

#include "format/base/cleanup.h"
#include "format/base/log.h"
#include "fs/load/load-internal.h"

enum kind {
	KIND_NODE,
	KIND_LEAF,
	KIND_EXTENT,
};

/* What the cache needs to load a frame. */
struct load {
	SnapPages *pages;
	uint64_t index; /* of the node or region */
	const struct snap_entry *entry;
	const struct snap_segment *segment;
	const struct snap_stretch *bytes; /* of a leaf that was read, or NULL */
};

/* ---- damage ---- */

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
static int damaged(SnapPages *pages, guint layer, const char *what,
		   uint64_t offset, int r)
{
	char uuid[SNAP_UUID_TEXT] = "";

	if (layer)
		snap_uuid_text(snap_pages_meta(pages)->layers[layer - 1].uuid,
			       uuid);
	/* No offset has the bits of the layer. */
	if (is_news(pages, offset | (uint64_t)layer << 56))
		snap_log(SNAP_LOG_ERROR,
			 "%s: %s at byte %" G_GUINT64_FORMAT " of its %s%s: %s",
			 pages->name, what, offset,
			 layer ? "parent " : "snapshot file", uuid,
			 r == -EBADMSG ? "damaged" : g_strerror(-r));
	return r;
}

static void count_read(SnapPages *pages, uint64_t bytes)
{
	SNAP_LOADER_COUNT(pages->loader, bytes_read, bytes);
}

/* ---- nodes ---- */

static int load_node(void *ctx, void *data, size_t size)
{
	struct load *l = ctx;
	struct snap_node *node = data;
	int r = snap_reader_node(l->pages->reader, (guint)l->index, node);

	if (r < 0)
		return damaged(l->pages, 0, "map node", l->entry->offset, r);
	count_read(l->pages, l->entry->length);
	return 0;
}

int snap_pages_get_node(SnapPages *pages, guint index,
			const struct snap_cached **ret_frame)
{
	const struct snap_entry *e = &pages->top[index];
	struct load l = { .pages = pages, .index = index, .entry = e };
	struct snap_cache_key key = { pages->id, e->offset, e->length,
				      e->crc32c, KIND_NODE, index };
	struct snap_cache_source source = { load_node, &l,
					    sizeof(struct snap_node), true };

	return snap_cache_get(pages->loader->cache, &key, &source, ret_frame);
}

/* ---- leaves ---- */

static int load_leaf(void *ctx, void *data, size_t size)
{
	struct load *l = ctx;
	struct snap_leaf leaf;
	int r = snap_reader_leaf_at(l->pages->reader, l->bytes, l->index,
				    l->entry, &leaf);

	if (r < 0)
		return damaged(l->pages, 0, "map leaf", l->entry->offset, r);
	if (!l->bytes)
		count_read(l->pages, l->entry->length);
	g_assert(size == snap_leaf_size(leaf.n));
	memcpy(data, &leaf, size);
	return 0;
}

static struct snap_cache_key leaf_key(const SnapPages *pages, uint64_t region,
				      const struct snap_entry *e)
{
	return (struct snap_cache_key){ pages->id, e->offset, e->length,
					e->crc32c, KIND_LEAF, region };
}

static struct snap_cache_source leaf_source(struct load *l)
{
	return (struct snap_cache_source){
		load_leaf, l, snap_leaf_size(snap_entry_segments(l->entry)),
		true
	};
}

/* The entry of a region; its length is 0 where all of it is zero. */
static int get_entry(SnapPages *pages, uint64_t region,
		     struct snap_entry *ret_entry)
{
	const struct snap_cached *frame;
	int r;

	memset(ret_entry, 0, sizeof(*ret_entry));
	if (region >= pages->n_regions ||
	    !pages->top[region / SNAP_NODE_ENTRIES].length)
		return 0;
	r = snap_pages_get_node(pages, (guint)(region / SNAP_NODE_ENTRIES),
				&frame);
	if (r < 0)
		return r;
	*ret_entry = ((const struct snap_node *)frame->data)
			     ->entries[region % SNAP_NODE_ENTRIES];
	snap_cache_put(pages->loader->cache, frame);
	return 0;
}

int snap_pages_get_leaf(SnapPages *pages, uint64_t region,
			struct snap_held_leaf *ret_leaf)
{
	struct snap_entry entry;
	struct load l = { .pages = pages, .index = region, .entry = &entry };
	struct snap_cache_source source;
	struct snap_cache_key key;
	int r = get_entry(pages, region, &entry);

	*ret_leaf = (struct snap_held_leaf){ 0 };
	if (r < 0 || !entry.length)
		return r;
	key = leaf_key(pages, region, &entry);
	source = leaf_source(&l);
	r = snap_cache_get(pages->loader->cache, &key, &source,
			   &ret_leaf->frame);
	if (r < 0)
		return r;
	ret_leaf->leaf = ret_leaf->frame->data;
	return 0;
}

void snap_pages_put_leaf(SnapPages *pages, struct snap_held_leaf *leaf)
{
	if (leaf->frame)
		snap_cache_put(pages->loader->cache, leaf->frame);
	*leaf = (struct snap_held_leaf){ 0 };
}

bool snap_pages_has_leaf(SnapPages *pages, uint64_t region)
{
	struct snap_cache_key key;
	struct snap_entry entry;

	if (get_entry(pages, region, &entry) < 0 || !entry.length)
		return true;
	key = leaf_key(pages, region, &entry);
	return snap_cache_has(pages->loader->cache, &key);
}

void snap_pages_leaf_ahead(SnapPages *pages, uint64_t region,
			   const struct snap_entry *entry,
			   const struct snap_stretch *bytes)
{
	struct load l = {
		.pages = pages, .index = region, .entry = entry, .bytes = bytes
	};
	struct snap_cache_key key = leaf_key(pages, region, entry);
	struct snap_cache_source source = leaf_source(&l);

	snap_cache_ahead(pages->loader->cache, &key, &source);
}

/* ---- extents ---- */

int snap_pages_fetch_extent(SnapPages *pages, const struct snap_segment *s,
			    void *ret)
{
	SnapCodec *codec = snap_loader_codec(pages->loader);
	int r = snap_reader_extent(pages->reader, s, codec, ret);

	snap_loader_put_codec(pages->loader, codec);
	if (r < 0)
		return damaged(pages, s->layer, "extent", s->offset, r);
	count_read(pages, s->length);
	return 0;
}

static int load_extent(void *ctx, void *data, size_t size)
{
	struct load *l = ctx;

	return snap_pages_fetch_extent(l->pages, l->segment, data);
}

static struct snap_cache_key extent_key(const SnapPages *pages,
					const struct snap_segment *segment)
{
	return (struct snap_cache_key){ pages->files[segment->layer],
					segment->offset,
					segment->length,
					segment->crc32c,
					KIND_EXTENT,
					segment->pages };
}

static struct snap_cache_source extent_source(struct load *l)
{
	return (struct snap_cache_source){
		load_extent, l, (size_t)l->segment->pages * SNAP_PAGE, false
	};
}

int snap_pages_get_extent(SnapPages *pages, const struct snap_segment *segment,
			  const struct snap_cached **ret_frame)
{
	struct load l = { .pages = pages, .segment = segment };
	struct snap_cache_key key = extent_key(pages, segment);
	struct snap_cache_source source = extent_source(&l);

	return snap_cache_get(pages->loader->cache, &key, &source, ret_frame);
}

int snap_pages_find_extent(SnapPages *pages, const struct snap_segment *segment,
			   const struct snap_cached **ret_frame)
{
	struct snap_cache_key key = extent_key(pages, segment);

	return snap_cache_find(pages->loader->cache, &key, ret_frame);
}

/* Bytes of one file that follow one another. */
struct stretch {
	guint layer, extents;
	uint64_t begin, end;
};

/* True for an extent that is in the stretch: an extent has several segments
 * where pages between are zero. */
static bool in_stretch(const struct stretch *now, const struct snap_segment *s)
{
	return now->layer == s->layer && now->begin <= s->offset &&
	       s->offset + s->length <= now->end;
}

static void expect(SnapPages *pages, const struct stretch *s)
{
	if (s->extents)
		snap_reader_expect(pages->reader, s->layer, s->begin,
				   s->end - s->begin);
}

void snap_pages_extents_soon(SnapPages *pages, const struct snap_leaf *leaf,
			     uint64_t from, uint64_t to)
{
	struct stretch now = { 0 };

	for (guint i = 0; i < leaf->n; i++) {
		const struct snap_segment *s = &leaf->segments[i];
		uint64_t begin = (uint64_t)s->page * SNAP_PAGE;
		struct snap_cache_key key;

		if (s->kind != SNAP_SEGMENT_EXTENT ||
		    begin + (uint64_t)s->count * SNAP_PAGE <= from)
			continue;
		if (begin >= to)
			break;
		key = extent_key(pages, s);
		if (in_stretch(&now, s) ||
		    snap_cache_has(pages->loader->cache, &key))
			continue;
		if (now.layer != s->layer || now.end != s->offset ||
		    now.end + s->length - now.begin > SNAP_EXPECT_MAX) {
			expect(pages, &now);
			now = (struct stretch){ .layer = s->layer,
						.begin = s->offset };
		}
		now.extents++;
		now.end = s->offset + s->length;
	}
	expect(pages, &now);
}

int snap_pages_extent_ahead(SnapPages *pages,
			    const struct snap_segment *segment)
{
	struct load l = { .pages = pages, .segment = segment };
	struct snap_cache_key key = extent_key(pages, segment);
	struct snap_cache_source source = extent_source(&l);

	return snap_cache_ahead(pages->loader->cache, &key, &source);
}
