/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapfs map: draws what lies where in the memory of a snapshot, or what
 * differs between two.
 *
 * All is counted before anything is drawn: of a snapshot that cannot be read,
 * no half picture is seen.
 */
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "fs/catalog/catalog.h"
#include "tools/cli/print.h"
#include "tools/cli/signals.h"
#include "tools/store/draw.h"
#include "tools/store/figures.h"
#include "tools/store/output.h"
#include "tools/store/place.h"
#include "tools/store/survey.h"
#include "tools/store/verbs.h"

#define SVG_COLUMNS 128
#define SVG_ROWS 48
#define ROWS 32	  /* where the height of the window is not known */
#define AROUND 12 /* rows of title, legend and prompt */
#define COLUMNS_MAX 256

static char *cell_text;
static char *colour_name;
static char *svg_name;

static const GOptionEntry options[] = {
	{ "cell", 'c', 0, G_OPTION_ARG_STRING, &cell_text,
	  "memory in a cell: 4k, 64k, 1m ... (what fits)", "SIZE" },
	{ "color", 0, 0, G_OPTION_ARG_STRING, &colour_name,
	  "auto, always or never (auto)", "WHEN" },
	{ "svg", 's', 0, G_OPTION_ARG_FILENAME, &svg_name,
	  "write a picture to FILE (-: standard output)", "FILE" },
	{ NULL }
};

/* ---- the window ---- */

struct window {
	guint columns;
	guint rows; /* 0: not known */
};

static struct window find_window(void)
{
	struct winsize size;
	const char *columns = getenv("COLUMNS");
	long n = columns ? strtol(columns, NULL, 10) : 0;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col)
		return (struct window){ size.ws_col, size.ws_row };
	return (struct window){ n > 0 ? (guint)MIN(n, 4096) : 80, 0 };
}

/* https://no-color.org: it is set and not empty. */
static bool wants_colours(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	if (colour_name && strcmp(colour_name, "auto"))
		return !strcmp(colour_name, "always");
	return isatty(STDOUT_FILENO) && !(no && *no) && term &&
	       strcmp(term, "dumb");
}

static bool is_utf8(void)
{
	setlocale(LC_CTYPE, "");
	return !strcmp(nl_langinfo(CODESET), "UTF-8");
}

/* ---- the snapshots ---- */

struct mapping {
	SnapPlace *place;
	SnapCatalog *catalog;
	struct snap_grid grid;
	uint64_t cell; /* as typed; 0: what fits */
	SnapSide *sides[2];
	int folder_fd; /* of the first */
};

static int open_side(struct mapping *m, guint i, bool whole, const char *name,
		     char **ret_title, GError **error)
{
	g_autofree char *path = snap_place_path(m->place, name);
	g_autofree char *file = g_build_filename(m->place->store, path,
						 SNAP_CATALOG_SNAPSHOT, NULL);
	snap_autofd int fd = snap_place_folder(m->catalog, path, error);
	g_autoptr(SnapReader) reader = NULL;
	int r = fd;

	if (r < 0)
		return r;
	r = whole ? snap_catalog_find_whole(m->catalog, fd, &reader, error)
		  : snap_catalog_find(fd, &reader, error);
	if (r == -ENOENT) {
		g_clear_error(error);
		return snap_place_no_snapshot(m->catalog, path, error);
	}
	if (r < 0)
		return snap_fail_prefix(error, r, "%s", file);
	snap_grid_add(&m->grid, i, snap_reader_meta(reader));
	m->sides[i] = snap_side_new(g_steal_pointer(&reader), file);
	if (i == 0)
		m->folder_fd = snap_steal_fd(&fd);
	*ret_title = snap_place_title(m->place, path);
	return 0;
}

static bool is_split(const struct mapping *m, guint i)
{
	return snap_meta_split(snap_reader_meta(snap_side_reader(m->sides[i])));
}

static void set_title(struct mapping *m, const char *first, const char *second)
{
	bool split = is_split(m, 0);
	struct snap_figures f = snap_figures_get(snap_side_reader(m->sides[0]));
	g_autofree char *size = snap_size_format(split ? f.ram : f.logical);
	g_autofree char *disk = snap_size_format(f.disk);
	g_autofree char *title =
		second ? g_strdup_printf("%s and %s", first, second)
		       : g_strdup_printf(
				 "%s: %s of %s, %s on disk", first, size,
				 split ? "memory" : "verbatim stream", disk);

	m->grid.title = snap_print_safe(title);
}

static int open_all(struct mapping *m, char **arguments, guint n,
		    GError **error)
{
	bool two = n > 2;
	g_autofree char *first = NULL, *second = NULL;
	int r = snap_place_find(arguments[0], &m->place, error);

	if (r == 0)
		r = snap_place_open(m->place, &m->catalog, error);
	if (r == 0)
		r = open_side(m, 0, two, n > 1 ? arguments[1] : NULL, &first,
			      error);
	if (r == 0 && two)
		r = open_side(m, 1, two, arguments[2], &second, error);
	if (r < 0)
		return r;
	if (two && is_split(m, 0) != is_split(m, 1))
		return snap_fail(error, EINVAL,
				 "%s was saved verbatim and %s was not: they "
				 "cannot be compared",
				 is_split(m, 1) ? first : second,
				 is_split(m, 1) ? second : first);
	m->grid.two = two;
	set_title(m, first, second);
	return 0;
}

/* ---- the picture ---- */

static int lay(struct mapping *m, GError **error)
{
	struct window w = find_window();
	guint blocks = m->grid.blocks->len;
	guint digits = snap_draw_digits(&m->grid);
	guint columns = w.columns > digits + 2 ? w.columns - digits - 2 : 0;
	int rows = w.rows ? (int)w.rows - AROUND - (int)blocks : ROWS;

	if (svg_name)
		return snap_grid_lay(&m->grid, SVG_COLUMNS, SVG_ROWS, m->cell,
				     error);
	/* So that addresses of rows are round. */
	columns = CLAMP(columns / 16 * 16, 16, COLUMNS_MAX);
	return snap_grid_lay(&m->grid, columns, (guint)CLAMP(rows, 16, 40),
			     m->cell, error);
}

static int write_svg(const char *text, GError **error)
{
	bool is_stdout = !strcmp(svg_name, "-");
	struct snap_output o = SNAP_OUTPUT_NONE;
	int r;

	if (is_stdout) {
		fputs(text, stdout);
		return 0;
	}
	/* A signal must not leave the temporary file. It takes no time. */
	if (snap_output_is_file(svg_name))
		snap_signals_hold();
	r = snap_output_open(&o, svg_name, 0666, error);
	if (r == 0) {
		r = snap_write_all(o.fd, text, strlen(text));
		r = r < 0 ? snap_fail_errno(error, -r, "%s", svg_name)
			  : snap_output_finish(&o, error);
	}
	snap_output_close(&o);
	return r;
}

static int draw(const struct snap_grid *g, GError **error)
{
	g_autofree char *text =
		svg_name ? snap_draw_svg(g)
			 : snap_draw_text(g, wants_colours(), is_utf8());

	if (svg_name)
		return write_svg(text, error);
	fputs(text, stdout);
	return 0;
}

static int map(struct mapping *m, char **arguments, guint n, GError **error)
{
	int r = open_all(m, arguments, n, error);

	if (r == 0)
		r = lay(m, error);
	if (r == 0)
		r = m->grid.two ? snap_survey_two(&m->grid, m->sides[0],
						  m->sides[1], error)
				: snap_survey_one(&m->grid, m->sides[0],
						  m->folder_fd, error);
	return r < 0 ? r : draw(&m->grid, error);
}

/* ---- the verb ---- */

static int check_options(struct mapping *m, GError **error)
{
	static const char *const when[] = { "auto", "always", "never", NULL };

	if (colour_name && !g_strv_contains(when, colour_name))
		return snap_usage_error(
			error, "--color=%s: want auto, always or never",
			colour_name);
	if (!cell_text)
		return 0;
	if (snap_size_parse(cell_text, &m->cell, NULL) < 0 || !m->cell ||
	    m->cell % SNAP_PAGE)
		return snap_usage_error(
			error, "--cell=%s: want a multiple of 4k", cell_text);
	return 0;
}

static int run(char **arguments, guint n, GError **error)
{
	struct mapping m = { .folder_fd = -1 };
	int r = check_options(&m, error);

	if (r == 0)
		r = map(&m, arguments, n, error);
	snap_side_free(m.sides[0]);
	snap_side_free(m.sides[1]);
	snap_grid_clear(&m.grid);
	snap_catalog_free(m.catalog);
	snap_place_free(m.place);
	snap_close_fd(&m.folder_fd);
	return r;
}

const struct snap_verb snap_verb_map = {
	.name = "map",
	.arguments = "STORE [NAME [NAME]]",
	.min_arguments = 1,
	.max_arguments = 3,
	.summary = "draw what lies where in memory, or what differs",
	.help = "Draws the memory of a snapshot: what is zero, what is stored "
		"and how well it\ncompressed, what it shares with a parent, "
		"and what reverts needed first. With a\nsecond NAME, draws "
		"what differs between the two, and counts it.",
	.options = options,
	.run = run,
};
