/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Draws a grid as SVG: one file without scripts, fonts or links. A class has a
 * path for each level, whose strokes are the runs of such cells: so a picture
 * of a whole guest takes some tens of KiB.
 */
#include <string.h>

#include "tools/store/draw.h"

#define CELL 6	 /* pixels: width of a cell */
#define ROW 12	 /* height of a row */
#define EDGE 16	 /* around the picture */
#define LETTER 7 /* about the width of one */

struct sheet {
	const struct snap_grid *grid;
	guint left;  /* where cells begin */
	guint width; /* of the document */
	guint y;     /* of the next row */
	GString *text;
	GString *paths[SNAP_CLASSES][SNAP_LEVELS];
};

/* Appends text in which names may stand. XML knows neither control characters,
 * which are gone by now, nor U+FFFE and U+FFFF. */
static void put_escaped(GString *out, const char *text)
{
	g_autofree char *escaped = g_markup_escape_text(text, -1);
	g_auto(GStrv) parts = g_strsplit(escaped, "\uFFFE", -1);
	g_autofree char *joined = g_strjoinv("\\xef\\xbf\\xbe", parts);
	g_auto(GStrv) more = g_strsplit(joined, "\uFFFF", -1);
	g_autofree char *clean = g_strjoinv("\\xef\\xbf\\xbf", more);

	g_string_append(out, clean);
}

static void put_text(struct sheet *s, guint x, guint y, const char *class,
		     const char *text)
{
	g_string_append_printf(s->text, "<text x=\"%u\" y=\"%u\"%s%s%s>", x, y,
			       *class ? " class=\"" : "", class,
			       *class ? "\"" : "");
	put_escaped(s->text, text);
	g_string_append(s->text, "</text>\n");
}

/* ---- cells ---- */

static void put_run(struct sheet *s, struct snap_look look, guint x, guint n)
{
	GString **path = &s->paths[look.class][look.level];

	if (!*path)
		*path = g_string_new(NULL);
	g_string_append_printf(*path, "M%u,%uh%u", x, s->y + ROW / 2, n * CELL);
}

static void put_row(struct sheet *s, const struct snap_grid_block *b,
		    uint64_t i)
{
	guint n = (guint)MIN(s->grid->columns, b->cells - i), begin = 0;
	struct snap_look look = snap_grid_look(s->grid, b, i);
	g_autofree char *address =
		snap_draw_address(s->grid, i * s->grid->cell);

	put_text(s, EDGE, s->y + ROW - 2, "address", address);
	for (guint k = 1; k <= n; k++) {
		struct snap_look next = look;

		if (k < n)
			next = snap_grid_look(s->grid, b, i + k);
		if (k < n && next.class == look.class &&
		    next.level == look.level)
			continue;
		put_run(s, look, s->left + begin * CELL, k - begin);
		begin = k;
		look = next;
	}
	s->y += ROW;
}

static void put_block(struct sheet *s, const struct snap_grid_block *b)
{
	g_autofree char *heading = snap_draw_heading(b);

	if (snap_draw_behind(s->grid, b, heading)) {
		put_text(s, s->left + (guint)(b->cells + 2) * CELL,
			 s->y + ROW - 2, "", heading);
	} else {
		s->y += ROW + 4;
		put_text(s, EDGE, s->y - 4, "", heading);
	}
	for (uint64_t i = 0; i < b->cells; i += s->grid->columns)
		put_row(s, b, i);
	s->y += 2;
}

/* ---- legend ---- */

static void put_sample(struct sheet *s, enum snap_class class, guint level,
		       guint x)
{
	g_string_append_printf(s->text,
			       "<path class=\"c%d l%u\" d=\"M%u,%uh%u\"/>\n",
			       class, level, x, s->y - 4, 2 * CELL);
}

static void put_levels(struct sheet *s, const char *cell)
{
	guint x = EDGE;

	s->y += 2 * ROW;
	put_text(s, x, s->y, "", cell);
	s->y += ROW + 4;
	for (guint i = 0; i < SNAP_LEVELS; i++) {
		put_sample(s,
			   s->grid->two ? SNAP_CLASS_CHANGED : SNAP_CLASS_OWN,
			   i, x);
		put_text(s, x + 3 * CELL, s->y, "", snap_draw_levels[i]);
		x += 5 * CELL + (guint)strlen(snap_draw_levels[i]) * LETTER;
	}
	s->y += 4;
}

static void put_class(struct sheet *s, const struct snap_legend_row *row)
{
	guint x = EDGE + 6 * 2 * CELL;

	s->y += ROW + 4;
	for (guint i = 0; i < (row->ink->flat ? 1 : SNAP_LEVELS); i++)
		put_sample(s, row->class, i, EDGE + i * 2 * CELL);
	put_text(s, x, s->y, "", row->what);
	put_text(s, x + 35 * LETTER, s->y, "number", row->size);
	put_text(s, x + 45 * LETTER, s->y, "number", row->share);
	put_text(s, x + 47 * LETTER, s->y, "", row->note);
}

/* The same in words, for who cannot see it. */
static char *describe(const struct snap_grid *g, const struct snap_legend *l)
{
	GString *out = g_string_new("A map of guest memory.");

	for (guint i = 0; i < l->n; i++)
		g_string_append_printf(out, " %s: %s, %s.", l->rows[i].what,
				       l->rows[i].size, l->rows[i].share);
	return g_string_free(out, FALSE);
}

/* ---- the document ---- */

static const char style[] =
	"<style>\n"
	"rect{fill:#fff}\n"
	"text{fill:#24292f;font:12px ui-monospace,Menlo,Consolas,monospace}\n"
	".title{font-weight:bold;font-size:14px}\n"
	".address{fill:#6e7781;font-size:11px}\n"
	".number{text-anchor:end}\n"
	"path{fill:none;stroke-width:11;shape-rendering:crispEdges}\n"
	".l0{stroke-opacity:.3}.l1{stroke-opacity:.5}"
	".l2{stroke-opacity:.75}\n";

static void put_style(GString *out)
{
	g_string_append(out, style);
	for (guint i = 0; i < SNAP_CLASSES; i++)
		g_string_append_printf(out, ".c%u{stroke:%s}\n", i,
				       snap_draw_ink((enum snap_class)i)->rgb);
	g_string_append_printf(
		out, ".c%d{stroke-opacity:.1}.c%d{stroke-opacity:.5}\n",
		SNAP_CLASS_ZERO, SNAP_CLASS_SAME);
	/* Only blue is too dark there. */
	g_string_append_printf(
		out,
		"@media (prefers-color-scheme:dark){\n"
		"rect{fill:#0d1117}text{fill:#e6edf3}.address{fill:#9198a1}\n"
		".c%d,.c%d{stroke:#56b4e9}\n}\n"
		"</style>\n",
		SNAP_CLASS_OWN, SNAP_CLASS_FIRST);
}

static void put_paths(struct sheet *s, GString *out)
{
	for (guint class = 0; class < SNAP_CLASSES; class ++)
		for (guint level = 0; level < SNAP_LEVELS; level++) {
			GString *path = s->paths[class][level];

			if (!path)
				continue;
			g_string_append_printf(
				out, "<path class=\"c%u l%u\" d=\"%s\"/>\n",
				class, level, path->str);
			g_string_free(path, TRUE);
		}
}

static char *document(struct sheet *s, const struct snap_legend *legend)
{
	g_autofree char *words = describe(s->grid, legend);
	GString *out = g_string_new(NULL);

	g_string_append_printf(
		out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" "
		"width=\"%u\" height=\"%u\" viewBox=\"0 0 %u %u\">\n<title>",
		s->width, s->y + EDGE, s->width, s->y + EDGE);
	put_escaped(out, s->grid->title);
	g_string_append(out, "</title>\n<desc>");
	put_escaped(out, words);
	g_string_append(out, "</desc>\n");
	put_style(out);
	g_string_append(out, "<rect width=\"100%\" height=\"100%\"/>\n");
	g_string_append(out, s->text->str);
	put_paths(s, out);
	g_string_append(out, "</svg>\n");
	g_string_free(s->text, TRUE);
	return g_string_free(out, FALSE);
}

char *snap_draw_svg(const struct snap_grid *g)
{
	struct sheet s = { .grid = g, .y = 2 * EDGE };
	struct snap_legend legend;
	char *text;

	s.left = EDGE + snap_draw_digits(g) * LETTER + 8;
	s.width = s.left + g->columns * CELL + EDGE;
	s.text = g_string_new(NULL);
	snap_legend_make(g, &legend);
	put_text(&s, EDGE, s.y - 4, "title", g->title);
	s.y += 8;
	for (guint i = 0; i < g->blocks->len; i++)
		put_block(&s, snap_grid_block(g, i));
	if (g->n)
		put_levels(&s, legend.cell);
	for (guint i = 0; i < legend.n; i++)
		put_class(&s, &legend.rows[i]);
	if (legend.sum) {
		s.y += ROW + 4;
		put_text(&s, EDGE, s.y, "", legend.sum);
	}
	text = document(&s, &legend);
	snap_legend_clear(&legend);
	return text;
}
