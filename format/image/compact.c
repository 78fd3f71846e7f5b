/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copies the live pages into a new file, so that replaced pages do not stay in
 * the snapshot.
 *
 * Region by region, an extent whose pages are all live is copied as it is. The
 * live pages of other extents are decompressed and gathered, in page order,
 * into new extents of up to 16 pages. The region's leaf is made anew and
 * replaces the old one. The checksum of every extent is checked, so damage on
 * the disk is found and not copied.
 */
#include <errno.h>
#include <string.h>

#include "format/base/crc32c.h"
#include "format/base/error.h"
#include "format/image/compact-internal.h"
#include "format/image/frame-internal.h"
#include "format/image/ondisk.h"
#include "format/image/writer-internal.h"

struct compact {
	SnapWriter *w;
	SnapFile *old;
	bool all; /* every page moves, also what lies in parents */
	SnapCodec *codec;
	struct snap_leaf from;
	struct snap_leaf to;
	guint n; /* pages that are gathered */
	uint16_t pages[SNAP_EXTENT_PAGES];
	uint8_t gathered[SNAP_EXTENT_BYTES];
	struct snap_segment loaded; /* that has the extent in `extent` */
	uint8_t extent[SNAP_EXTENT_BYTES];
};

/* Reads the extent of a segment into the codec's buffer. */
static int read_extent(struct compact *c, const struct snap_segment *s)
{
	void *frame = snap_codec_buffer(c->codec);
	int r = snap_file_read(c->old, frame, s->length, s->offset);

	if (r < 0)
		return r;
	return snap_crc32c(0, frame, s->length) == s->crc32c ? 0 : -EBADMSG;
}

static void put_run(struct compact *c, const struct snap_segment *run)
{
	struct snap_splice gone;

	c->to.n = snap_leaf_splice(c->to.segments, c->to.n, run, &gone);
}

/* Copies an extent of the old file, and makes all runs of its pages refer to
 * the copy. */
static int copy_extent(struct compact *c, const struct snap_segment *s)
{
	struct snap_entry e = { 0 };
	int r = read_extent(c, s);

	if (r == 0)
		r = snap_writer_append(c->w, snap_codec_buffer(c->codec),
				       s->length, &e);
	if (r < 0)
		return r;
	for (guint i = 0; i < c->from.n; i++) {
		struct snap_segment run = c->from.segments[i];

		if (!snap_leaf_same(&run, s))
			continue;
		run.offset = e.offset;
		put_run(c, &run);
	}
	return 0;
}

/* Writes the gathered pages as an extent. */
static int put_gathered(struct compact *c)
{
	struct snap_segment like = { .kind = SNAP_SEGMENT_EXTENT,
				     .pages = (uint8_t)c->n };
	void *frame = snap_codec_buffer(c->codec);
	struct snap_entry e = { 0 };
	ssize_t size;
	int r;

	if (!c->n)
		return 0;
	size = snap_codec_compress(c->codec, c->gathered, c->n, frame);
	if (size < 0)
		return (int)size;
	r = snap_writer_append(c->w, frame, (size_t)size, &e);
	if (r < 0)
		return r;
	like.offset = e.offset;
	like.length = e.length;
	like.crc32c = e.crc32c;
	for (guint i = 0; i < c->n;) {
		struct snap_segment run;

		i = snap_leaf_run(c->pages, c->n, i, &like, &run);
		put_run(c, &run);
	}
	c->n = 0;
	return 0;
}

/* Brings the extent of a run into `extent`. */
static int load(struct compact *c, const struct snap_segment *s)
{
	struct snap_segment of = *s;
	int r;

	if (snap_leaf_same(&c->loaded, s))
		return 0;
	c->loaded.kind = SNAP_SEGMENT_ZERO;
	if (s->layer) {
		of.layer = (uint8_t)c->w->sources[s->layer - 1].layer;
		r = snap_reader_extent(c->w->sources[s->layer - 1].reader, &of,
				       c->codec, c->extent);
	} else {
		r = read_extent(c, s);
		if (r == 0)
			r = snap_codec_decompress(
				c->codec, snap_codec_buffer(c->codec),
				s->length, c->extent, s->pages);
	}
	if (r == 0)
		c->loaded = *s;
	return r;
}

/* Gathers the pages of a run. */
static int gather(struct compact *c, const struct snap_segment *s)
{
	int r = load(c, s);

	for (guint i = 0; r == 0 && i < s->count; i++) {
		memcpy(c->gathered + (size_t)c->n * SNAP_PAGE,
		       c->extent + (size_t)(s->first + i) * SNAP_PAGE,
		       SNAP_PAGE);
		c->pages[c->n++] = (uint16_t)(s->page + i);
		if (c->n == SNAP_EXTENT_PAGES)
			r = put_gathered(c);
	}
	return r;
}

static int move_segment(struct compact *c, guint i)
{
	const struct snap_segment *s = &c->from.segments[i];

	switch (s->kind) {
	case SNAP_SEGMENT_ZERO:
		return 0;
	case SNAP_SEGMENT_FILL:
		put_run(c, s);
		return 0;
	case SNAP_SEGMENT_EXTENT:
		break;
	}
	if (c->all)
		return gather(c, s);
	/* What lies in a parent stays there. */
	if (s->layer) {
		put_run(c, s);
		return 0;
	}
	if (snap_leaf_live(c->from.segments, c->from.n, s) < s->pages)
		return gather(c, s);
	/* Its first run copied the other runs too. */
	if (snap_leaf_live(c->from.segments, i, s))
		return 0;
	return copy_extent(c, s);
}

static int move_region(struct compact *c, uint64_t region)
{
	int r = snap_map_get(c->w->map, region, &c->from);

	snap_leaf_clear(&c->to);
	for (guint i = 0; r == 0 && i < c->from.n; i++)
		r = move_segment(c, i);
	if (r == 0)
		r = put_gathered(c);
	return r < 0 ? r : snap_map_replace(c->w->map, region, &c->to);
}

/* The bytes that die when none of a region's own extents is used any more. */
static uint64_t all_own(const struct snap_leaf *leaf)
{
	uint64_t bytes = 0;

	for (guint i = 0; i < leaf->n; i++) {
		const struct snap_segment *s = &leaf->segments[i];
		guint live;

		if (s->kind != SNAP_SEGMENT_EXTENT || s->layer ||
		    snap_leaf_live(leaf->segments, i, s))
			continue;
		live = snap_leaf_live(leaf->segments, leaf->n, s);
		bytes += s->length -
			 (uint64_t)s->length * (s->pages - live) / s->pages;
	}
	return bytes;
}

int snap_compact_region(SnapWriter *w, uint64_t region, SnapCodec *codec)
{
	g_autofree struct compact *c = g_new0(struct compact, 1);
	int r = w->file->ops->drain(w->file);

	c->w = w;
	c->old = w->file;
	c->all = true;
	c->codec = codec;
	if (r == 0)
		r = move_region(c, region);
	w->dead += all_own(&c->from);
	return r;
}

/* Copies all regions; `c->old` is readable. */
static int move_all(struct compact *c)
{
	SnapMap *map = c->w->map;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < snap_map_regions(map); i++) {
		if (!snap_map_has(map, i))
			continue;
		r = move_region(c, i);
		snap_writer_step(c->w);
	}
	return r;
}

int snap_writer_compact(SnapWriter *w, SnapFile *fresh, SnapCodec *codec,
			GError **error)
{
	g_autofree struct compact *c = g_new0(struct compact, 1);
	int r = w->committed ? -EINVAL : w->error;

	if (r == 0)
		r = snap_writer_fail(w, w->file->ops->drain(w->file));
	if (r < 0) {
		snap_file_close(fresh);
		return snap_fail_errno(error, -r, "writing the snapshot");
	}
	c->w = w;
	c->codec = codec;
	c->old = w->file;
	snap_writer_begin(w, fresh);
	r = move_all(c);
	snap_file_close(c->old);
	if (r < 0)
		return snap_fail_errno(error, -snap_writer_fail(w, r),
				       "compacting the snapshot");
	return 0;
}
