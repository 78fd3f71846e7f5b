/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapfs info: all that a snapshot says of itself. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "format/base/error.h"
#include "tools/preamble.h"
#include "tools/each.h"
#include "tools/figures.h"
#include "tools/verb.h"

static gboolean as_json;

static const GOptionEntry options[] = { { "json", 0, 0, G_OPTION_ARG_NONE,
					  &as_json, "print JSON", NULL },
					{ NULL } };

struct telling {
	struct snap_each each;
	guint told;
};

/* One snapshot and what is to be told of it. */
struct subject {
	const char *name;
	char *file;
	char *noted; /* why the last save into its folder failed */
	const struct snap_meta *meta;
	struct snap_figures figures;
	uint64_t regions;
	uint64_t used; /* regions with a page that is not zero */
	struct snap_preamble before;
};

/* Counts the regions that hold something; the nodes are a few for each GiB. */
static int count_regions(SnapReader *reader, struct subject *s, GError **error)
{
	g_autofree struct snap_node *node = g_new(struct snap_node, 1);
	const struct snap_entry *top;
	guint n;

	s->regions = snap_meta_regions(s->meta);
	top = snap_reader_top(reader, &n);
	for (guint i = 0; i < n; i++) {
		int r = top[i].length ? snap_reader_node(reader, i, node) : 0;

		if (r == -EBADMSG)
			return snap_fail(error, EBADMSG,
					 "its map is damaged at byte %" PRIu64,
					 top[i].offset);
		if (r < 0)
			return snap_fail_errno(error, -r, "its map");
		for (guint j = 0; top[i].length && j < node->n; j++)
			s->used += node->entries[j].length != 0;
	}
	return 0;
}

static char *uuid_text(const uint8_t *u)
{
	return g_strdup_printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
			       "%02x%02x%02x%02x%02x%02x",
			       u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7],
			       u[8], u[9], u[10], u[11], u[12], u[13], u[14],
			       u[15]);
}

static const char *kind_text(enum snap_block_kind kind)
{
	switch (kind) {
	case SNAP_BLOCK_RAM:
		return "ram";
	case SNAP_BLOCK_STATE:
		return "state";
	case SNAP_BLOCK_STREAM:
		return "stream";
	case SNAP_BLOCK_PREAMBLE:
		return "before";
	}
	return "unknown";
}

/* ---- as text ---- */

static void print_blocks(const struct snap_meta *meta)
{
	static const char *const headings[] = { "  BLOCK",    "KIND",
						">LENGTH",    ">STORED",
						">PAGE SIZE", ">BEGINS AT",
						NULL };
	g_autoptr(SnapTable) table = snap_table_new(headings);

	for (guint i = 0; i < meta->n_blocks; i++) {
		const struct snap_block *b = &meta->blocks[i];
		g_autofree char *name = g_strconcat("  ", b->name, NULL);
		g_autofree char *length = snap_size_format(b->length);
		g_autofree char *stored = b->ignored
						  ? g_strdup("elsewhere")
						  : snap_size_format(b->stored);
		g_autofree char *page = b->page_size
						? snap_size_format(b->page_size)
						: g_strdup("-");
		g_autofree char *base = g_strdup_printf("%#" PRIx64, b->base);
		const char *cells[] = { name,	kind_text(b->kind),
					length, stored,
					page,	base };

		snap_table_add(table, cells);
	}
	snap_table_print(table);
}

static void print_ram(const struct snap_figures *f)
{
	g_autofree char *ram = snap_size_format(f->ram);
	g_autofree char *state = snap_size_format(f->state);

	snap_print_field("RAM", "%s", ram);
	snap_print_field("Pages",
			 "%" PRIu64 ": %" PRIu64 " stored, %" PRIu64 " zero",
			 f->ram / SNAP_PAGE, (f->ram - f->zero) / SNAP_PAGE,
			 f->zero / SNAP_PAGE);
	snap_print_field("Device state", "%s", state);
}

static void print_before(const struct snap_preamble *before)
{
	g_autofree char *length = snap_size_format(before->length);
	bool libvirt = !strcmp(before->kind, "libvirt");
	bool zeros = !strcmp(before->kind, "zeros");

	snap_print_field("Before", "%s%s%s%s", length,
			 libvirt ? ", libvirt's header, "
			 : zeros ? ", zeros"
				 : "",
			 before->state,
			 before->rewritten ? ", written again since" : "");
}

static void print_subject(const struct subject *s)
{
	const struct snap_figures *f = &s->figures;
	g_autofree char *uuid = uuid_text(s->meta->uuid);
	g_autofree char *created = snap_print_time(f->created);
	g_autofree char *stored = snap_size_format(f->stored);
	g_autofree char *disk = snap_size_format(f->disk);
	g_autofree char *of_all = snap_print_ratio(f->logical, f->disk);
	g_autofree char *of_stored = snap_print_ratio(f->stored, f->disk);

	snap_print_field("Name", "%s", s->name);
	snap_print_field("File", "%s", s->file);
	snap_print_field("UUID", "%s", uuid);
	snap_print_field("Created", "%s", created);
	snap_print_field("Form", "%s%s%s", f->form, s->meta->why[0] ? ": " : "",
			 s->meta->why);
	snap_print_field("Machine", "%s",
			 s->meta->machine[0] ? s->meta->machine : "not said");
	if (s->before.length)
		print_before(&s->before);
	if (snap_meta_split(s->meta))
		print_ram(f);
	snap_print_field("Stored", "%s", stored);
	snap_print_field("On disk", "%s (1/%s of all, 1/%s of what is stored)",
			 disk, of_all, of_stored);
	snap_print_field("Regions",
			 "%" PRIu64 " of 2 MiB, %" PRIu64 " with data",
			 s->regions, s->used);
	if (s->noted)
		snap_print_field("Last save", "failed: %s", s->noted);
	print_blocks(s->meta);
}

/* ---- as JSON ---- */

static void json_blocks(SnapJson *json, const struct snap_meta *meta)
{
	snap_json_list(json, "blocks");
	for (guint i = 0; i < meta->n_blocks; i++) {
		const struct snap_block *b = &meta->blocks[i];

		snap_json_object(json, NULL);
		snap_json_name(json, "name", b->name);
		snap_json_text(json, "kind", kind_text(b->kind));
		snap_json_number(json, "length", b->length);
		snap_json_number(json, "stored", b->stored);
		snap_json_number(json, "page_size", b->page_size);
		snap_json_number(json, "base", b->base);
		snap_json_bool(json, "elsewhere", b->ignored);
		snap_json_end(json);
	}
	snap_json_end(json);
}

static void json_subject(SnapJson *json, const struct subject *s)
{
	g_autofree char *uuid = uuid_text(s->meta->uuid);

	snap_json_object(json, NULL);
	snap_json_name(json, "name", s->name);
	snap_json_name(json, "file", s->file);
	snap_json_text(json, "uuid", uuid);
	snap_figures_json(&s->figures, json);
	snap_json_text(json, "machine", s->meta->machine);
	if (s->meta->why[0])
		snap_json_text(json, "why", s->meta->why);
	if (s->noted)
		snap_json_text(json, "last_error", s->noted);
	snap_json_number(json, "before", s->before.length);
	if (s->before.length) {
		snap_json_text(json, "before_kind", s->before.kind);
		snap_json_bool(json, "before_rewritten", s->before.rewritten);
	}
	snap_json_number(json, "zero", s->figures.zero);
	snap_json_number(json, "device_state", s->figures.state);
	snap_json_number(json, "target_page", s->meta->target_page);
	snap_json_number(json, "regions", s->regions);
	snap_json_number(json, "regions_used", s->used);
	json_blocks(json, s->meta);
	snap_json_end(json);
}

/* ---- the verb ---- */

static void tell_subject(struct telling *t, const struct subject *s)
{
	if (t->each.json) {
		json_subject(t->each.json, s);
		return;
	}
	if (t->told++)
		putchar('\n');
	print_subject(s);
}

static int tell_snapshot(const char *path, int folder_fd, void *data)
{
	struct telling *t = data;
	g_autofree char *name = snap_place_title(t->each.place, path);
	g_autofree char *file = g_build_filename(t->each.place->store, path,
						 SNAP_CATALOG_SNAPSHOT, NULL);
	g_autofree char *noted = snap_catalog_noted(folder_fd);
	g_autoptr(SnapReader) reader = NULL;
	g_autoptr(GError) error = NULL;
	struct subject s = { .name = name, .file = file, .noted = noted };
	int r = snap_catalog_find(folder_fd, &reader, &error);

	if (r == -ENOENT) /* it was removed a moment ago */
		return 0;
	if (r < 0) {
		snap_each_fail(&t->each, name, error->message);
		return 0;
	}
	s.meta = snap_reader_meta(reader);
	s.figures = snap_figures_get(reader);
	if (count_regions(reader, &s, &error) < 0 ||
	    snap_preamble_look(s.meta, folder_fd, &s.before, &error) < 0)
		snap_each_fail(&t->each, name, error->message);
	else
		tell_subject(t, &s);
	return 0;
}

static int run(char **arguments, guint n, GError **error)
{
	struct telling t = { 0 };
	int r = snap_each_visit(&t.each, arguments, n, as_json, tell_snapshot,
				error);

	snap_each_clear(&t.each);
	return r < 0 ? r : t.each.status;
}

const struct snap_verb snap_verb_info = {
	.name = "info",
	.arguments = "STORE [NAME]...",
	.min_arguments = 1,
	.max_arguments = G_MAXUINT,
	.summary = "tell all that a snapshot says of itself",
	.help = "Tells of the snapshots at and below each NAME, or of all: "
		"machine, uuid, RAM\nblocks, pages that are stored and zero, "
		"size on disk, and why the last save into\nits folder failed, "
		"if it did.",
	.options = options,
	.run = run,
};
