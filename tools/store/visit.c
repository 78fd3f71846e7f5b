/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/store/visit.h"

#include <stdio.h>

#include "tools/cli/print.h"
#include "tools/cli/verb.h"

gboolean snap_visit_json;

const GOptionEntry snap_visit_options[] = { SNAP_VISIT_JSON, { NULL } };

static int visit_all(struct snap_visit *v, char **arguments, guint n,
		     snap_catalog_visit one, GError **error)
{
	g_autofree char *text = NULL;
	int r = snap_place_find(arguments[0], &v->place, error);

	if (r == 0 && v->whole)
		*v->place->within = '\0';
	if (r == 0)
		r = snap_place_open(v->place, &v->catalog, error);
	if (r < 0)
		return r;
	if (snap_visit_json) {
		v->json = snap_json_writer_new();
		snap_json_writer_name(v->json, "store", v->place->store);
		snap_json_writer_list(v->json, "snapshots");
	}
	r = snap_place_visit(v->place, v->catalog, arguments + 1, n - 1, one,
			     v);
	if (r == 0 && v->after)
		r = v->after(v, error);
	if (v->json) {
		text = snap_json_writer_finish(v->json);
		fputs(text, stdout);
	}
	return r ? r : v->status;
}

int snap_visit_run(struct snap_visit *v, char **arguments, guint n,
		   snap_catalog_visit one, GError **error)
{
	int r = visit_all(v, arguments, n, one, error);

	g_clear_pointer(&v->catalog, snap_catalog_free);
	g_clear_pointer(&v->place, snap_place_free);
	g_clear_pointer(&v->json, snap_json_writer_free);
	return r;
}

SnapReader *snap_visit_open(struct snap_visit *v, const char *name,
			    int folder_fd)
{
	g_autoptr(GError) error = NULL;
	SnapReader *reader = NULL;
	int r = snap_catalog_find(folder_fd, &reader, &error);

	if (r < 0 && r != -ENOENT)
		snap_visit_fail(v, name, error->message);
	return r < 0 ? NULL : reader;
}

bool snap_visit_check_parents(struct snap_visit *v, const char *name,
			      int folder_fd, const struct snap_meta *meta)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(SnapReader) reader = NULL;
	int r = meta->n_layers ? snap_catalog_find_whole(v->catalog, folder_fd,
							 &reader, &error)
			       : 0;

	if (r == 0 || r == -ENOENT || r == -EACCES)
		return true;
	snap_visit_fail(v, name, error->message);
	return false;
}

void snap_visit_fail(struct snap_visit *v, const char *name,
		     const char *sentence)
{
	v->status = SNAP_EXIT_FAILED;
	snap_print_error("%s: %s", name, sentence);
	if (!v->json)
		return;
	snap_json_writer_object(v->json, NULL);
	snap_json_writer_name(v->json, "name", name);
	snap_json_writer_text(v->json, "error", sentence);
	snap_json_writer_end(v->json);
}
