/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a snapshot file: opened, read as far as possible, verified. A
 * file that verify accepts must read completely.
 *
 * Input: a byte; the file. If the byte is odd, the checksums of the file are
 * made right first: otherwise nearly every input would fail at the first
 * checksum.
 */
#include <glib.h>
#include <string.h>

#include "format/image/image.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/crash-file.h"
#include "tests/lib/image-fixup.h"

#define SIZE_MAX_FUZZED ((size_t)64 << 10)

static bool read_leaf(SnapReader *r, SnapCodec *codec, uint64_t region,
		      const struct snap_entry *e)
{
	uint8_t data[SNAP_EXTENT_BYTES];
	struct snap_leaf leaf;
	bool is_whole = true;
	guint pages = 0;

	if (snap_reader_leaf(r, region, e, &leaf) < 0)
		return false;
	for (guint i = 0; i < leaf.n; i++) {
		const struct snap_segment *s = &leaf.segments[i];

		g_assert(s->page == pages && s->count > 0);
		pages += s->count;
		if (s->kind != SNAP_SEGMENT_EXTENT)
			continue;
		g_assert(s->first + s->count <= s->pages);
		if (snap_reader_extent(r, s, codec, data) < 0)
			is_whole = false;
	}
	g_assert(pages == SNAP_REGION_PAGES);
	return is_whole;
}

/* Reads everything; returns false if something could not be read. */
static bool read_all(SnapReader *r)
{
	g_autoptr(SnapCodec) codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	struct snap_node node;
	bool is_whole = true;
	guint n;

	snap_reader_top(r, &n);
	for (guint i = 0; i < n; i++) {
		if (snap_reader_node(r, i, &node) < 0) {
			is_whole = false;
			continue;
		}
		for (guint j = 0; j < node.n; j++)
			if (!read_leaf(r, codec,
				       (uint64_t)i * SNAP_NODE_ENTRIES + j,
				       &node.entries[j]))
				is_whole = false;
	}
	return is_whole;
}

static void check_meta(const struct snap_meta *meta)
{
	for (guint i = 0; i < meta->n_blocks; i++) {
		const struct snap_block *b = &meta->blocks[i];

		g_assert(strlen(b->name) > 0);
		g_assert(b->base % SNAP_REGION == 0);
		g_assert(b->stored <= snap_round_up(b->length, SNAP_PAGE));
	}
	g_assert(strlen(meta->machine) < sizeof(meta->machine));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree uint8_t *bytes = NULL;
	GError *error = NULL;
	SnapReader *r;
	int verified;

	if (size < 1 || size > SIZE_MAX_FUZZED)
		return 0;
	bytes = g_memdup2(data + 1, size - 1);
	if (data[0] & 1)
		image_fixup(bytes, size - 1);
	if (snap_reader_open(memory_file_new(bytes, size - 1), &r, &error) <
	    0) {
		g_assert(error);
		g_error_free(error);
		return 0;
	}
	check_meta(snap_reader_meta(r));
	verified = snap_verify(r, NULL, NULL, &error);
	g_assert((verified < 0) == (error != NULL));
	if (!read_all(r))
		g_assert(verified < 0);
	g_clear_error(&error);
	snap_reader_free(r);
	return 0;
}
