/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapfs ls: the snapshots of a store, a line each. */
#include "format/base/error.h"
#include "tools/each.h"
#include "tools/figures.h"
#include "tools/verb.h"

static gboolean as_json;

static const GOptionEntry options[] = { { "json", 0, 0, G_OPTION_ARG_NONE,
					  &as_json, "print JSON", NULL },
					{ NULL } };

struct listing {
	struct snap_each each;
	SnapTable *table;
};

static void list_row(SnapTable *table, const char *name,
		     const struct snap_figures *f)
{
	g_autofree char *ram =
		f->ram ? snap_size_format(f->ram) : g_strdup("-");
	g_autofree char *stored = snap_size_format(f->stored);
	g_autofree char *disk = snap_size_format(f->disk);
	g_autofree char *ratio = snap_print_ratio(f->logical, f->disk);
	g_autofree char *created = snap_print_time(f->created);
	const char *cells[] = {
		name, ram, stored, disk, ratio, f->form, created
	};

	snap_table_add(table, cells);
}

static void list_json(SnapJson *json, const char *name,
		      const struct snap_figures *f)
{
	snap_json_object(json, NULL);
	snap_json_name(json, "name", name);
	snap_figures_json(f, json);
	snap_json_end(json);
}

static int list_snapshot(const char *path, int folder_fd, void *data)
{
	struct listing *l = data;
	g_autofree char *name = snap_place_title(l->each.place, path);
	g_autoptr(SnapReader) reader = NULL;
	g_autoptr(GError) error = NULL;
	struct snap_figures figures;
	int r = snap_catalog_find(folder_fd, &reader, &error);

	if (r == -ENOENT) /* it was removed a moment ago */
		return 0;
	if (r < 0) {
		snap_each_fail(&l->each, name, error->message);
		return 0;
	}
	figures = snap_figures_get(reader);
	if (l->each.json)
		list_json(l->each.json, name, &figures);
	else
		list_row(l->table, name, &figures);
	return 0;
}

static int run(char **arguments, guint n, GError **error)
{
	static const char *const headings[] = { "NAME",	   ">RAM",   ">STORED",
						">DISK",   ">RATIO", "FORM",
						"CREATED", NULL };
	g_autoptr(SnapTable) table = snap_table_new(headings);
	struct listing l = { .table = table };
	int r = snap_each_visit(&l.each, arguments, n, as_json, list_snapshot,
				error);

	if (snap_table_rows(table))
		snap_table_print(table);
	snap_each_clear(&l.each);
	return r < 0 ? r : l.each.status;
}

const struct snap_verb snap_verb_ls = {
	.name = "ls",
	.arguments = "STORE [NAME]...",
	.min_arguments = 1,
	.max_arguments = G_MAXUINT,
	.summary = "list snapshots, with what they take",
	.help = "Lists the snapshots of a store, or those at and below each "
		"NAME: their RAM,\nwhat of it is stored (pages that are not "
		"zero), what the snapshot takes on disk,\nand how many times "
		"less that is than RAM and device state.",
	.options = options,
	.run = run,
};
