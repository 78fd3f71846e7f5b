/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stream is taken apart, put together, and taken apart again: the layout has
 * no gaps, reads the same at any offset as from the beginning, and the second
 * time everything comes out as the first time.
 *
 * Input: a byte, where reading begins; a stream. Guests above 1 MiB are left
 * alone.
 */
#include <glib.h>
#include <string.h>

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
	while (snap_parser_step(p, &ev, NULL) > 0)
		if (ev.kind == SNAP_EVENT_OPAQUE)
			return false;
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct stream_split first, second;
	GByteArray *one, *two;

	if (size < 2 || !is_small(data + 1, size - 1))
		return 0;
	stream_split(&first, data + 1, size - 1, 0, 0);
	one = put_together(&first, data[0]);
	stream_split(&second, one->data, one->len, 0, 0);
	two = put_together(&second, (uint8_t)~data[0]);
	g_assert(second.end == 0 && !second.why);
	g_assert(one->len == two->len);
	g_assert(memcmp(one->data, two->data, one->len) == 0);
	g_assert(first.state->len == second.state->len);
	g_assert(memcmp(first.state->data, second.state->data,
			first.state->len) == 0);
	g_byte_array_unref(one);
	g_byte_array_unref(two);
	stream_split_clear(&first);
	stream_split_clear(&second);
	return 0;
}
