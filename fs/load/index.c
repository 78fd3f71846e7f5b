/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Questions to the map: which pages are stored, where the next one is, and
 * where the record of a page is in a synthesized stream.
 *
 * The map is a tree with the number of stored pages at every level. So a
 * question about the pages 0 to n is answered by sums over the top and one
 * node, and one leaf at the end.
 */
#include "fs/load/load-internal.h"

#include <string.h>

/* The runs of a held leaf; `empty` replaces a leaf that does not exist. */
static const struct snap_leaf *leaf_or(const struct snap_held_leaf *held,
				       const struct snap_leaf *empty)
{
	return held->leaf ? held->leaf : empty;
}

/* Finds the entry of a region. It is NULL where all of its node is zero; else
 * *ret_frame holds the node. */
static int region_entry(SnapPages *pages, uint64_t region,
			const struct snap_cached **ret_frame,
			const struct snap_entry **ret_entry)
{
	guint index = (guint)(region / SNAP_NODE_ENTRIES);
	const struct snap_node *node;
	int r;

	*ret_frame = NULL;
	*ret_entry = NULL;
	if (region >= pages->n_regions || !pages->top[index].length)
		return 0;
	r = snap_pages_get_node(pages, index, ret_frame);
	if (r < 0)
		return r;
	node = (*ret_frame)->data;
	*ret_entry = &node->entries[region % SNAP_NODE_ENTRIES];
	return 0;
}

/* True when the map shows without a leaf that all pages of a region are stored.
 * -errno. */
static int region_full(SnapPages *pages, uint64_t region)
{
	const struct snap_cached *frame;
	const struct snap_entry *entry;
	int r = region_entry(pages, region, &frame, &entry);

	if (r < 0)
		return r;
	r = entry && entry->stored == SNAP_REGION_PAGES;
	if (frame)
		snap_cache_put(pages->loader->cache, frame);
	return r;
}

int snap_pages_stored(SnapPages *pages, uint64_t region,
		      uint64_t ret[SNAP_REGION_PAGES / 64])
{
	struct snap_held_leaf held;
	int r = region_full(pages, region);

	if (r > 0)
		memset(ret, 0xff, SNAP_REGION_PAGES / 8);
	if (r == 0)
		r = snap_pages_get_leaf(pages, region, &held);
	if (r != 0)
		return MIN(r, 0);
	memset(ret, 0, SNAP_REGION_PAGES / 8);
	for (guint i = 0; held.leaf && i < held.leaf->n; i++) {
		const struct snap_segment *s = &held.leaf->segments[i];

		if (s->kind == SNAP_SEGMENT_ZERO)
			continue;
		for (guint p = s->page; p < s->page + (guint)s->count; p++)
			ret[p / 64] |= (uint64_t)1 << p % 64;
	}
	snap_pages_put_leaf(pages, &held);
	return 0;
}

/* How far a search can step from `page` without a leaf: to the end of its
 * region if all of it is zero (*ret_zero) or stored, or to the end of its node
 * if all of that is zero. */
static int step_over(SnapPages *pages, uint64_t page, uint64_t *ret_next,
		     bool *ret_zero)
{
	uint64_t region = page / SNAP_REGION_PAGES;
	const struct snap_cached *frame;
	const struct snap_entry *entry;
	int r = region_entry(pages, region, &frame, &entry);

	if (r < 0)
		return r;
	*ret_next = page;
	*ret_zero = true;
	if (!entry)
		*ret_next = (region / SNAP_NODE_ENTRIES + 1) *
			    SNAP_NODE_ENTRIES * SNAP_REGION_PAGES;
	else if (!entry->length || entry->stored == SNAP_REGION_PAGES)
		*ret_next = (region + 1) * SNAP_REGION_PAGES;
	if (entry && entry->length)
		*ret_zero = false;
	if (frame)
		snap_cache_put(pages->loader->cache, frame);
	return 0;
}

/* Finds the first page of a region, from `page` on, that is zero or stored; the
 * end of the region if there is none. */
static guint leaf_seek(const struct snap_leaf *leaf, guint page, gboolean zero)
{
	for (guint i = 0; i < leaf->n; i++) {
		const struct snap_segment *s = &leaf->segments[i];

		if (s->page + (guint)s->count <= page)
			continue;
		if ((s->kind == SNAP_SEGMENT_ZERO) == !!zero)
			return MAX(page, s->page);
	}
	return SNAP_REGION_PAGES;
}

int snap_pages_seek(SnapPages *pages, uint64_t page, uint64_t end,
		    gboolean zero, uint64_t *ret_page)
{
	while (page < end) {
		uint64_t region = page / SNAP_REGION_PAGES, next;
		struct snap_held_leaf held;
		bool is_zero;
		guint found;
		int r = step_over(pages, page, &next, &is_zero);

		if (r < 0)
			return r;
		if (next > page) {
			if (is_zero == !!zero)
				break;
			page = next;
			continue;
		}
		r = snap_pages_get_leaf(pages, region, &held);
		if (r < 0)
			return r;
		found = leaf_seek(held.leaf, (guint)(page % SNAP_REGION_PAGES),
				  zero);
		snap_pages_put_leaf(pages, &held);
		page = region * SNAP_REGION_PAGES + found;
		if (found < SNAP_REGION_PAGES)
			break;
	}
	*ret_page = MIN(page, end);
	return 0;
}

/* The bytes of the records of `n` pages, of which `stored` are stored. */
static uint64_t records_bytes(const struct snap_pages_records *rec, uint64_t n,
			      uint64_t stored)
{
	return stored / rec->unit * rec->stored +
	       (n - stored) / rec->unit * rec->zero;
}

/* Finds the page within a region whose record holds the byte `offset` of the
 * region's records. */
static void leaf_find(const struct snap_leaf *leaf,
		      const struct snap_pages_records *rec, uint64_t offset,
		      guint limit, guint *ret_page, uint64_t *ret_offset)
{
	uint64_t at = 0;
	guint page = 0;

	for (guint i = 0; i < leaf->n && page < limit; i++) {
		const struct snap_segment *s = &leaf->segments[i];
		uint32_t size =
			s->kind == SNAP_SEGMENT_ZERO ? rec->zero : rec->stored;
		guint n = s->count / rec->unit;
		uint64_t skip = MIN(n, (offset - at) / size);

		at += skip * size;
		page = s->page + (guint)skip * rec->unit;
		if (skip < n)
			break;
	}
	*ret_page = page;
	*ret_offset = at;
}

/* A search over the regions of a range of records; see snap_pages_find(). */
struct find {
	const struct snap_pages_records *rec;
	uint64_t region; /* the current region */
	uint64_t at;	 /* the byte where its records begin */
	uint64_t offset; /* the byte that is searched */
};

/* The pages of the range in `n` regions from `region` on. */
static uint64_t find_pages(const struct find *f, uint64_t n)
{
	uint64_t from = f->region * SNAP_REGION_PAGES;

	return MIN(from + n * SNAP_REGION_PAGES, f->rec->end) - from;
}

/* Steps over `n` regions with `stored` stored pages, unless they hold the
 * byte. */
static bool find_step(struct find *f, uint64_t n, uint64_t stored)
{
	uint64_t pages = find_pages(f, n);
	uint64_t bytes = records_bytes(f->rec, pages, MIN(stored, pages));

	if (f->offset < f->at + bytes)
		return false;
	f->at += bytes;
	f->region += n;
	return true;
}

/* Walks to the region that holds the byte, or to the end of the range. */
static int find_region(SnapPages *pages, struct find *f)
{
	uint64_t end = snap_div_up(f->rec->end, SNAP_REGION_PAGES);

	while (f->region < end) {
		uint64_t left = end - f->region;
		const struct snap_cached *frame;
		const struct snap_entry *entry;
		bool stepped;
		int r;

		if (f->region % SNAP_NODE_ENTRIES == 0 &&
		    left >= SNAP_NODE_ENTRIES &&
		    find_step(f, SNAP_NODE_ENTRIES,
			      pages->top[f->region / SNAP_NODE_ENTRIES].stored))
			continue;
		r = region_entry(pages, f->region, &frame, &entry);
		if (r < 0)
			return r;
		do {
			stepped = find_step(f, 1, entry ? entry->stored : 0);
			if (entry)
				entry++;
		} while (stepped && f->region < end &&
			 f->region % SNAP_NODE_ENTRIES);
		if (frame)
			snap_cache_put(pages->loader->cache, frame);
		if (!stepped)
			break;
	}
	return 0;
}

int snap_pages_find(SnapPages *pages, const struct snap_pages_records *records,
		    uint64_t offset, uint64_t *ret_page, uint64_t *ret_offset)
{
	static const struct snap_leaf empty = {
		.n = 1, .segments = { { .count = SNAP_REGION_PAGES } }
	};
	struct find f = { .rec = records,
			  .region = records->first / SNAP_REGION_PAGES,
			  .offset = offset };
	struct snap_held_leaf held;
	uint64_t within;
	guint page;
	int r = find_region(pages, &f);

	if (r < 0)
		return r;
	if (f.region * SNAP_REGION_PAGES >= records->end) {
		*ret_page = records->end;
		*ret_offset = f.at;
		return 0;
	}
	r = snap_pages_get_leaf(pages, f.region, &held);
	if (r < 0)
		return r;
	leaf_find(leaf_or(&held, &empty), records, offset - f.at,
		  (guint)find_pages(&f, 1), &page, &within);
	snap_pages_put_leaf(pages, &held);
	*ret_page = f.region * SNAP_REGION_PAGES + page;
	*ret_offset = f.at + within;
	return 0;
}
