/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parent's pages are read past the cache of the mount: a save goes through
 * all of them once, and nobody reads them afterwards. A worker keeps the map of
 * the region that it works on, and the last extents: pages come in the order of
 * memory for the most part, and the extents of two snapshots begin at
 * different pages.
 */
#include "fs/save/compare.h"

#include <string.h>

#define EXTENTS 3

struct extent {
	bool is_whole;
	struct snap_segment of; /* its layer and offset count */
	uint8_t bytes[SNAP_EXTENT_BYTES];
};

struct SnapCompare {
	SnapCodec *codec;
	SnapReader *reader;
	uint64_t id; /* of the snapshot; 0: none yet */
	uint64_t region;
	guint index; /* of the node */
	bool has_node;
	bool has_leaf;
	struct snap_node node;
	struct snap_leaf leaf;
	guint at;   /* in the leaf: the run of the last page */
	guint next; /* of the extents, to be replaced */
	struct extent extents[EXTENTS];
};

SnapCompare *snap_compare_new(void)
{
	SnapCompare *c = g_new0(SnapCompare, 1);

	c->codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	return c;
}

void snap_compare_free(SnapCompare *c)
{
	if (!c)
		return;
	snap_codec_free(c->codec);
	g_free(c);
}

static void forget(SnapCompare *c)
{
	c->has_node = c->has_leaf = false;
	for (guint i = 0; i < EXTENTS; i++)
		c->extents[i].is_whole = false;
}

static bool go_to_node(SnapCompare *c, guint index)
{
	guint n;

	if (c->has_node && c->index == index)
		return true;
	snap_reader_top(c->reader, &n);
	c->index = index;
	c->has_node =
		index < n && snap_reader_node(c->reader, index, &c->node) == 0;
	return c->has_node;
}

bool snap_compare_region(SnapCompare *c, SnapReader *reader, uint64_t id,
			 uint64_t region)
{
	guint entry = (guint)(region % SNAP_NODE_ENTRIES);

	if (c->id != id)
		forget(c);
	c->reader = reader;
	c->id = id;
	if (c->has_leaf && c->region == region)
		return true;
	c->region = region;
	c->at = 0;
	c->has_leaf = go_to_node(c, (guint)(region / SNAP_NODE_ENTRIES)) &&
		      entry < c->node.n &&
		      snap_reader_leaf(reader, region, &c->node.entries[entry],
				       &c->leaf) == 0;
	return c->has_leaf;
}

/* The run of the region that holds a page. */
static const struct snap_segment *find(SnapCompare *c, guint page)
{
	if (c->leaf.segments[c->at].page > page)
		c->at = 0;
	while (page >=
	       c->leaf.segments[c->at].page + c->leaf.segments[c->at].count)
		c->at++;
	return &c->leaf.segments[c->at];
}

/* Gives the bytes of the extent of a run, or NULL. */
static const uint8_t *read_extent(SnapCompare *c, const struct snap_segment *s)
{
	struct extent *e;

	for (guint i = 0; i < EXTENTS; i++) {
		e = &c->extents[i];
		if (e->is_whole && e->of.layer == s->layer &&
		    e->of.offset == s->offset)
			return e->bytes;
	}
	e = &c->extents[c->next];
	c->next = (c->next + 1) % EXTENTS;
	e->of = *s;
	e->is_whole = snap_reader_extent(c->reader, s, c->codec, e->bytes) == 0;
	return e->is_whole ? e->bytes : NULL;
}

bool snap_compare_page(SnapCompare *c, guint page, const void *data,
		       unsigned layers, struct snap_segment *ret_run)
{
	const struct snap_segment *s = find(c, page);
	guint in = s->first + (page - s->page);
	const uint8_t *bytes;

	if (s->kind != SNAP_SEGMENT_EXTENT || !(layers >> s->layer & 1))
		return false;
	bytes = read_extent(c, s);
	if (!bytes || memcmp(bytes + (size_t)in * SNAP_PAGE, data, SNAP_PAGE))
		return false;
	*ret_run = *s;
	ret_run->page = (uint16_t)page;
	ret_run->count = 1;
	ret_run->first = (uint8_t)in;
	return true;
}
