/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapfs verify: every byte of the snapshots, and what hangs together in them.
 */
#include <stdio.h>

#include "format/base/error.h"
#include "tools/preamble.h"
#include "tools/each.h"
#include "tools/progress.h"
#include "tools/verb.h"

static gboolean as_json;

static const GOptionEntry options[] = { { "json", 0, 0, G_OPTION_ARG_NONE,
					  &as_json, "print JSON", NULL },
					{ NULL } };

struct checking {
	struct snap_each each;
	guint checked;
	guint bad;
};

static bool show_progress(uint64_t done, uint64_t all, void *data)
{
	snap_progress_show(data, done, all);
	return true;
}

static int check(const char *name, int folder_fd, uint64_t *ret_size,
		 GError **error)
{
	g_autoptr(SnapProgress) progress = snap_progress_new(name);
	g_autoptr(SnapReader) reader = NULL;
	struct snap_preamble before;
	int r = snap_catalog_find(folder_fd, &reader, error);

	if (r < 0)
		return r;
	*ret_size = snap_reader_file_size(reader);
	r = snap_verify(reader, show_progress, progress, error);
	if (r < 0)
		return r;
	return snap_preamble_look(snap_reader_meta(reader), folder_fd, &before,
				  error);
}

static void tell_json(SnapJson *json, const char *name, uint64_t size,
		      const char *sentence)
{
	snap_json_object(json, NULL);
	snap_json_name(json, "name", name);
	snap_json_bool(json, "ok", !sentence);
	snap_json_number(json, "disk", size);
	if (sentence)
		snap_json_text(json, "error", sentence);
	snap_json_end(json);
}

static void tell(const char *name, uint64_t size, const char *sentence)
{
	g_autofree char *amount = snap_size_format(size);
	g_autofree char *safe = snap_print_safe(name);
	g_autofree char *said = sentence ? snap_print_safe(sentence) : NULL;

	if (said)
		printf("%s: BAD: %s\n", safe, said);
	else
		printf("%s: ok, %s\n", safe, amount);
	/* Whoever waits for the next should see this one. */
	fflush(stdout);
}

static int check_snapshot(const char *path, int folder_fd, void *data)
{
	struct checking *c = data;
	g_autofree char *name = snap_place_title(c->each.place, path);
	g_autofree char *file = g_build_filename(c->each.place->store, path,
						 SNAP_CATALOG_SNAPSHOT, NULL);
	g_autofree char *sentence = NULL;
	g_autoptr(GError) error = NULL;
	uint64_t size = 0;
	int r = check(name, folder_fd, &size, &error);

	if (r == -ENOENT) /* it was removed a moment ago */
		return 0;
	c->checked++;
	if (r < 0) {
		c->bad++;
		sentence = g_strdup_printf("%s: %s", file, error->message);
	}
	if (c->each.json)
		tell_json(c->each.json, name, size, sentence);
	else
		tell(name, size, sentence);
	return 0;
}

static int run(char **arguments, guint n, GError **error)
{
	struct checking c = { 0 };
	int r = snap_each_visit(&c.each, arguments, n, as_json, check_snapshot,
				error);

	snap_each_clear(&c.each);
	if (!c.bad)
		return r < 0 ? r : c.each.status;
	snap_print_error("verify: %u of %u snapshots %s bad", c.bad, c.checked,
			 c.bad == 1 ? "is" : "are");
	return SNAP_EXIT_FAILED;
}

const struct snap_verb snap_verb_verify = {
	.name = "verify",
	.arguments = "STORE [NAME]...",
	.min_arguments = 1,
	.max_arguments = G_MAXUINT,
	.summary = "check every byte of snapshots",
	.help = "Reads all of the snapshots at and below each NAME, or of the "
		"store, and checks\nevery byte of them. One line each; fails "
		"if any is bad.",
	.options = options,
	.run = run,
};
