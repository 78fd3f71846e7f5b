/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What differs between two snapshots. An increment and its parent name the same
 * extents of the same files for most of their memory: that costs no read.
 */
#include <string.h>

#include "format/base/zero.h"
#include "tools/cli/progress.h"
#include "tools/store/survey.h"

struct differing {
	struct snap_grid *grid;
	const struct snap_grid_block *block;
	SnapSide *sides[2];
	/* which file each layer of each side is; inode 0: not known */
	struct snap_file_id files[2][SNAP_LAYERS_MAX + 1];
};

static void identify(struct differing *d)
{
	for (guint side = 0; side < 2; side++) {
		SnapReader *r = snap_side_reader(d->sides[side]);

		for (guint i = 0; i <= snap_reader_meta(r)->n_layers; i++)
			if (snap_reader_identify(r, i, &d->files[side][i]) < 0)
				d->files[side][i].inode = 0;
	}
}

/* ---- a run ---- */

/* Do two runs have the same bytes, by the map alone? `page` is one of the
 * region that lies in both. */
static bool known_same(const struct differing *d, const struct snap_segment *a,
		       const struct snap_segment *b, guint page)
{
	const struct snap_file_id *p = &d->files[0][a->layer];
	const struct snap_file_id *q = &d->files[1][b->layer];

	if (a->kind != b->kind)
		return false;
	if (a->kind != SNAP_SEGMENT_EXTENT)
		return a->kind == SNAP_SEGMENT_ZERO || a->fill == b->fill;
	return p->inode && p->inode == q->inode && p->device == q->device &&
	       a->offset == b->offset && a->length == b->length &&
	       a->crc32c == b->crc32c &&
	       a->first + (page - a->page) == b->first + (page - b->page);
}

static enum snap_class class_of(const void *a, const void *b)
{
	bool zero_a = snap_is_zero(a, SNAP_PAGE);
	bool zero_b = snap_is_zero(b, SNAP_PAGE);

	if (zero_a || zero_b)
		return zero_a && zero_b ? SNAP_CLASS_ZERO
		       : zero_b		? SNAP_CLASS_FIRST
					: SNAP_CLASS_SECOND;
	return memcmp(a, b, SNAP_PAGE) ? SNAP_CLASS_CHANGED : SNAP_CLASS_SAME;
}

/* Compares the pages [page, end) of a region, which begins at page `at` of the
 * block. */
static int differ_run(struct differing *d, uint64_t at, guint page, guint end,
		      const struct snap_segment *const runs[2], GError **error)
{
	const void *bytes[2];

	if (known_same(d, runs[0], runs[1], page)) {
		snap_grid_count(d->grid, d->block,
				runs[0]->kind == SNAP_SEGMENT_ZERO
					? SNAP_CLASS_ZERO
					: SNAP_CLASS_SAME,
				at + page, end - page, 0);
		return 0;
	}
	for (; page < end; page++) {
		for (guint i = 0; i < 2; i++) {
			int r = snap_side_page(d->sides[i], runs[i], page,
					       &bytes[i], error);

			if (r < 0)
				return r;
		}
		snap_grid_count(d->grid, d->block, class_of(bytes[0], bytes[1]),
				at + page, 1, 0);
	}
	return 0;
}

/* ---- regions and blocks ---- */

/* Compares the first `n` pages of a region. */
static int differ_region(struct differing *d, uint64_t at, guint n,
			 GError **error)
{
	const struct snap_leaf *leaves[2];
	guint in[2] = { 0, 0 };
	int r = 0;

	for (guint i = 0; r == 0 && i < 2; i++)
		r = snap_side_region(d->sides[i], d->block->base[i] + at,
				     &leaves[i], error);
	for (guint page = 0; r == 0 && page < n;) {
		const struct snap_segment *runs[2];
		guint end = n;

		for (guint i = 0; i < 2; i++) {
			runs[i] = &leaves[i]->segments[in[i]];
			end = MIN(end, runs[i]->page + runs[i]->count);
		}
		r = differ_run(d, at, page, end, runs, error);
		for (guint i = 0; i < 2; i++)
			in[i] += end == runs[i]->page + runs[i]->count;
		page = end;
	}
	return r;
}

static int differ_block(struct differing *d, SnapProgress *progress,
			uint64_t done, uint64_t all, GError **error)
{
	const struct snap_grid_block *b = d->block;
	uint64_t both = MIN(b->held[0], b->held[1]);

	for (uint64_t at = 0; at < both; at += SNAP_REGION_PAGES) {
		uint64_t n = MIN(SNAP_REGION_PAGES, both - at);
		int r = differ_region(d, at, (guint)n, error);

		if (r < 0)
			return r;
		snap_progress_show(progress, (done + at) * SNAP_PAGE,
				   all * SNAP_PAGE);
	}
	if (b->pages > both)
		snap_grid_count(d->grid, b, SNAP_CLASS_ABSENT, both,
				b->pages - both, 0);
	return 0;
}

int snap_survey_two(struct snap_grid *g, SnapSide *first, SnapSide *second,
		    GError **error)
{
	g_autoptr(SnapProgress) progress = snap_progress_new(g->title);
	struct differing d = { .grid = g, .sides = { first, second } };
	uint64_t done = 0, all = 0;
	int r = 0;

	identify(&d);
	for (guint i = 0; i < g->blocks->len; i++)
		all += snap_grid_block(g, i)->pages;
	for (guint i = 0; r == 0 && i < g->blocks->len; i++) {
		d.block = snap_grid_block(g, i);
		r = differ_block(&d, progress, done, all, error);
		done += d.block->pages;
	}
	return r;
}
