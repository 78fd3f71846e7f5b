/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mapped-ram stream: devstate, with mapped-ram added to its list of
 * capabilities, and each block after its entry in the RAM list.
 *
 * The literals are the bytes that devstate lacks: a piece of the list of
 * capabilities, and a header for each block. A header names offsets in the
 * file, so it is written when the layout has grown up to it.
 */
#include <inttypes.h>
#include <string.h>

#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/base/units.h"
#include "format/qemu/describe.h"
#include "format/qemu/layout-internal.h"
#include "format/qemu/wire.h"

/* The largest offset of a stream in its file. */
#define MAPPED_BEGIN_MAX ((uint64_t)1 << 46)

/* Sizes in the list of capabilities in devstate, in bytes. */
#define MAPPED_CAPS_COUNT (2 + sizeof(WIRE_CONFIG_CAPS) - 1 + 4)
#define MAPPED_CAPS_NAMES (MAPPED_CAPS_COUNT + 4)
#define MAPPED_CAPS_MAX (MAPPED_CAPS_NAMES + sizeof(WIRE_CAP_MAPPED_RAM))

struct mapped {
	const struct snap_stream_info *info;
	const struct snap_stream_info
		*head; /* the same, as parsed from devstate's head */
	SnapLayout *layout;
	uint8_t *literals; /* the layout's */
	size_t filled;	   /* bytes of `literals` written */
	size_t put;	   /* bytes of `literals` put into the layout */
	uint64_t state;	   /* bytes of devstate put into the layout */
};

static void mapped_fill(struct mapped *m, const void *data, size_t size)
{
	memcpy(m->literals + m->filled, data, size);
	m->filled += size;
}

static void mapped_fill_be32(struct mapped *m, uint32_t n)
{
	be32 v = snap_to_be32(n);

	mapped_fill(m, v.b, sizeof(v));
}

static void mapped_fill_be64(struct mapped *m, uint64_t n)
{
	be64 v = snap_to_be64(n);

	mapped_fill(m, v.b, sizeof(v));
}

static void mapped_fill_str8(struct mapped *m, const char *text)
{
	uint8_t length = (uint8_t)strlen(text);

	mapped_fill(m, &length, 1);
	mapped_fill(m, text, length);
}

/* Puts the literals that were written since the last time. */
static void mapped_put_filled(struct mapped *m)
{
	snap_layout_put_literal(m->layout, m->put, m->filled);
	m->put = m->filled;
}

/* Puts devstate up to `end`. */
static void mapped_put_state(struct mapped *m, uint64_t end)
{
	snap_layout_put_state(m->layout, m->state, end - m->state);
	m->state = end;
}

/* The number of capabilities in the list, or 0 if there is no list. The parser
 * has found the list complete. */
static uint32_t mapped_caps(const struct mapped *m, const uint8_t *head,
			    size_t size)
{
	static const char name[] = WIRE_CONFIG_CAPS;
	struct snap_cursor c = snap_cursor(head, size);
	const uint8_t *list;
	be32 n;

	if (!snap_cursor_take(&c, m->head->caps_at))
		return 0;
	list = snap_cursor_take(&c, MAPPED_CAPS_COUNT);
	if (!list || list[0] != WIRE_SUBSECTION ||
	    list[1] != sizeof(name) - 1 ||
	    memcmp(list + 2, name, sizeof(name) - 1) != 0 ||
	    !snap_cursor_copy(&c, &n, sizeof(n)))
		return 0;
	return snap_be32(n);
}

/* Puts devstate up to the list of capabilities, and the list with mapped-ram at
 * its end, as QEMU does. */
static void mapped_put_caps(struct mapped *m, const uint8_t *head, size_t size)
{
	uint64_t at = m->head->caps_at;
	uint32_t n = mapped_caps(m, head, size);

	if (n > 0) {
		mapped_put_state(m, at + MAPPED_CAPS_COUNT);
		mapped_fill_be32(m, n + 1);
		mapped_put_filled(m);
		at = m->state += sizeof(be32);
		for (uint32_t i = 0; i < n; i++)
			at += 1 + (uint64_t)head[at];
		mapped_put_state(m, at);
	} else {
		uint8_t type = WIRE_SUBSECTION;

		mapped_put_state(m, at);
		mapped_fill(m, &type, 1);
		mapped_fill_str8(m, WIRE_CONFIG_CAPS);
		mapped_fill_be32(m, WIRE_CONFIG_VERSION);
		mapped_fill_be32(m, 1);
	}
	mapped_fill_str8(m, WIRE_CAP_MAPPED_RAM);
	mapped_put_filled(m);
}

/* Puts a block after its entry in the list. */
static void mapped_put_block(struct mapped *m, guint i)
{
	const struct snap_ram_block *block = &m->info->ram.blocks[i];
	uint64_t bitmap = 0, bitmap_end = 0, pages = 0;
	uint64_t size = snap_ram_bitmap(block, m->info->target_page);

	mapped_put_state(m, m->head->ram.blocks[i].listed);
	if (!block->ignored) {
		bitmap = snap_layout_size(m->layout) + WIRE_MAPPED_HEADER;
		bitmap_end = bitmap + size;
		pages = snap_round_up(bitmap_end, WIRE_MAPPED_ALIGN);
	}
	mapped_fill_be32(m, WIRE_MAPPED_VERSION);
	mapped_fill_be64(m, m->info->target_page);
	mapped_fill_be64(m, bitmap);
	mapped_fill_be64(m, pages);
	mapped_put_filled(m);
	if (block->ignored)
		return;
	snap_layout_put_block(m->layout, SNAP_RUN_BITMAP, i, size);
	snap_layout_put_zero(m->layout, pages - bitmap_end);
	snap_layout_put_block(m->layout, SNAP_RUN_PAGES, i, block->length);
}

/* Parses the head up to its RAM list. */
static int mapped_parse(SnapParser *p, const void *head, size_t size,
			GError **error)
{
	struct snap_event ev;
	int r;

	snap_parser_expect_devstate(p);
	snap_parser_feed(p, head, size);
	while ((r = snap_parser_step(p, &ev, error)) > 0) {
		if (ev.kind == SNAP_EVENT_RAM)
			return 0;
		if (ev.kind == SNAP_EVENT_OPAQUE)
			return snap_fail(error, EBADMSG, "devstate: %s",
					 ev.why);
	}
	if (r < 0)
		return snap_fail_prefix(error, -EBADMSG, "devstate");
	return snap_fail(error, EBADMSG,
			 "devstate lists no RAM in its first 0x%zx bytes",
			 size);
}

/* Checks that devstate lists the blocks of `info`. */
static int mapped_check(const struct snap_stream_info *info,
			const struct snap_stream_info *head, GError **error)
{
	if (head->ram.n != info->ram.n ||
	    head->target_page != info->target_page)
		return snap_fail(error, EBADMSG,
				 "devstate lists %u RAM blocks with target "
				 "pages of %u bytes, expected %u with %u",
				 head->ram.n, head->target_page, info->ram.n,
				 info->target_page);
	for (guint i = 0; i < info->ram.n; i++) {
		const struct snap_ram_block *a = &head->ram.blocks[i];
		const struct snap_ram_block *b = &info->ram.blocks[i];

		if (strcmp(a->name, b->name) != 0 || a->length != b->length)
			return snap_fail(error, EBADMSG,
					 "devstate lists RAM block %s of "
					 "0x%" PRIx64
					 " bytes, expected %s of 0x%" PRIx64,
					 a->name, a->length, b->name,
					 b->length);
	}
	if (!head->caps_at)
		return snap_fail(error, EOPNOTSUPP,
				 "a stream without a configuration has no "
				 "mapped-ram form");
	return 0;
}

/* Puts devstate up to the place where the description shows the list of
 * capabilities, and what is to stand there. */
static void mapped_put_description(struct mapped *m, const uint8_t *described,
				   size_t size)
{
	uint64_t at = m->info->description_at;
	struct snap_description_change c;
	uint32_t length;

	if (!described || size <= sizeof(be32) || at < m->state ||
	    size > m->info->state_size - at ||
	    !snap_description_show(described + sizeof(be32),
				   size - sizeof(be32), &c))
		return;
	length =
		snap_get_be32(described) + (uint32_t)(c.size - (c.to - c.from));
	mapped_put_state(m, at);
	mapped_fill_be32(m, length);
	mapped_put_filled(m);
	m->state += sizeof(be32);
	at = m->state;
	mapped_put_state(m, at + c.from);
	mapped_fill(m, c.bytes, c.size);
	mapped_put_filled(m);
	m->state = at + c.to;
}

int snap_layout_mapped(const struct snap_stream_info *info, const void *head,
		       size_t head_size, const void *described,
		       size_t described_size, uint64_t begin,
		       SnapLayout **ret_layout, GError **error)
{
	g_autoptr(SnapParser) p = snap_parser_new();
	g_autoptr(SnapLayout) l = NULL;
	struct mapped m = { .info = info, .head = snap_parser_info(p) };
	size_t size;
	int r;

	r = snap_synth_check(info, error);
	if (r < 0)
		return r;
	if (head_size > info->state_size || begin > MAPPED_BEGIN_MAX)
		return snap_fail(error, EBADMSG,
				 "0x%zx of 0x%" PRIx64
				 " bytes of devstate, in a file from 0x%" PRIx64
				 " on",
				 head_size, info->state_size, begin);
	r = mapped_parse(p, head, head_size, error);
	if (r == 0)
		r = mapped_check(info, m.head, error);
	if (r < 0)
		return r;
	size = MAPPED_CAPS_MAX + info->ram.n * (size_t)WIRE_MAPPED_HEADER +
	       sizeof(be32) + SNAP_DESCRIPTION_CHANGE_MAX;
	m.literals = g_malloc(size);
	m.layout = l = snap_layout_new(m.literals, size);
	snap_layout_put_zero(l, begin);
	mapped_put_caps(&m, head, head_size);
	for (guint i = 0; i < info->ram.n; i++)
		mapped_put_block(&m, i);
	mapped_put_description(&m, described, described_size);
	mapped_put_state(&m, info->state_size);
	*ret_layout = g_steal_pointer(&l);
	return 0;
}
