/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stream is parsed, synthesized, and parsed again: the layout has no gaps,
 * reads the same at any offset as from the beginning, and the second parse
 * gives the same as the first. This holds for the classic form, the mapped-ram
 * form and devstate.
 *
 * Input: a byte, where reading begins; a stream, which may be mapped-ram.
 * Guests above 1 MiB are skipped.
 */
#include <glib.h>
#include <string.h>

#include "format/base/error.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/stream.h"

#define RAM_MAX ((uint64_t)1 << 20)

static bool is_small(const uint8_t *data, size_t size)
{
	g_autoptr(SnapParser) p = snap_parser_new();
	const struct snap_stream_info *info = snap_parser_info(p);
	struct snap_event ev;
	uint64_t ram = 0;

	snap_parser_feed(p, data, size);
	while (snap_parser_step(p, &ev, NULL) > 0) {
		if (ev.kind == SNAP_EVENT_OPAQUE)
			return false;
		if (ev.kind != SNAP_EVENT_JUMP)
			continue;
		if (ev.offset > size)
			return false;
		snap_parser_feed(p, data + ev.offset, size - ev.offset);
	}
	if (snap_parser_end(p, NULL) < 0 || info->ram.n > 8)
		return false;
	for (guint i = 0; i < info->ram.n; i++)
		ram += MIN(info->ram.blocks[i].length, RAM_MAX);
	return ram < RAM_MAX;
}

static GByteArray *put_together(const struct stream_split *split, uint8_t from)
{
	struct snap_stream_info info = stream_info(split);
	GByteArray *reference = stream_canonical(split);
	g_autofree uint8_t *bytes = g_malloc(reference->len);
	g_autoptr(SnapLayout) layout = NULL;
	size_t at;

	g_assert(snap_layout_classic(&info, &layout, NULL) == 0);
	g_assert(snap_layout_size(layout) == reference->len);
	at = reference->len * (size_t)from / 256;
	g_assert(stream_read(split, &info, layout, at, bytes + at,
			     reference->len - at));
	g_assert(stream_read(split, &info, layout, 0, bytes, at));
	g_assert(memcmp(bytes, reference->data, reference->len) == 0);
	snap_ramlist_clear(&info.ram);
	return reference;
}

static void same_state(const struct stream_split *a,
		       const struct stream_split *b)
{
	const struct snap_ramlist *x = &a->info->ram, *y = &b->info->ram;

	g_assert(b->end == 0 && !b->why);
	g_assert(a->state->len == b->state->len);
	g_assert(memcmp(a->state->data, b->state->data, a->state->len) == 0);
	g_assert(a->info->pages_at == b->info->pages_at);
	g_assert(x->n == y->n);
	for (guint i = 0; i < x->n; i++)
		g_assert(x->blocks[i].listed == y->blocks[i].listed);
}

static void same_ram(const struct stream_split *a, const struct stream_split *b)
{
	for (guint i = 0; i < a->info->ram.n; i++) {
		const struct snap_ram_block *x = &a->info->ram.blocks[i];
		const struct snap_ram_block *y = &b->info->ram.blocks[i];

		g_assert(x->ignored == y->ignored && x->flat == y->flat);
		g_assert(memcmp(a->ram + x->flat, b->ram + y->flat,
				x->length) == 0);
	}
}

static bool has_memory(const struct stream_split *split)
{
	for (guint i = 0; i < split->info->ram.n; i++)
		if (!split->info->ram.blocks[i].ignored)
			return true;
	return false;
}

static void check_classic(const struct stream_split *first, uint8_t from)
{
	struct stream_split second;
	GByteArray *one = put_together(first, from), *two;

	stream_split(&second, one->data, one->len, 0, 0);
	two = put_together(&second, (uint8_t)~from);
	/* Without pages, and without an end of RAM, nothing says that RAM
	 * came. A mapped-ram stream may have sections that no classic stream
	 * can be split behind; its snapshot has no classic form. */
	g_assert(!second.why || !has_memory(first) || first->info->ram_parts);
	/* RAM's empty sections do not come back from a classic stream. */
	if (!first->info->mapped && !second.why) {
		g_assert(one->len == two->len);
		g_assert(memcmp(one->data, two->data, one->len) == 0);
		same_state(first, &second);
	}
	if (!second.why)
		same_ram(first, &second);
	g_byte_array_unref(one);
	g_byte_array_unref(two);
	stream_split_clear(&second);
}

/* Synthesizes the mapped-ram form that begins at `begin` of its file; NULL if
 * there is none. */
static uint8_t *put_mapped(const struct stream_split *split, uint64_t begin,
			   uint8_t from, size_t *ret_size)
{
	struct snap_stream_info info = stream_info(split);
	g_autoptr(SnapLayout) layout = NULL;
	uint8_t *bytes = NULL;
	int r = stream_layout_mapped(split, &info, begin, &layout, NULL);
	size_t at;

	g_assert(r == 0 || (r == -EOPNOTSUPP && !info.caps_at));
	if (r == 0) {
		*ret_size = (size_t)snap_layout_size(layout);
		at = *ret_size * from / 256;
		bytes = g_malloc(*ret_size);
		g_assert(stream_read(split, &info, layout, at, bytes + at,
				     *ret_size - at));
		g_assert(stream_read(split, &info, layout, 0, bytes, at));
	}
	snap_ramlist_clear(&info.ram);
	return bytes;
}

static void check_mapped(const struct stream_split *first, uint8_t from)
{
	size_t size = 0, again_size = 0;
	uint64_t begin = from * 97u;
	g_autofree uint8_t *bytes = put_mapped(first, begin, from, &size);
	g_autofree uint8_t *again = NULL;
	struct stream_split second;

	if (!bytes)
		return;
	stream_split_at(&second, bytes, size, begin, 0, 0);
	g_assert(second.info->mapped);
	same_state(first, &second);
	same_ram(first, &second);
	again = put_mapped(&second, begin, (uint8_t)~from, &again_size);
	g_assert(again && size == again_size);
	g_assert(memcmp(bytes, again, size) == 0);
	stream_split_clear(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct stream_split first, devstate;

	if (size < 2 || !is_small(data + 1, size - 1))
		return 0;
	stream_split(&first, data + 1, size - 1, 0, 0);
	check_classic(&first, data[0]);
	check_mapped(&first, data[0]);
	stream_split_devstate(&devstate, first.state->data, first.state->len);
	same_state(&first, &devstate);
	stream_split_clear(&devstate);
	stream_split_clear(&first);
	return 0;
}
