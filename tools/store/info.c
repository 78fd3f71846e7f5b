/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapfs info: describes snapshots in full. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "format/base/error.h"
#include "tools/cli/print.h"
#include "tools/store/figures.h"
#include "tools/store/preamble.h"
#include "tools/store/verbs.h"
#include "tools/store/visit.h"

struct describing {
	struct snap_visit visit;
	guint printed;
};

/* One snapshot and what is printed about it. */
struct description {
	const char *name;
	char *file;
	char *last_error; /* why the last save into its folder failed */
	const struct snap_meta *meta;
	struct snap_figures figures;
	uint64_t regions;
	uint64_t used; /* regions with a page that is not zero */
	struct snap_preamble preamble;
};

/* Counts the regions that hold data. There is one node for each GiB. */
static int count_regions(SnapReader *reader, struct description *s,
			 GError **error)
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
		return "preamble";
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

static void print_preamble(const struct snap_preamble *preamble)
{
	g_autofree char *length = snap_size_format(preamble->length);
	bool libvirt = !strcmp(preamble->kind, "libvirt");
	bool zeros = !strcmp(preamble->kind, "zeros");

	snap_print_field("Preamble", "%s%s%s%s", length,
			 libvirt ? ", libvirt's header, "
			 : zeros ? ", zeros"
				 : "",
			 preamble->state,
			 preamble->rewritten ? ", rewritten after the save"
					     : "");
}

static void print_parents(const struct snap_meta *meta)
{
	for (guint i = 0; i < meta->n_layers; i++) {
		g_autofree char *uuid = snap_uuid_dup(meta->layers[i].uuid);
		g_autofree char *used = snap_size_format(meta->layers[i].used);
		g_autofree char *size = snap_size_format(meta->layers[i].size);

		snap_print_field("Parent", "%s, %s of its %s", uuid, used,
				 size);
	}
}

static void print_text(const struct description *s)
{
	const struct snap_figures *f = &s->figures;
	g_autofree char *uuid = snap_uuid_dup(s->meta->uuid);
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
			 s->meta->machine[0] ? s->meta->machine : "unknown");
	if (s->preamble.length)
		print_preamble(&s->preamble);
	if (snap_meta_split(s->meta))
		print_ram(f);
	snap_print_field("Stored", "%s", stored);
	snap_print_field("On disk",
			 "%s (1/%s of RAM and state, 1/%s of what is stored)",
			 disk, of_all, of_stored);
	print_parents(s->meta);
	snap_print_field("Regions",
			 "%" PRIu64 " of 2 MiB, %" PRIu64 " with data",
			 s->regions, s->used);
	if (s->last_error)
		snap_print_field("Last save", "failed: %s", s->last_error);
	print_blocks(s->meta);
}

/* ---- as JSON ---- */

static void json_blocks(SnapJsonWriter *json, const struct snap_meta *meta)
{
	snap_json_writer_list(json, "blocks");
	for (guint i = 0; i < meta->n_blocks; i++) {
		const struct snap_block *b = &meta->blocks[i];

		snap_json_writer_object(json, NULL);
		snap_json_writer_name(json, "name", b->name);
		snap_json_writer_text(json, "kind", kind_text(b->kind));
		snap_json_writer_number(json, "length", b->length);
		snap_json_writer_number(json, "stored", b->stored);
		snap_json_writer_number(json, "page_size", b->page_size);
		snap_json_writer_number(json, "base", b->base);
		snap_json_writer_bool(json, "elsewhere", b->ignored);
		snap_json_writer_end(json);
	}
	snap_json_writer_end(json);
}

static void json_parents(SnapJsonWriter *json, const struct snap_meta *meta)
{
	snap_json_writer_list(json, "parents");
	for (guint i = 0; i < meta->n_layers; i++) {
		g_autofree char *uuid = snap_uuid_dup(meta->layers[i].uuid);

		snap_json_writer_object(json, NULL);
		snap_json_writer_text(json, "uuid", uuid);
		snap_json_writer_number(json, "used", meta->layers[i].used);
		snap_json_writer_number(json, "disk", meta->layers[i].size);
		snap_json_writer_end(json);
	}
	snap_json_writer_end(json);
}

static void print_json(SnapJsonWriter *json, const struct description *s)
{
	g_autofree char *uuid = snap_uuid_dup(s->meta->uuid);

	snap_json_writer_object(json, NULL);
	snap_json_writer_name(json, "name", s->name);
	snap_json_writer_name(json, "file", s->file);
	snap_json_writer_text(json, "uuid", uuid);
	snap_figures_json(&s->figures, json);
	snap_json_writer_text(json, "machine", s->meta->machine);
	if (s->meta->why[0])
		snap_json_writer_text(json, "why", s->meta->why);
	if (s->last_error)
		snap_json_writer_text(json, "last_error", s->last_error);
	snap_json_writer_number(json, "preamble", s->preamble.length);
	if (s->preamble.length) {
		snap_json_writer_text(json, "preamble_kind", s->preamble.kind);
		snap_json_writer_bool(json, "preamble_rewritten",
				      s->preamble.rewritten);
	}
	snap_json_writer_number(json, "zero", s->figures.zero);
	snap_json_writer_number(json, "device_state", s->figures.state);
	snap_json_writer_number(json, "target_page", s->meta->target_page);
	snap_json_writer_number(json, "regions", s->regions);
	snap_json_writer_number(json, "regions_used", s->used);
	json_parents(json, s->meta);
	json_blocks(json, s->meta);
	snap_json_writer_end(json);
}

/* ---- the verb ---- */

static void print_description(struct describing *all,
			      const struct description *s)
{
	if (all->visit.json) {
		print_json(all->visit.json, s);
		return;
	}
	if (all->printed++)
		putchar('\n');
	print_text(s);
}

static int describe(const char *path, int folder_fd, void *data)
{
	struct describing *all = data;
	g_autofree char *name = snap_place_title(all->visit.place, path);
	g_autofree char *file = g_build_filename(all->visit.place->store, path,
						 SNAP_CATALOG_SNAPSHOT, NULL);
	g_autofree char *last_error = snap_catalog_noted(folder_fd);
	g_autoptr(SnapReader) reader =
		snap_visit_open(&all->visit, name, folder_fd);
	g_autoptr(GError) error = NULL;
	struct description s = { .name = name,
				 .file = file,
				 .last_error = last_error };

	if (!reader)
		return 0;
	s.meta = snap_reader_meta(reader);
	/* As text, the rest is shown as well: it lists all parents. */
	if (!snap_visit_check_parents(&all->visit, name, folder_fd, s.meta) &&
	    all->visit.json)
		return 0;
	s.figures = snap_figures_get(reader);
	if (count_regions(reader, &s, &error) < 0 ||
	    snap_preamble_look(s.meta, folder_fd, &s.preamble, &error) < 0)
		snap_visit_fail(&all->visit, name, error->message);
	else
		print_description(all, &s);
	return 0;
}

static int run(char **arguments, guint n, GError **error)
{
	struct describing all = { 0 };

	return snap_visit_run(&all.visit, arguments, n, describe, error);
}

const struct snap_verb snap_verb_info = {
	.name = "info",
	.arguments = "STORE [NAME]...",
	.min_arguments = 1,
	.max_arguments = G_MAXUINT,
	.summary = "describe snapshots in full",
	.help = "Describes the snapshots at and below each NAME, or all: "
		"machine type, uuid, RAM\nblocks, stored and zero pages, size "
		"on disk, and the error of the last save into\nits folder, if "
		"that failed.",
	.options = snap_visit_options,
	.run = run,
};
