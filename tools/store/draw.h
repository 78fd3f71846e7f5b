/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Draws a grid, for `map`: rows of cells with their addresses, a legend and the
 * totals. */
#pragma once

#include "tools/store/grid.h"

/* How the cells of a class look. */
struct snap_ink {
	const char *what; /* in the legend */
	guint colour;	  /* of a terminal's 256 */
	const char *rgb;
	/* the marks for little and for much of it where there are no colours;
	 * NULL: shades */
	const char *marks;
	bool flat; /* all cells of it look the same */
};

/* The look of a class. */
const struct snap_ink *snap_draw_ink(enum snap_class class);

/* A class in the legend, with its total. */
struct snap_legend_row {
	enum snap_class class;
	const struct snap_ink *ink;
	const char *what;
	char *size;
	char *share;
	char *note;
};

struct snap_legend {
	char *cell; /* what a cell is */
	guint n;
	struct snap_legend_row rows[SNAP_CLASSES];
	char *sum; /* a last line; NULL: there is none */
};

/* What the levels of a cell say. */
#define SNAP_LEVELS 4
extern const char *const snap_draw_levels[SNAP_LEVELS];

/* Makes the legend of a grid: the classes that occur in it. */
void snap_legend_make(const struct snap_grid *g, struct snap_legend *ret);
void snap_legend_clear(struct snap_legend *l);

/* A block's name and size. Safe for a terminal; g_free. */
char *snap_draw_heading(const struct snap_grid_block *b);

/* Tells whether a block's heading stands behind its only row. */
bool snap_draw_behind(const struct snap_grid *g,
		      const struct snap_grid_block *b, const char *heading);

/* The address of a row of a block: its offset in the block; g_free. */
char *snap_draw_address(const struct snap_grid *g, uint64_t page);

/* The columns of an address. */
guint snap_draw_digits(const struct snap_grid *g);

/* Draws for a terminal or a text file, with colours or without, in UTF-8 or in
 * ASCII; g_free. */
char *snap_draw_text(const struct snap_grid *g, bool colours, bool utf8);

/* Draws as an SVG document; g_free. */
char *snap_draw_svg(const struct snap_grid *g);
