/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is brought in before a reader asks for it: the map of a snapshot, once
 * somebody is about to read it, and extents, for one who reads in order.
 *
 * The map lies together at the end of the file, so it comes in with few reads;
 * as long as the cache keeps it, a page costs one read of the store. A map that
 * would fill too much of the cache comes in part; then a missing leaf brings
 * those behind it along. Errors are dropped, because the reader meets them
 * again.
 */
#include <string.h>

#include "format/base/cleanup.h"
#include "fs/load/load-internal.h"
#include "fs/load/readahead.h"

/* Bytes of the map that are read at a time. */
#define MAP_STRETCH (256 * SNAP_KIB)
#define MAP_NEAR (64 * SNAP_KIB)
/* With less left, neither a node nor a leaf may come. */
#define MAP_LEAST (SNAP_LEAF_MAX + sizeof(struct snap_node))

/* Bytes of memory that one job loads. */
#define AHEAD_STRETCH (256 * SNAP_KIB)

/* ---- the map ---- */

/* What became of the map (SnapPages.map). */
enum {
	MAP_NOT_ASKED,
	MAP_COMES,
	MAP_WHOLE,
	MAP_PART,
};

/* The leaves from `region` on are to come. */
struct map_ahead {
	struct snap_ahead ahead; /* first */
	SnapPages *pages;	 /* a reference */
	uint64_t region;
	uint64_t left;	/* bytes that may still be read */
	size_t stretch; /* bytes at a time */
	bool whole;	/* all of the map is wanted */
};

/* The leaves that one read brings: those of a node, as long as one follows the
 * other. Returns how many regions they are from `first` on. */
static guint stretch_of(const struct snap_node *node, guint first, size_t most,
			uint64_t *ret_offset, size_t *ret_size)
{
	uint64_t begin = 0, end = 0;
	guint i;

	for (i = first; i < node->n; i++) {
		const struct snap_entry *e = &node->entries[i];

		if (!e->length)
			continue;
		if (!end)
			begin = end = e->offset;
		if (e->offset != end || end + e->length - begin > most)
			break;
		end += e->length;
	}
	*ret_offset = begin;
	*ret_size = end - begin;
	return MAX(i - first, 1);
}

/* Puts the leaves of `n` regions into the cache. */
static void leaves_ahead(SnapPages *pages, uint64_t region,
			 const struct snap_entry *entries, guint n,
			 const struct snap_stretch *bytes)
{
	for (guint i = 0; i < n; i++)
		if (entries[i].length)
			snap_pages_leaf_ahead(pages, region + i, &entries[i],
					      bytes);
}

/* Brings the next leaves of a node, and moves on. Returns 0 or -errno. */
static int map_step(struct map_ahead *m, const struct snap_node *node)
{
	guint first = (guint)(m->region % SNAP_NODE_ENTRIES), n;
	struct snap_stretch bytes;
	g_autofree void *data = NULL;
	int r = 0;

	/* The reader meets it again. */
	if (node->entries[first].length > SNAP_LEAF_MAX)
		return -EBADMSG;
	n = stretch_of(node, first, MIN(m->stretch, m->left), &bytes.offset,
		       &bytes.size);
	if (bytes.size) {
		bytes.bytes = data = g_try_malloc(bytes.size);
		r = data ? snap_reader_stretch(m->pages->reader, bytes.offset,
					       bytes.size, data)
			 : -ENOMEM;
		if (r < 0)
			return r;
		SNAP_LOADER_COUNT(m->pages->loader, bytes_read, bytes.size);
		leaves_ahead(m->pages, m->region, &node->entries[first], n,
			     &bytes);
	}
	m->left -= bytes.size;
	m->region += n;
	return 0;
}

/* Brings the leaves of one stretch. False: no more will come. */
static bool map_go_on(struct map_ahead *m)
{
	SnapPages *pages = m->pages;
	guint index = (guint)(m->region / SNAP_NODE_ENTRIES);
	const struct snap_cached *frame;
	int r;

	if (m->region >= pages->n_regions || m->left < MAP_LEAST ||
	    g_atomic_int_get(&pages->refs) == 1)
		return false;
	if (!m->whole && snap_pages_has_leaf(pages, m->region))
		return false;
	if (!pages->top[index].length) {
		m->region = ((uint64_t)index + 1) * SNAP_NODE_ENTRIES;
		return true;
	}
	r = snap_pages_get_node(pages, index, &frame);
	if (r < 0)
		return false;
	if (m->region % SNAP_NODE_ENTRIES == 0)
		m->left -= sizeof(struct snap_node);
	r = map_step(m, frame->data);
	snap_cache_put(pages->loader->cache, frame);
	return r == 0;
}

static void map_end(struct map_ahead *m)
{
	SnapPages *pages = m->pages;

	if (m->whole)
		g_atomic_int_set(&pages->map, m->region >= pages->n_regions
						      ? MAP_WHOLE
						      : MAP_PART);
	g_free(m);
	snap_pages_unref(pages);
}

/* Goes on behind what others want ahead. */
static void map_run(struct snap_ahead *ahead)
{
	struct map_ahead *m = (struct map_ahead *)ahead;

	if (!map_go_on(m) || !snap_loader_ahead(m->pages->loader, ahead))
		map_end(m);
}

static void map_ahead(SnapPages *pages, uint64_t region, uint64_t most,
		      size_t stretch, bool whole)
{
	struct map_ahead *m = g_new(struct map_ahead, 1);

	*m = (struct map_ahead){ .ahead.run = map_run,
				 .pages = snap_pages_ref(pages),
				 .region = region,
				 .left = most,
				 .stretch = stretch,
				 .whole = whole };
	if (!snap_loader_ahead(pages->loader, &m->ahead))
		map_end(m);
}

void snap_pages_expect(SnapPages *pages)
{
	if (g_atomic_int_get(&pages->map) != MAP_NOT_ASKED ||
	    !g_atomic_int_compare_and_exchange(&pages->map, MAP_NOT_ASKED,
					       MAP_COMES))
		return;
	map_ahead(pages, 0, pages->loader->map_most, MAP_STRETCH, true);
	snap_loader_warm(pages->loader);
}

/* ---- extents ---- */

/* A part of one region to be loaded ahead. */
struct extents_ahead {
	struct snap_ahead ahead; /* first */
	SnapPages *pages;	 /* a reference */
	uint64_t region;
	uint64_t from;
	uint64_t to;
};

static void extents_load(const struct extents_ahead *a)
{
	struct snap_held_leaf held;
	int r = snap_pages_get_leaf(a->pages, a->region, &held);

	if (r < 0)
		return;
	for (guint i = 0; r == 0 && held.leaf && i < held.leaf->n; i++) {
		const struct snap_segment *s = &held.leaf->segments[i];
		uint64_t begin = (uint64_t)s->page * SNAP_PAGE;

		if (s->kind != SNAP_SEGMENT_EXTENT || begin < a->from)
			continue;
		if (begin >= a->to)
			break;
		r = snap_pages_extent_ahead(a->pages, s);
	}
	snap_pages_put_leaf(a->pages, &held);
}

static void extents_end(struct extents_ahead *a)
{
	snap_pages_unref(a->pages);
	g_free(a);
}

static void extents_run(struct snap_ahead *ahead)
{
	struct extents_ahead *a = (struct extents_ahead *)ahead;

	extents_load(a);
	extents_end(a);
}

/* The store begins to read all of a window before a thread waits for the first
 * part of it. */
static void soon_run(struct snap_ahead *ahead)
{
	struct extents_ahead *a = (struct extents_ahead *)ahead;

	snap_pages_soon(a->pages, a->region * SNAP_REGION + a->from,
			a->to - a->from);
	extents_end(a);
}

void snap_pages_soon(SnapPages *pages, uint64_t offset, uint64_t size)
{
	for (uint64_t end = offset + size; offset < end;) {
		uint64_t region = offset / SNAP_REGION;
		uint64_t begin = region * SNAP_REGION;
		uint64_t to = MIN(end, begin + SNAP_REGION);
		struct snap_held_leaf held;

		if (snap_pages_get_leaf(pages, region, &held) < 0)
			return;
		if (held.leaf)
			snap_pages_extents_soon(pages, held.leaf,
						offset - begin, to - begin);
		snap_pages_put_leaf(pages, &held);
		offset = to;
	}
}

static void push_ahead(SnapPages *pages, void (*run)(struct snap_ahead *ahead),
		       uint64_t from, uint64_t to)
{
	struct extents_ahead *a = g_new0(struct extents_ahead, 1);
	uint64_t region = from / SNAP_REGION;

	*a = (struct extents_ahead){ { run },
				     snap_pages_ref(pages),
				     region,
				     from - region * SNAP_REGION,
				     to - region * SNAP_REGION };
	if (!snap_loader_ahead(pages->loader, &a->ahead))
		extents_end(a);
}

static void extents_ahead(SnapPages *pages, uint64_t from, uint64_t to)
{
	if (from < to && !snap_loader_busy(pages->loader))
		push_ahead(pages, soon_run, from, to);
	while (from < to && !snap_loader_busy(pages->loader)) {
		uint64_t end = MIN(from / AHEAD_STRETCH * AHEAD_STRETCH +
					   AHEAD_STRETCH,
				   to);

		push_ahead(pages, extents_run, from, end);
		from = end;
	}
}

void snap_pages_ahead(SnapPages *pages, uint64_t offset, uint64_t size,
		      struct snap_pages_hint *hint)
{
	uint64_t region = offset / SNAP_REGION, from, to;

	if (g_atomic_int_get(&pages->map) == MAP_PART &&
	    !snap_loader_busy(pages->loader) &&
	    !snap_pages_has_leaf(pages, region))
		map_ahead(pages, region, MAP_NEAR, MAP_NEAR, false);
	if (snap_readahead_next(hint, offset, size, pages->loader->window,
				&from, &to))
		extents_ahead(pages, from,
			      MIN(to, pages->n_regions * SNAP_REGION));
}
