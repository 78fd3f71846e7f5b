/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What one snapshot stores where. */
#include "tools/store/survey.h"

#include "format/base/fileio.h"
#include "format/qemu/hot.h"
#include "fs/catalog/catalog.h"

/* ---- the map ---- */

/* Counts a run of a region; the region begins at page `at` of the block. */
static void count_run(struct snap_grid *g, const struct snap_grid_block *b,
		      uint64_t at, const struct snap_segment *s)
{
	static const enum snap_class classes[] = {
		[SNAP_SEGMENT_ZERO] = SNAP_CLASS_ZERO,
		[SNAP_SEGMENT_FILL] = SNAP_CLASS_OWN,
		[SNAP_SEGMENT_EXTENT] = SNAP_CLASS_OWN,
	};
	enum snap_class class = classes[s->kind];
	uint64_t disk = 0, count = s->count;

	at += s->page;
	if (at >= b->pages)
		return;
	count = MIN(count, b->pages - at);
	if (s->kind == SNAP_SEGMENT_EXTENT) {
		disk = s->length * count / s->pages;
		if (s->layer)
			class = SNAP_CLASS_SHARED;
	}
	snap_grid_count(g, b, class, at, count, disk);
}

static int survey_block(struct snap_grid *g, const struct snap_grid_block *b,
			SnapSide *side, GError **error)
{
	for (uint64_t at = 0; at < b->pages; at += SNAP_REGION_PAGES) {
		const struct snap_leaf *leaf;
		int r = snap_side_region(side, b->base[0] + at, &leaf, error);

		if (r < 0)
			return r;
		for (guint i = 0; i < leaf->n; i++)
			count_run(g, b, at, &leaf->segments[i]);
	}
	return 0;
}

/* ---- hot pages ---- */

static gint by_place(gconstpointer a, gconstpointer b)
{
	const struct snap_hot_run *p = a, *q = b;

	if (p->block != q->block)
		return p->block < q->block ? -1 : 1;
	return p->offset < q->offset ? -1 : p->offset > q->offset;
}

/* Counts each page of a list once, however often it names it. */
static void count_hot(struct snap_grid *g, GArray *runs)
{
	uint64_t done = 0; /* the pages of the block before this are counted */
	guint block = 0;

	g_array_sort(runs, by_place);
	for (guint i = 0; i < runs->len; i++) {
		const struct snap_hot_run *run =
			&g_array_index(runs, struct snap_hot_run, i);
		const struct snap_grid_block *b =
			snap_grid_block(g, run->block);
		uint64_t page = run->offset / SNAP_PAGE;
		uint64_t end = MIN(page + run->pages, b->pages);

		if (run->block != block)
			done = 0;
		block = run->block;
		page = MAX(page, done);
		if (page >= end)
			continue;
		snap_grid_count(g, b, SNAP_CLASS_HOT, page, end - page, 0);
		done = end;
	}
}

static void survey_hot(struct snap_grid *g, int folder_fd)
{
	g_autofree struct snap_ram_block *blocks =
		g_new0(struct snap_ram_block, g->blocks->len);
	struct snap_ramlist ram = { .blocks = blocks, .n = g->blocks->len };
	g_autofree char *text = NULL;
	g_autoptr(GArray) runs = NULL;
	size_t size;

	for (guint i = 0; i < ram.n; i++) {
		const struct snap_grid_block *b = snap_grid_block(g, i);

		g_strlcpy(blocks[i].name, b->name, sizeof(blocks[i].name));
		blocks[i].length = b->length;
	}
	/* The list is a hint: without it, no page is hot. */
	if (snap_read_file(folder_fd, SNAP_CATALOG_HOT, SNAP_HOT_SIZE_MAX,
			   &text, &size) < 0)
		return;
	runs = snap_hot_parse(text, size, &ram);
	count_hot(g, runs);
}

int snap_survey_one(struct snap_grid *g, SnapSide *side, int folder_fd,
		    GError **error)
{
	for (guint i = 0; i < g->blocks->len; i++) {
		int r = survey_block(g, snap_grid_block(g, i), side, error);

		if (r < 0)
			return r;
	}
	if (snap_meta_split(snap_reader_meta(snap_side_reader(side))))
		survey_hot(g, folder_fd);
	return 0;
}
