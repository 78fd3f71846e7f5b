/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/store/side.h"

#include <inttypes.h>
#include <string.h>

#include "format/base/error.h"

/* Pages that came out of order alternate between extents. */
#define EXTENTS 4

struct extent {
	struct snap_segment of; /* its layer and offset; length 0: none */
	uint8_t bytes[SNAP_EXTENT_BYTES];
};

struct SnapSide {
	SnapReader *reader;
	SnapCodec *codec;
	char *file;
	guint index; /* of the node; G_MAXUINT: none yet */
	struct snap_node node;
	struct snap_leaf leaf;
	uint8_t fill[SNAP_PAGE];
	guint next; /* of the extents, to be replaced */
	struct extent extents[EXTENTS];
};

SnapSide *snap_side_new(SnapReader *reader, const char *file)
{
	SnapSide *s = g_new0(SnapSide, 1);

	s->reader = reader;
	s->file = g_strdup(file);
	s->codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	s->index = G_MAXUINT;
	return s;
}

void snap_side_free(SnapSide *s)
{
	if (!s)
		return;
	snap_reader_free(s->reader);
	snap_codec_free(s->codec);
	g_free(s->file);
	g_free(s);
}

SnapReader *snap_side_reader(const SnapSide *s)
{
	return s->reader;
}

static int failed(const SnapSide *s, int r, const char *what, uint64_t offset,
		  GError **error)
{
	if (r == -EBADMSG)
		return snap_fail(error, EBADMSG,
				 "%s: %s is damaged at byte %" PRIu64, s->file,
				 what, offset);
	return snap_fail_errno(error, -r, "%s: %s", s->file, what);
}

/* ---- the map ---- */

static int go_to_node(SnapSide *s, guint index, GError **error)
{
	guint n;
	const struct snap_entry *top = snap_reader_top(s->reader, &n);
	int r;

	if (s->index == index)
		return 0;
	s->index = G_MAXUINT;
	if (index >= n)
		return snap_fail(error, EBADMSG, "%s: its map is too short",
				 s->file);
	r = snap_reader_node(s->reader, index, &s->node);
	if (r < 0)
		return failed(s, r, "its map", top[index].offset, error);
	s->index = index;
	return 0;
}

int snap_side_region(SnapSide *s, uint64_t page,
		     const struct snap_leaf **ret_leaf, GError **error)
{
	uint64_t region = page / SNAP_REGION_PAGES;
	guint entry = (guint)(region % SNAP_NODE_ENTRIES);
	int r = go_to_node(s, (guint)(region / SNAP_NODE_ENTRIES), error);

	if (r < 0)
		return r;
	if (entry >= s->node.n)
		return snap_fail(error, EBADMSG, "%s: its map is too short",
				 s->file);
	r = snap_reader_leaf(s->reader, region, &s->node.entries[entry],
			     &s->leaf);
	if (r < 0)
		return failed(s, r, "its map", s->node.entries[entry].offset,
			      error);
	*ret_leaf = &s->leaf;
	return 0;
}

/* ---- pages ---- */

/* Says which file the damage is in: its own, or that of a parent. */
static int page_failed(const SnapSide *s, int r, const struct snap_segment *run,
		       GError **error)
{
	g_autofree char *uuid = NULL, *what = NULL;

	if (!run->layer)
		return failed(s, r, "a page", run->offset, error);
	uuid = snap_uuid_dup(
		snap_reader_meta(s->reader)->layers[run->layer - 1].uuid);
	what = g_strdup_printf("a page in its parent %s", uuid);
	return failed(s, r, what, run->offset, error);
}

static int read_extent(SnapSide *s, const struct snap_segment *run,
		       const uint8_t **ret_bytes, GError **error)
{
	struct extent *e;
	int r;

	for (guint i = 0; i < EXTENTS; i++) {
		e = &s->extents[i];
		if (e->of.length && e->of.layer == run->layer &&
		    e->of.offset == run->offset) {
			*ret_bytes = e->bytes;
			return 0;
		}
	}
	e = &s->extents[s->next];
	s->next = (s->next + 1) % EXTENTS;
	e->of.length = 0;
	r = snap_reader_extent(s->reader, run, s->codec, e->bytes);
	if (r < 0)
		return page_failed(s, r, run, error);
	e->of = *run;
	*ret_bytes = e->bytes;
	return 0;
}

int snap_side_page(SnapSide *s, const struct snap_segment *run, guint page,
		   const void **ret_bytes, GError **error)
{
	const uint8_t *bytes = NULL;
	int r;

	if (run->kind != SNAP_SEGMENT_EXTENT) {
		memset(s->fill, run->kind == SNAP_SEGMENT_FILL ? run->fill : 0,
		       sizeof(s->fill));
		*ret_bytes = s->fill;
		return 0;
	}
	r = read_extent(s, run, &bytes, error);
	if (r < 0)
		return r;
	*ret_bytes =
		bytes + (size_t)(run->first + page - run->page) * SNAP_PAGE;
	return 0;
}
