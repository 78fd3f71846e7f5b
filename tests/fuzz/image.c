/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a snapshot file: opened, read as far as possible, verified. A
 * file that verify accepts must read completely.
 *
 * Input: a byte; the file. If bit 0 of the byte is set, the checksums of the
 * file are made right first: otherwise nearly every input would fail at the
 * first checksum. If bit 1 is set, two bytes (little-endian) follow it, and so
 * many of a file that is offered as every parent.
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

/* The input, taken apart. */
struct input {
	bool is_fixed;
	uint8_t *parent; /* or NULL */
	size_t parent_size;
	uint8_t *bytes;
	size_t size;
};

static bool take_apart(struct input *in, const uint8_t *data, size_t size)
{
	size_t at = 1;

	if (size < 1 || size > SIZE_MAX_FUZZED)
		return false;
	in->is_fixed = data[0] & 1;
	if (data[0] & 2) {
		if (size < 3)
			return false;
		in->parent_size = (size_t)(data[1] | data[2] << 8);
		at = 3;
		if (in->parent_size > size - at)
			return false;
		in->parent = g_memdup2(data + at, in->parent_size);
		at += in->parent_size;
	}
	in->size = size - at;
	in->bytes = g_memdup2(data + at, in->size);
	if (!in->is_fixed)
		return true;
	if (in->parent)
		image_fixup(in->parent, in->parent_size);
	image_fixup_child(in->bytes, in->size, in->parent, in->parent_size);
	return true;
}

/* Hands over the parents; true when all were taken. */
static bool set_parents(SnapReader *r, const struct input *in)
{
	bool are_set = true;

	for (guint i = 0; i < snap_reader_meta(r)->n_layers; i++) {
		GError *error = NULL;
		SnapFile *file = memory_file_new(in->parent, in->parent_size);
		int code = snap_reader_set_layer(r, i, file, &error);

		g_assert((code < 0) == (error != NULL));
		are_set = are_set && code == 0;
		g_clear_error(&error);
	}
	return are_set;
}

static void try_file(const struct input *in)
{
	GError *error = NULL;
	SnapReader *r;
	bool are_set;
	int verified;

	if (snap_reader_open(memory_file_new(in->bytes, in->size), &r, &error) <
	    0) {
		g_assert(error);
		g_error_free(error);
		return;
	}
	check_meta(snap_reader_meta(r));
	are_set = set_parents(r, in);
	verified = snap_verify(r, NULL, NULL, NULL, &error);
	g_assert((verified < 0) == (error != NULL));
	g_assert(are_set || verified < 0);
	if (!read_all(r))
		g_assert(verified < 0);
	g_clear_error(&error);
	snap_reader_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { 0 };

	if (take_apart(&in, data, size))
		try_file(&in);
	g_free(in.parent);
	g_free(in.bytes);
	return 0;
}
