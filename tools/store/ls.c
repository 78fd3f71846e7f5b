/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapfs ls: lists the snapshots of a store. */
#include "format/base/units.h"
#include "tools/cli/print.h"
#include "tools/cli/verb.h"
#include "tools/store/figures.h"
#include "tools/store/layers.h"
#include "tools/store/verbs.h"
#include "tools/store/visit.h"

struct listing {
	struct snap_visit visit;
	SnapTable *table;
	SnapLayerList *layers;
};

static gboolean by_layers;

static const GOptionEntry options[] = {
	{ "layers", 0, 0, G_OPTION_ARG_NONE, &by_layers,
	  "list the files whose pages snapshots share", NULL },
	SNAP_VISIT_JSON,
	{ NULL }
};

static void list_row(SnapTable *table, const char *name,
		     const struct snap_figures *f)
{
	g_autofree char *ram =
		f->ram ? snap_size_format(f->ram) : g_strdup("-");
	g_autofree char *stored = snap_size_format(f->stored);
	g_autofree char *disk = snap_size_format(f->disk);
	g_autofree char *shared =
		f->shared ? snap_size_format(f->shared) : g_strdup("-");
	g_autofree char *ratio = snap_print_ratio(f->logical, f->disk);
	g_autofree char *created = snap_print_time(f->created);
	const char *cells[] = { name,	ram,   stored,	disk,
				shared, ratio, f->form, created };

	snap_table_add(table, cells);
}

static void list_json(SnapJsonWriter *json, const char *name,
		      const struct snap_figures *f)
{
	snap_json_writer_object(json, NULL);
	snap_json_writer_name(json, "name", name);
	snap_figures_json(f, json);
	snap_json_writer_end(json);
}

static int list_snapshot(const char *path, int folder_fd, void *data)
{
	struct listing *l = data;
	g_autofree char *name = snap_place_title(l->visit.place, path);
	g_autoptr(SnapReader) reader =
		snap_visit_open(&l->visit, name, folder_fd);
	struct snap_figures figures;
	bool is_whole;

	if (!reader)
		return 0;
	figures = snap_figures_get(reader);
	is_whole = snap_visit_check_parents(&l->visit, name, folder_fd,
					    snap_reader_meta(reader));
	/* It uses what is there of its parents, also if it cannot be read. */
	if (by_layers)
		snap_layer_list_add(l->layers, name, snap_reader_meta(reader));
	else if (!is_whole)
		return 0;
	else if (l->visit.json)
		list_json(l->visit.json, name, &figures);
	else
		list_row(l->table, name, &figures);
	return 0;
}

static int print_layers(struct snap_visit *v, GError **error)
{
	return snap_layer_list_print(((struct listing *)v)->layers, v->catalog,
				     v->json, error);
}

static int run(char **arguments, guint n, GError **error)
{
	static const char *const headings[] = { "NAME",	 ">RAM",    ">STORED",
						">DISK", ">SHARED", ">RATIO",
						"FORM",	 "CREATED", NULL };
	g_autoptr(SnapTable) table = snap_table_new(headings);
	g_autoptr(SnapLayerList) layers = snap_layer_list_new();
	struct listing l = { .table = table, .layers = layers };
	int r;

	if (by_layers && n > 1)
		return snap_usage_error(error, "--layers lists the files of "
					       "the whole store: want no NAME");
	if (by_layers) {
		l.visit.after = print_layers;
		l.visit.whole = true;
	}
	r = snap_visit_run(&l.visit, arguments, n, list_snapshot, error);
	if (snap_table_rows(table))
		snap_table_print(table);
	return r;
}

const struct snap_verb snap_verb_ls = {
	.name = "ls",
	.arguments = "STORE [NAME]...",
	.min_arguments = 1,
	.max_arguments = G_MAXUINT,
	.summary = "list snapshots and their sizes",
	.help = "Lists the snapshots of a store, or those at and below each "
		"NAME: the size of\nRAM, of its pages that are not zero, and "
		"of the snapshot's file. SHARED is\nwhat it uses of other "
		"files. RATIO is the size of RAM and device state,\ndivided "
		"by that of the file.",
	.options = options,
	.run = run,
};
