/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Prints what it costs to open a snapshot, and to get at a first page of it,
 * for guests of 1, 16 and 256 GiB: bytes read, and time (the median of many
 * openings, the file in the page cache).
 *
 * The guests have an extent in each of their regions, so that the map is as
 * large as a full guest's in all that opening looks at.
 *
 * usage: open-cost [FOLDER]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format/image/image.h"

#define NAME "open-cost.zst"
#define TIMES 101

static void die(const char *what, int r)
{
	fprintf(stderr, "open-cost: %s: %s\n", what, strerror(-r));
	exit(1);
}

static void must(const char *what, int r)
{
	if (r < 0)
		die(what, r);
}

/* A page of text-like bytes in an extent of its own. */
static size_t make_frame(void *ret)
{
	g_autoptr(SnapCodec) codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	uint8_t page[SNAP_PAGE];
	ssize_t n;

	for (guint i = 0; i < sizeof(page); i++)
		page[i] = (uint8_t)(i % 251);
	n = snap_codec_compress(codec, page, 1, ret);
	must("compressing", (int)n);
	return (size_t)n;
}

static void save(int dirfd, uint64_t ram)
{
	struct snap_meta meta = { .form = SNAP_FORM_CLASSIC,
				  .target_page = SNAP_PAGE };
	struct snap_writer_opts opts = { 0 };
	g_autoptr(SnapWriter) w = NULL;
	g_autofree void *frame = g_malloc(SNAP_EXTENT_BOUND);
	size_t size = make_frame(frame);
	GError *error = NULL;

	must("creating", snap_file_create(dirfd, NAME ".new", 0600, NULL,
					  SNAP_FILE_AUTO, &opts.file));
	must("creating", snap_file_scratch(dirfd, &opts.scratch));
	must("writing", snap_writer_new(&opts, &w, &error));
	for (uint64_t i = 0; i < ram / SNAP_REGION; i++) {
		uint16_t page = (uint16_t)(i * 37 % SNAP_REGION_PAGES);

		must("writing",
		     snap_writer_extent(w, i, &page, 1, frame, size));
	}
	snap_meta_add_block(&meta, SNAP_BLOCK_RAM, "pc.ram", ram);
	snap_meta_add_block(&meta, SNAP_BLOCK_STATE, "devstate", 0);
	must("writing", snap_writer_commit(w, &meta, dirfd, NAME, &error));
	snap_meta_clear(&meta);
}

static SnapReader *open_once(int dirfd)
{
	GError *error = NULL;
	SnapReader *r;
	SnapFile *file;

	file = snap_file_wrap(openat(dirfd, NAME, O_RDONLY | O_CLOEXEC));
	must("opening", snap_reader_open(file, &r, &error));
	return r;
}

/* The page in the middle of RAM, by way of its node and leaf. */
static void first_page(SnapReader *r, SnapCodec *codec, uint64_t ram)
{
	uint64_t region = ram / SNAP_REGION / 2;
	uint8_t data[SNAP_EXTENT_BYTES];
	struct snap_node node;
	struct snap_leaf leaf;

	must("reading",
	     snap_reader_node(r, (guint)(region / SNAP_NODE_ENTRIES), &node));
	must("reading",
	     snap_reader_leaf(r, region,
			      &node.entries[region % SNAP_NODE_ENTRIES],
			      &leaf));
	for (guint i = 0; i < leaf.n; i++)
		if (leaf.segments[i].kind == SNAP_SEGMENT_EXTENT)
			must("reading", snap_reader_extent(r, &leaf.segments[i],
							   codec, data));
}

static int compare(const void *a, const void *b)
{
	gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;

	return x < y ? -1 : x > y;
}

static void measure(int dirfd, uint64_t ram)
{
	g_autoptr(SnapCodec) codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	gint64 open_time[TIMES], page_time[TIMES];
	uint64_t open_bytes = 0, page_bytes = 0;

	for (guint i = 0; i < TIMES; i++) {
		gint64 start = g_get_monotonic_time();
		SnapReader *r = open_once(dirfd);

		open_time[i] = g_get_monotonic_time() - start;
		open_bytes = snap_reader_bytes_read(r);
		start = g_get_monotonic_time();
		first_page(r, codec, ram);
		page_time[i] = g_get_monotonic_time() - start;
		page_bytes = snap_reader_bytes_read(r) - open_bytes;
		snap_reader_free(r);
	}
	qsort(open_time, TIMES, sizeof(open_time[0]), compare);
	qsort(page_time, TIMES, sizeof(page_time[0]), compare);
	printf("%10u GiB %12u %9u us %12u %9u us\n", (unsigned)(ram / SNAP_GIB),
	       (unsigned)open_bytes, (unsigned)open_time[TIMES / 2],
	       (unsigned)page_bytes, (unsigned)page_time[TIMES / 2]);
}

int main(int argc, char **argv)
{
	static const uint64_t sizes[] = { 1, 16, 256 };
	const char *folder = argc > 1 ? argv[1] : ".";
	int dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dirfd < 0)
		die(folder, -errno);
	printf("%14s %12s %12s %12s %12s\n", "guest", "open, bytes", "time",
	       "page, bytes", "time");
	for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
		save(dirfd, sizes[i] * SNAP_GIB);
		measure(dirfd, sizes[i] * SNAP_GIB);
	}
	unlinkat(dirfd, NAME, 0);
	close(dirfd);
	return 0;
}
