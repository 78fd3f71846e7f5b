/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory as a grid of cells, for `map`: RAM blocks one after the other,
 * each in rows of cells. A cell counts what is known of its pages.
 */
#pragma once

#include "format/image/image.h"

/* What a page is. The first four are of one snapshot, the others of two. */
enum snap_class {
	SNAP_CLASS_ZERO, /* of two: in both */
	SNAP_CLASS_OWN,
	SNAP_CLASS_SHARED,
	SNAP_CLASS_HOT, /* whatever else it is */
	SNAP_CLASS_SAME,
	SNAP_CLASS_CHANGED,
	SNAP_CLASS_FIRST,  /* zero in the second */
	SNAP_CLASS_SECOND, /* zero in the first */
	SNAP_CLASS_ABSENT, /* only one of them has this memory */
};
#define SNAP_CLASSES 9

struct snap_cell {
	uint64_t pages[SNAP_CLASSES];
	uint64_t disk; /* bytes that its pages take in snapshot files */
};

/* A block: its memory in one snapshot or in two. */
struct snap_grid_block {
	char name[256];
	uint64_t length; /* bytes */
	uint64_t pages;	 /* in cells; 0: its memory is elsewhere */
	uint64_t first;	 /* its first cell */
	uint64_t cells;
	/* of each snapshot: whether it has the block, its first page in the
	 * page space, its pages */
	bool has[2];
	uint64_t base[2];
	uint64_t held[2];
};

struct snap_grid {
	char *title;	/* what the picture is of, in a line */
	bool two;	/* two snapshots are compared */
	GArray *blocks; /* of struct snap_grid_block */
	guint columns;	/* cells in a row */
	uint64_t cell;	/* pages in a cell */
	uint64_t n;
	struct snap_cell *cells;
	struct snap_cell total;
	uint64_t disk[SNAP_CLASSES]; /* the total's bytes, by class */
};

/* No more cells than this, in 20 MiB. */
#define SNAP_GRID_CELLS_MAX ((uint64_t)1 << 18)

/* Frees the fields of a grid. */
void snap_grid_clear(struct snap_grid *g);

/* Adds the blocks of snapshot 0 or 1: its RAM, or its verbatim stream. Blocks
 * of the same name are one. */
void snap_grid_add(struct snap_grid *g, guint side,
		   const struct snap_meta *meta);

static inline struct snap_grid_block *snap_grid_block(const struct snap_grid *g,
						      guint i)
{
	return &g_array_index(g->blocks, struct snap_grid_block, i);
}

/* Makes the cells, of `bytes` of memory each, a multiple of the page. 0: as few
 * bytes as it takes to have at most `rows` rows, not counting those of blocks
 * that fit into one. Returns 0, or -E2BIG with an error. */
int snap_grid_lay(struct snap_grid *g, guint columns, guint rows,
		  uint64_t bytes, GError **error);

/* The pages of a block's cell; the last one may be short. */
uint64_t snap_grid_cell_pages(const struct snap_grid *g,
			      const struct snap_grid_block *b, uint64_t i);

/* Counts `count` pages of a block, which has them, from `page` on. They take
 * `disk` bytes. */
void snap_grid_count(struct snap_grid *g, const struct snap_grid_block *b,
		     enum snap_class class, uint64_t page, uint64_t count,
		     uint64_t disk);

/* What a cell shows: its class, and how much of it, from 0 to 3. */
struct snap_look {
	enum snap_class class;
	guint level;
};

/* The look of cell `i` of a block: hot where an eighth of the pages is that are
 * not zero, otherwise what most of these are; of two, what most of those are
 * that differ. Its level is what it takes on disk, or how much differs. */
struct snap_look snap_grid_look(const struct snap_grid *g,
				const struct snap_grid_block *b, uint64_t i);
