/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapfs verify: checks every byte of snapshots. */
#include <stdio.h>

#include "format/base/error.h"
#include "tools/cli/print.h"
#include "tools/cli/progress.h"
#include "tools/store/preamble.h"
#include "tools/store/verbs.h"
#include "tools/store/visit.h"

struct checking {
	struct snap_visit visit;
	SnapVerified *done; /* files whose bytes are checked */
	guint checked;
	guint bad;
};

static bool show_progress(uint64_t done, uint64_t all, void *data)
{
	snap_progress_show(data, done, all);
	return true;
}

static int check(struct checking *c, const char *name, int folder_fd,
		 uint64_t *ret_size, GError **error)
{
	g_autoptr(SnapProgress) progress = snap_progress_new(name);
	g_autoptr(SnapReader) reader = NULL;
	struct snap_preamble preamble;
	int r = snap_catalog_find_whole(c->visit.catalog, folder_fd, &reader,
					error);

	if (r < 0)
		return r;
	*ret_size = snap_reader_file_size(reader);
	r = snap_verify(reader, c->done, show_progress, progress, error);
	if (r < 0)
		return r;
	return snap_preamble_look(snap_reader_meta(reader), folder_fd,
				  &preamble, error);
}

static void print_json(SnapJsonWriter *json, const char *name, uint64_t size,
		       const char *sentence)
{
	snap_json_writer_object(json, NULL);
	snap_json_writer_name(json, "name", name);
	snap_json_writer_bool(json, "ok", !sentence);
	snap_json_writer_number(json, "disk", size);
	if (sentence)
		snap_json_writer_text(json, "error", sentence);
	snap_json_writer_end(json);
}

static void print_line(const char *name, uint64_t size, const char *sentence)
{
	g_autofree char *amount = snap_size_format(size);
	g_autofree char *safe = snap_print_safe(name);
	g_autofree char *why = sentence ? snap_print_safe(sentence) : NULL;

	if (why)
		printf("%s: BAD: %s\n", safe, why);
	else
		printf("%s: ok, %s\n", safe, amount);
	/* Show it now: the next one may take long. */
	fflush(stdout);
}

static int check_snapshot(const char *path, int folder_fd, void *data)
{
	struct checking *c = data;
	g_autofree char *name = snap_place_title(c->visit.place, path);
	g_autofree char *file = g_build_filename(c->visit.place->store, path,
						 SNAP_CATALOG_SNAPSHOT, NULL);
	g_autofree char *sentence = NULL;
	g_autoptr(GError) error = NULL;
	uint64_t size = 0;
	int r = check(c, name, folder_fd, &size, &error);

	if (r == -ENOENT) /* it was removed a moment ago */
		return 0;
	c->checked++;
	if (r < 0) {
		c->bad++;
		sentence = g_strdup_printf("%s: %s", file, error->message);
	}
	if (c->visit.json)
		print_json(c->visit.json, name, size, sentence);
	else
		print_line(name, size, sentence);
	return 0;
}

static int run(char **arguments, guint n, GError **error)
{
	struct checking c = { 0 };
	g_autoptr(SnapVerified) done = c.done = snap_verified_new();
	int r = snap_visit_run(&c.visit, arguments, n, check_snapshot, error);

	if (!c.bad)
		return r;
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
	.help = "Reads the snapshots at and below each NAME, or all of the "
		"store, and checks\nevery byte. Prints a line for each. Fails "
		"if one is bad.",
	.options = snap_visit_options,
	.run = run,
};
