/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/store/holes.h"

#include <unistd.h>

#include "format/base/fileio.h"
#include "format/qemu/parse.h"

#define PIECE 65536u

/* A part of the file that holds the pages of one RAM block. */
struct range {
	uint64_t begin;
	uint64_t end;
};

struct SnapHoles {
	int fd;
	off_t base;
	GArray *ranges; /* of struct range, in order */
};

/* Parses the stream up to the end of the list of RAM blocks; false if there is
 * none. */
static bool parse_list(SnapParser *p, int fd, off_t base, uint64_t at)
{
	g_autofree void *buf = g_malloc(PIECE);
	struct snap_event event;

	for (;;) {
		int r = snap_parser_step(p, &event, NULL);
		ssize_t n;

		if (r < 0)
			return false;
		if (r == 0) {
			n = snap_pread_all(fd, buf, PIECE, (uint64_t)base + at);
			if (n <= 0)
				return false;
			snap_parser_feed(p, buf, (size_t)n);
			at += (uint64_t)n;
		} else if (event.kind == SNAP_EVENT_JUMP) {
			at = event.offset;
		} else if (event.kind != SNAP_EVENT_STATE) {
			return event.kind == SNAP_EVENT_RAM;
		}
	}
}

SnapHoles *snap_holes_new(int fd, off_t base, uint64_t stream)
{
	SnapHoles *holes = g_new0(SnapHoles, 1);
	g_autoptr(SnapParser) p = snap_parser_new();
	const struct snap_stream_info *info = snap_parser_info(p);

	holes->fd = fd;
	holes->base = base;
	holes->ranges = g_array_new(FALSE, FALSE, sizeof(struct range));
	snap_parser_begin_at(p, stream);
	if (!parse_list(p, fd, base, stream) || !info->mapped)
		return holes;
	for (guint i = 0; i < info->ram.n; i++) {
		const struct snap_ram_block *b = &info->ram.blocks[i];
		struct range range = { b->pages, b->pages + b->length };

		if (b->pages)
			g_array_append_val(holes->ranges, range);
	}
	return holes;
}

void snap_holes_free(SnapHoles *holes)
{
	if (!holes)
		return;
	g_array_unref(holes->ranges);
	g_free(holes);
}

/* The first range that ends after `at`, or NULL. */
static const struct range *range_at(const SnapHoles *holes, uint64_t at)
{
	for (guint i = 0; i < holes->ranges->len; i++) {
		const struct range *range =
			&g_array_index(holes->ranges, struct range, i);

		if (at < range->end)
			return range;
	}
	return NULL;
}

uint64_t snap_holes_skip(const SnapHoles *holes, uint64_t at, uint64_t *ret_end)
{
	const struct range *range = range_at(holes, at);
	uint64_t base = (uint64_t)holes->base, from, to;

	if (range && at >= range->begin) {
		snap_next_data(holes->fd, base + at, base + range->end, &from,
			       &to);
		at = from - base;
		range = range_at(holes, at);
	}
	*ret_end = !range	       ? UINT64_MAX
		   : at < range->begin ? range->begin
				       : range->end;
	return at;
}
