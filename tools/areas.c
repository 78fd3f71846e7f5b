/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/areas.h"

#include <errno.h>
#include <unistd.h>

#include "format/qemu/parse.h"

#define PIECE 65536u

/* Parses up to the end of the list of RAM blocks; false where there is none. */
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
			n = pread(fd, buf, PIECE, base + (off_t)at);
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

GArray *snap_areas_read(int fd, off_t base, uint64_t begin)
{
	GArray *areas = g_array_new(FALSE, FALSE, sizeof(struct snap_area));
	g_autoptr(SnapParser) p = snap_parser_new();
	const struct snap_stream_info *info = snap_parser_info(p);

	snap_parser_begin_at(p, begin);
	if (!parse_list(p, fd, base, begin) || !info->mapped)
		return areas;
	for (guint i = 0; i < info->ram.n; i++) {
		const struct snap_ram_block *b = &info->ram.blocks[i];
		struct snap_area area = { b->pages, b->pages + b->length };

		if (b->pages)
			g_array_append_val(areas, area);
	}
	return areas;
}

/* The first area that ends behind `at`, or NULL. */
static const struct snap_area *area_at(const GArray *areas, uint64_t at)
{
	for (guint i = 0; i < areas->len; i++) {
		const struct snap_area *a =
			&g_array_index(areas, struct snap_area, i);

		if (at < a->end)
			return a;
	}
	return NULL;
}

uint64_t snap_areas_skip(const GArray *areas, int fd, off_t base, uint64_t at)
{
	const struct snap_area *a = area_at(areas, at);
	off_t data;

	if (!a || at < a->begin)
		return at;
	data = lseek(fd, base + (off_t)at, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? a->end : at;
	return MIN((uint64_t)(data - base), a->end);
}

uint64_t snap_areas_edge(const GArray *areas, uint64_t at)
{
	const struct snap_area *a = area_at(areas, at);

	if (!a)
		return UINT64_MAX;
	return at < a->begin ? a->begin : a->end;
}
