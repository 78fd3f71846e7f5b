/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Prints what the parser finds in a file, and writes the parts: a tool to try
 * the parser on streams of a real QEMU.
 *
 *	stream-dump STREAM [--begin N] [--step N] [--devstate OUT] [--ram OUT]
 *		[--synth OUT] [--mapped OUT [--at N]]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/stream.h"

static int dump_step;
static gint64 dump_begin;
static gint64 dump_at;
static char *dump_devstate;
static char *dump_ram;
static char *dump_synth;
static char *dump_mapped;

static const GOptionEntry dump_options[] = {
	{ "step", 0, 0, G_OPTION_ARG_INT, &dump_step, "feed N bytes at a time",
	  "N" },
	{ "begin", 0, 0, G_OPTION_ARG_INT64, &dump_begin,
	  "the stream begins at N of the file", "N" },
	{ "at", 0, 0, G_OPTION_ARG_INT64, &dump_at,
	  "and in the mapped-ram form", "N" },
	{ "devstate", 0, 0, G_OPTION_ARG_FILENAME, &dump_devstate,
	  "write the stream without its pages", "OUT" },
	{ "ram", 0, 0, G_OPTION_ARG_FILENAME, &dump_ram,
	  "write the RAM blocks, flat", "OUT" },
	{ "synth", 0, 0, G_OPTION_ARG_FILENAME, &dump_synth,
	  "write the stream in its canonical form", "OUT" },
	{ "mapped", 0, 0, G_OPTION_ARG_FILENAME, &dump_mapped,
	  "write the stream in its mapped-ram form", "OUT" },
	{ NULL }
};

static void dump_print(const struct stream_split *split,
		       const struct snap_stream_info *info)
{
	printf("machine      %s\n", info->machine);
	printf("target page  %u\n", info->target_page);
	printf("ram section  %u\n", info->ram_section);
	printf("mapped       %s, begins at %" PRIu64
	       ", capabilities at %" PRIu64 "\n",
	       info->mapped ? "yes" : "no", info->begin, info->caps_at);
	printf("footers      %s\n", info->footers ? "yes" : "no");
	printf("stream       %" PRIu64 "\n", info->size);
	printf("devstate     %" PRIu64 ", pages at %" PRIu64 "\n",
	       info->state_size, info->pages_at);
	printf("pages        %" PRIu64 " bytes, %" PRIu64 " bytes of fill\n",
	       split->pages, split->fills);
	for (guint i = 0; i < info->ram.n; i++) {
		const struct snap_ram_block *b = &info->ram.blocks[i];
		uint64_t sent = 0;

		for (uint64_t at = 0; at < b->length; at += 4096)
			sent += split->sent[(b->flat + at) / 4096];
		printf("block        %-32s length 0x%" PRIx64 " page 0x%" PRIx64
		       " gpa 0x%" PRIx64 " flat 0x%" PRIx64 " stored 0x%" PRIx64
		       " sent 0x%" PRIx64 "%s\n",
		       b->name, b->length, b->page_size, b->gpa, b->flat,
		       b->stored, sent * 4096, b->ignored ? " ignored" : "");
	}
	printf("opaque       %s\n", split->why ? split->why : "no");
	printf("error        %s\n", split->error ? split->error : "none");
	printf("complete     %s\n", split->complete ? "yes" : "no");
	printf("end          %s\n",
	       split->end_error ? split->end_error : "whole");
}

static int dump_write(const char *path, const void *data, size_t size)
{
	g_autoptr(GError) error = NULL;

	if (g_file_set_contents(path, data, (gssize)size, &error))
		return 0;
	fprintf(stderr, "%s\n", error->message);
	return 1;
}

static int dump_write_synth(const struct stream_split *split,
			    const struct snap_stream_info *info, bool mapped)
{
	g_autoptr(SnapLayout) layout = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree uint8_t *bytes = NULL;
	size_t size;
	int r;

	if (mapped)
		r = stream_layout_mapped(split, info, (uint64_t)dump_at,
					 &layout, &error);
	else
		r = snap_layout_classic(info, &layout, &error);
	if (r < 0) {
		fprintf(stderr, "%s\n", error->message);
		return 1;
	}
	size = (size_t)snap_layout_size(layout);
	bytes = g_malloc(size);
	if (!stream_read(split, info, layout, 0, bytes, size)) {
		fprintf(stderr, "the layout has a hole\n");
		return 1;
	}
	printf("synth        %zu\n", size);
	return dump_write(mapped ? dump_mapped : dump_synth, bytes, size);
}

int main(int argc, char **argv)
{
	g_autoptr(GOptionContext) context = g_option_context_new("STREAM");
	struct snap_stream_info info;
	g_autoptr(GError) error = NULL;
	g_autofree char *data = NULL;
	struct stream_split split;
	gsize size;
	int r;

	g_option_context_add_main_entries(context, dump_options, NULL);
	if (!g_option_context_parse(context, &argc, &argv, &error) ||
	    argc != 2 || !g_file_get_contents(argv[1], &data, &size, &error)) {
		fprintf(stderr, "%s\n", error ? error->message : "one STREAM");
		return 2;
	}
	stream_split_at(&split, data, size, (uint64_t)dump_begin, 0,
			(size_t)dump_step);
	info = stream_info(&split);
	dump_print(&split, &info);
	r = split.end < 0;
	if (r == 0 && dump_devstate)
		r = dump_write(dump_devstate, split.state->data,
			       split.state->len);
	if (r == 0 && dump_ram && split.ram)
		r = dump_write(dump_ram, split.ram, info.ram.flat_size);
	if (r == 0 && dump_synth && !split.why)
		r = dump_write_synth(&split, &info, false);
	if (r == 0 && dump_mapped && !split.why)
		r = dump_write_synth(&split, &info, true);
	snap_ramlist_clear(&info.ram);
	stream_split_clear(&split);
	return r;
}
