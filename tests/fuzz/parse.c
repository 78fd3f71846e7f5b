/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parser on any bytes: its events stay within their bounds, add up, and are
 * the same at any cut.
 *
 * Input: a byte, how many bytes are fed at a time; a byte, its lowest bit set
 * for a devstate, the others the offset of the stream in its file; the stream.
 * After a jump, the input continues right after the header: it does not have
 * the bitmaps and pages of a mapped-ram file.
 */
#include <glib.h>
#include <string.h>

#include "format/base/error.h"
#include "format/qemu/parse.h"
#include "format/qemu/wire.h"
#include "tests/fuzz/fuzz.h"

/* The result of a stream, in few bytes: RAM may have 64 TiB. */
struct verdict {
	uint64_t state; /* sums, in order */
	uint64_t pages;
	uint64_t state_size;
	guint lists;
	guint opaque;
	guint any_page;
	uint64_t exact; /* the end of the last piece of state in the file */
	uint64_t skew;	/* from an offset in the input to one in the file */
	bool jumped;
	int r;
	int end;
	bool complete;
	char *error;
};

static uint64_t sum(uint64_t n, const void *data, size_t size)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < size; i++)
		n = (n ^ p[i]) * 0x100000001b3;
	return n;
}

static void see_page(struct verdict *v, const struct snap_event *ev,
		     uint64_t offset, const uint8_t *data, size_t size)
{
	uint64_t where[3] = { ev->block, offset, ev->fill };

	v->pages = sum(v->pages, where, sizeof(where));
	if (data)
		v->pages = sum(v->pages, data, size);
}

static void see_pages(struct verdict *v, const struct snap_stream_info *info,
		      const struct snap_event *ev)
{
	uint32_t page = info->target_page;

	g_assert(v->lists == 1 && !v->opaque && !info->mapped);
	v->any_page = 1;
	g_assert(ev->block < info->ram.n);
	g_assert(ev->size > 0 && ev->size % page == 0);
	g_assert(ev->offset % page == 0);
	g_assert(ev->offset < info->ram.blocks[ev->block].length);
	g_assert(ev->size <= info->ram.blocks[ev->block].length - ev->offset);
	if (ev->kind == SNAP_EVENT_PAGE) {
		g_assert(ev->size == page);
		see_page(v, ev, ev->offset, ev->data, ev->size);
		return;
	}
	for (uint64_t at = 0; at < ev->size; at += page)
		see_page(v, ev, ev->offset + at, NULL, 0);
}

/* The parts of a block follow its header, in order, and the stream goes on at
 * their end. */
static void see_jump(struct verdict *v, const struct snap_stream_info *info,
		     const struct snap_event *ev)
{
	const struct snap_ram_block *b = &info->ram.blocks[ev->block];
	uint64_t header = v->exact + WIRE_MAPPED_HEADER;
	uint64_t where[2] = { b->bitmap, b->pages };

	g_assert(info->mapped && !v->lists && !v->opaque && !b->ignored);
	g_assert(ev->block == info->ram.n - 1);
	g_assert(b->bitmap >= header && b->pages >= b->bitmap);
	g_assert(b->pages - b->bitmap >= snap_ram_bitmap(b, info->target_page));
	g_assert(b->pages % info->target_page == 0);
	g_assert(ev->offset >= b->pages && ev->offset <= INT64_MAX);
	g_assert(ev->offset - b->pages == b->length);
	g_assert(info->size == ev->offset);
	v->pages = sum(v->pages, where, sizeof(where));
	v->skew += ev->offset - header;
	v->jumped = true;
}

static void see(struct verdict *v, const struct snap_stream_info *info,
		const struct snap_event *ev)
{
	switch (ev->kind) {
	case SNAP_EVENT_RAM:
		v->lists++;
		g_assert(v->lists == 1 && !v->opaque);
		g_assert(info->ram.n <= SNAP_RAM_BLOCKS_MAX);
		g_assert(info->ram.flat_size <= SNAP_RAM_BYTES_MAX);
		return;
	case SNAP_EVENT_PAGE:
	case SNAP_EVENT_FILL:
		see_pages(v, info, ev);
		return;
	case SNAP_EVENT_STATE:
		g_assert(ev->size > 0);
		v->state = sum(v->state, ev->data, ev->size);
		v->state_size += ev->size;
		g_assert(v->state_size == info->state_size);
		v->exact = info->size;
		return;
	case SNAP_EVENT_JUMP:
		see_jump(v, info, ev);
		return;
	case SNAP_EVENT_OPAQUE:
		g_assert(!v->opaque && !v->any_page && ev->why);
		g_assert(!info->mapped);
		v->opaque = 1;
		return;
	}
	g_assert_not_reached();
}

static int feed(struct verdict *v, SnapParser *p, const uint8_t *data,
		size_t size)
{
	g_autofree uint8_t *copy = g_memdup2(data, size);
	g_autoptr(GError) error = NULL;
	struct snap_event ev;

	snap_parser_feed(p, copy, size);
	while ((v->r = snap_parser_step(p, &ev, &error)) > 0)
		see(v, snap_parser_info(p), &ev);
	if (v->r < 0) {
		g_assert(v->r == -EPROTO || v->r == -EOPNOTSUPP);
		g_assert(error->code == -v->r);
		g_assert(g_str_has_prefix(error->message, "offset "));
	}
	return v->r;
}

static void check_list(const struct snap_stream_info *info)
{
	uint64_t listed = info->caps_at;

	for (guint i = 0; i < info->ram.n; i++) {
		const struct snap_ram_block *b = &info->ram.blocks[i];

		g_assert(b->listed > listed);
		g_assert(b->listed <= info->state_size + 8);
		g_assert(info->mapped || (!b->bitmap && !b->pages));
		listed = b->listed;
	}
}

static void check_info(const struct verdict *v, SnapParser *p, uint64_t end)
{
	const struct snap_stream_info *info = snap_parser_info(p);

	g_assert(v->r < 0 || info->size == end);
	g_assert(info->size >= info->begin);
	g_assert(info->state_size <= info->size - info->begin ||
		 !info->state_size);
	g_assert(info->pages_at <= info->state_size);
	g_assert(info->caps_at <= info->state_size);
	/* Everything except padding of the last block. */
	if (v->opaque && v->r == 0 && info->state_size != end - info->begin)
		g_assert(v->complete &&
			 end - info->begin - info->state_size <= 65536);
	g_assert(!v->complete || v->end == 0);
	check_list(info);
}

static struct verdict run(const uint8_t *data, size_t size, size_t step,
			  uint8_t how)
{
	g_autoptr(SnapParser) p = snap_parser_new();
	g_autoptr(GError) error = NULL;
	struct verdict v = { .skew = how & ~1u };
	size_t at = 0;

	if (how & 1)
		snap_parser_expect_devstate(p);
	snap_parser_begin_at(p, v.skew);
	while (at < size && v.r == 0) {
		size_t n = MIN(step, size - at);

		v.jumped = false;
		feed(&v, p, data + at, n);
		at = v.jumped ? snap_parser_info(p)->size - v.skew : at + n;
	}
	v.complete = snap_parser_complete(p);
	v.end = snap_parser_end(p, &error);
	if (error)
		v.error = g_strdup(error->message);
	check_info(&v, p, at + v.skew);
	return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct verdict whole, cut;

	if (size < 3)
		return 0;
	whole = run(data + 2, size - 2, size, data[1]);
	cut = run(data + 2, size - 2, data[0] + 1u, data[1]);
	g_assert(whole.r == cut.r && whole.end == cut.end);
	g_assert(whole.complete == cut.complete);
	g_assert(whole.state == cut.state && whole.pages == cut.pages);
	g_assert(whole.lists == cut.lists && whole.opaque == cut.opaque);
	g_assert(whole.skew == cut.skew);
	g_assert_cmpstr(whole.error, ==, cut.error);
	g_free(whole.error);
	g_free(cut.error);
	return 0;
}
