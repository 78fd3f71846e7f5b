/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/store/grid.h"

#include <string.h>

#include "format/base/error.h"

void snap_grid_clear(struct snap_grid *g)
{
	g_free(g->title);
	g_free(g->cells);
	if (g->blocks)
		g_array_unref(g->blocks);
}

/* ---- blocks ---- */

/* Finds the block of the other snapshot that has a name, or makes one. */
static struct snap_grid_block *block_named(struct snap_grid *g, guint side,
					   const char *name)
{
	struct snap_grid_block fresh = { 0 };

	for (guint i = 0; i < g->blocks->len; i++) {
		struct snap_grid_block *b = snap_grid_block(g, i);

		if (!b->has[side] && !strcmp(b->name, name))
			return b;
	}
	g_strlcpy(fresh.name, name, sizeof(fresh.name));
	g_array_append_val(g->blocks, fresh);
	return snap_grid_block(g, g->blocks->len - 1);
}

void snap_grid_add(struct snap_grid *g, guint side,
		   const struct snap_meta *meta)
{
	enum snap_block_kind kind =
		snap_meta_split(meta) ? SNAP_BLOCK_RAM : SNAP_BLOCK_STREAM;

	if (!g->blocks)
		g->blocks = g_array_new(FALSE, FALSE,
					sizeof(struct snap_grid_block));
	for (guint i = 0; i < meta->n_blocks; i++) {
		const struct snap_block *from = &meta->blocks[i];
		struct snap_grid_block *b;

		if (from->kind != kind)
			continue;
		b = block_named(g, side, from->name);
		b->has[side] = true;
		b->base[side] = from->base / SNAP_PAGE;
		if (!from->ignored)
			b->held[side] = snap_div_up(from->length, SNAP_PAGE);
		b->length = MAX(b->length, from->length);
		b->pages = MAX(b->held[0], b->held[1]);
	}
}

/* ---- cells ---- */

/* Gives each block its cells. Returns the rows beyond the first of each. */
static uint64_t lay(struct snap_grid *g)
{
	uint64_t more = 0;

	g->n = 0;
	for (guint i = 0; i < g->blocks->len; i++) {
		struct snap_grid_block *b = snap_grid_block(g, i);

		b->first = g->n;
		b->cells = snap_div_up(b->pages, g->cell);
		g->n += b->cells;
		if (b->cells > g->columns)
			more += snap_div_up(b->cells, g->columns);
	}
	return more;
}

int snap_grid_lay(struct snap_grid *g, guint columns, guint rows,
		  uint64_t bytes, GError **error)
{
	g->columns = columns;
	g->cell = bytes ? bytes / SNAP_PAGE : 1;
	while (lay(g) > rows && !bytes)
		g->cell *= 2;
	if (g->n > SNAP_GRID_CELLS_MAX)
		return snap_fail(error, E2BIG,
				 "%" G_GUINT64_FORMAT
				 " cells are more than %" G_GUINT64_FORMAT
				 ": use a larger --cell",
				 g->n, SNAP_GRID_CELLS_MAX);
	g->cells = g_new0(struct snap_cell, g->n);
	return 0;
}

uint64_t snap_grid_cell_pages(const struct snap_grid *g,
			      const struct snap_grid_block *b, uint64_t i)
{
	return MIN(g->cell, b->pages - i * g->cell);
}

void snap_grid_count(struct snap_grid *g, const struct snap_grid_block *b,
		     enum snap_class class, uint64_t page, uint64_t count,
		     uint64_t disk)
{
	g->total.pages[class] += count;
	g->disk[class] += disk;
	while (count) {
		struct snap_cell *cell = &g->cells[b->first + page / g->cell];
		uint64_t n = MIN(count, g->cell - page % g->cell);
		uint64_t part = disk * n / count;

		cell->pages[class] += n;
		cell->disk += part;
		page += n;
		count -= n;
		disk -= part;
	}
}

/* ---- looks ---- */

/* `part` of `all`, in four levels: up to an eighth, a quarter, a half, more. */
static guint level_of(uint64_t part, uint64_t all)
{
	return part <= all / 8	 ? 0
	       : part <= all / 4 ? 1
	       : part <= all / 2 ? 2
				 : 3;
}

/* The class of most pages; the first of those with as many. */
static enum snap_class most(const struct snap_cell *c,
			    const enum snap_class *classes, guint n)
{
	enum snap_class class = classes[0];

	for (guint i = 1; i < n; i++)
		if (c->pages[classes[i]] > c->pages[class])
			class = classes[i];
	return class;
}

static struct snap_look look_of_two(const struct snap_cell *c, uint64_t pages)
{
	static const enum snap_class differ[] = { SNAP_CLASS_CHANGED,
						  SNAP_CLASS_FIRST,
						  SNAP_CLASS_SECOND,
						  SNAP_CLASS_ABSENT };
	enum snap_class class = most(c, differ, G_N_ELEMENTS(differ));
	uint64_t n = 0;

	for (guint i = 0; i < G_N_ELEMENTS(differ); i++)
		n += c->pages[differ[i]];
	if (!n)
		class = c->pages[SNAP_CLASS_SAME] ? SNAP_CLASS_SAME
						  : SNAP_CLASS_ZERO;
	return (struct snap_look){ class, level_of(n, pages) };
}

struct snap_look snap_grid_look(const struct snap_grid *g,
				const struct snap_grid_block *b, uint64_t i)
{
	static const enum snap_class stored[] = { SNAP_CLASS_OWN,
						  SNAP_CLASS_SHARED };
	const struct snap_cell *c = &g->cells[b->first + i];
	uint64_t pages = snap_grid_cell_pages(g, b, i);
	enum snap_class class = most(c, stored, G_N_ELEMENTS(stored));
	uint64_t used = c->pages[SNAP_CLASS_OWN] + c->pages[SNAP_CLASS_SHARED];

	if (g->two)
		return look_of_two(c, pages);

	if (!c->pages[class])
		class = SNAP_CLASS_ZERO;
	if (c->pages[SNAP_CLASS_HOT] && c->pages[SNAP_CLASS_HOT] >= used / 8)
		class = SNAP_CLASS_HOT;
	return (struct snap_look){ class,
				   level_of(c->disk, pages * SNAP_PAGE) };
}
