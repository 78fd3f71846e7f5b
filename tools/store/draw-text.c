/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Draws a grid for a terminal. Without colours, letters tell the classes. */
#include "tools/store/draw.h"

#define WHAT "%-24s" /* a class in the legend; no line is wider than 80 */

struct pen {
	GString *out;
	const struct snap_grid *grid;
	bool colours;
	bool utf8;
	guint colour; /* of the last mark; 0: none */
};

/* ---- marks ---- */

static void set_colour(struct pen *p, guint colour)
{
	if (!p->colours || p->colour == colour)
		return;
	p->colour = colour;
	if (colour)
		g_string_append_printf(p->out, "\033[38;5;%um", colour);
	else
		g_string_append(p->out, "\033[0m");
}

static void put_shade(struct pen *p, guint level)
{
	static const char *const shades[] = { "░", "▒", "▓", "█" };

	if (p->utf8)
		g_string_append(p->out, shades[level]);
	else
		g_string_append_c(p->out, ":*%#"[level]);
}

static void put_mark(struct pen *p, const struct snap_ink *ink,
		     struct snap_look look)
{
	set_colour(p, ink->colour);
	if (look.class == SNAP_CLASS_ZERO)
		g_string_append(p->out, p->utf8 ? "·" : ".");
	else if (ink->marks && !p->colours)
		g_string_append_c(p->out, ink->marks[look.level / 2]);
	else
		put_shade(p, look.level);
}

/* ---- blocks ---- */

/* Puts a row of cells, from cell `i` of the block on. Returns their number. */
static guint put_row(struct pen *p, const struct snap_grid_block *b, uint64_t i)
{
	guint n = (guint)MIN(p->grid->columns, b->cells - i);
	g_autofree char *address =
		snap_draw_address(p->grid, i * p->grid->cell);

	g_string_append_printf(p->out, "%s  ", address);
	for (guint k = 0; k < n; k++) {
		struct snap_look look = snap_grid_look(p->grid, b, i + k);

		put_mark(p, snap_draw_ink(look.class), look);
	}
	set_colour(p, 0);
	return n;
}

/* A small block has its name behind its cells, where there is room. */
static void put_block(struct pen *p, const struct snap_grid_block *b)
{
	g_autofree char *heading = snap_draw_heading(b);
	bool behind = snap_draw_behind(p->grid, b, heading);

	if (!behind)
		g_string_append_printf(p->out, "%s\n", heading);
	for (uint64_t i = 0; i < b->cells; i += p->grid->columns) {
		put_row(p, b, i);
		if (behind)
			g_string_append_printf(p->out, "  %s", heading);
		g_string_append_c(p->out, '\n');
	}
}

/* ---- legend ---- */

/* Does a class have letters of two sizes? */
static bool has_letters(const struct pen *p, const struct snap_legend *legend)
{
	for (guint i = 0; i < legend->n && !p->colours; i++) {
		const char *marks = legend->rows[i].ink->marks;

		if (marks && marks[0] != marks[1])
			return true;
	}
	return false;
}

static void put_levels(struct pen *p, const struct snap_legend *legend)
{
	g_string_append_printf(p->out, "%s\n", legend->cell);
	for (guint i = 0; i < SNAP_LEVELS; i++) {
		g_string_append(p->out, "  ");
		put_shade(p, i);
		g_string_append_printf(p->out, " %s", snap_draw_levels[i]);
	}
	if (has_letters(p, legend))
		g_string_append(p->out, "; small letters: up to 1/4");
	g_string_append_c(p->out, '\n');
}

static void put_class(struct pen *p, const struct snap_legend_row *row)
{
	const char *marks = p->colours ? NULL : row->ink->marks;
	guint n = SNAP_LEVELS;

	if (row->ink->flat)
		n = 1;
	else if (marks)
		n = marks[0] == marks[1] ? 1 : 2;
	for (guint i = 0; i < n; i++)
		put_mark(p, row->ink,
			 (struct snap_look){ row->class, i * 4 / n });
	set_colour(p, 0);
	g_string_append_printf(p->out, "%*s" WHAT " %9s  %7s  %s",
			       (int)(SNAP_LEVELS + 2 - n), "", row->what,
			       row->size, row->share, row->note);
	while (p->out->str[p->out->len - 1] == ' ')
		g_string_truncate(p->out, p->out->len - 1);
	g_string_append_c(p->out, '\n');
}

char *snap_draw_text(const struct snap_grid *g, bool colours, bool utf8)
{
	struct pen p = { g_string_new(NULL), g, colours, utf8, 0 };
	struct snap_legend legend;

	g_string_append_printf(p.out, "%s\n\n", g->title);
	for (guint i = 0; i < g->blocks->len; i++)
		put_block(&p, snap_grid_block(g, i));
	if (g->n) {
		snap_legend_make(g, &legend);
		g_string_append_c(p.out, '\n');
		put_levels(&p, &legend);
		for (guint i = 0; i < legend.n; i++)
			put_class(&p, &legend.rows[i]);
		if (legend.sum)
			g_string_append_printf(p.out, "%s\n", legend.sum);
		snap_legend_clear(&legend);
	}
	return g_string_free(p.out, FALSE);
}
