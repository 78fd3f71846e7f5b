/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/each.h"

#include "tools/verb.h"

int snap_each_visit(struct snap_each *each, char **arguments, guint n,
		    bool as_json, snap_catalog_visit visit, GError **error)
{
	g_autoptr(SnapCatalog) catalog = NULL;
	int r = snap_place_find(arguments[0], &each->place, error);

	if (r == 0)
		r = snap_place_open(each->place, &catalog, error);
	if (r < 0)
		return r;
	if (as_json) {
		each->json = snap_json_new();
		snap_json_name(each->json, "store", each->place->store);
		snap_json_list(each->json, "snapshots");
	}
	r = snap_place_visit(each->place, catalog, arguments + 1, n - 1, visit,
			     each);
	if (r)
		each->status = r;
	if (each->json)
		snap_json_print(each->json);
	return 0;
}

void snap_each_clear(struct snap_each *each)
{
	snap_place_free(each->place);
	snap_json_free(each->json);
}

void snap_each_fail(struct snap_each *each, const char *name,
		    const char *sentence)
{
	each->status = SNAP_EXIT_FAILED;
	snap_print_error("%s: %s", name, sentence);
	if (!each->json)
		return;
	snap_json_object(each->json, NULL);
	snap_json_name(each->json, "name", name);
	snap_json_text(each->json, "error", sentence);
	snap_json_end(each->json);
}
