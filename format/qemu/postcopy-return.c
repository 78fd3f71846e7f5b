/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parser of the return path.
 *
 *	message := be16 type, be16 length, payload
 *
 * A message is held until it is complete; the longest has 268 bytes. The
 * message that answers RECV_BITMAP is followed by a be64 size, that many bytes
 * and a be64 mark. They are collected; the block is known, and so is their
 * size.
 */
#include "format/qemu/postcopy-return.h"

#include <inttypes.h>
#include <string.h>

#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/base/units.h"

/* migration/migration.h: enum mig_rp_message_type. */
#define RP_SHUT 1u
#define RP_PONG 2u
#define RP_REQ_PAGES_ID 3u
#define RP_REQ_PAGES 4u
#define RP_RECV_BITMAP 5u
#define RP_RESUME_ACK 6u
#define RP_SWITCHOVER_ACK 7u

/* migration/ram.c: RAMBLOCK_RECV_BITMAP_ENDING. */
#define BITMAP_MARK 0x0123456789abcdefull

#define MESSAGE_MAX (4u + 12 + 1 + 255)

struct SnapReturn {
	const struct snap_ramlist *ram;
	uint32_t target_page;
	struct snap_cursor in;
	uint8_t hold[MESSAGE_MAX];
	size_t held;
	int block;	    /* of the last request that named one, or -1 */
	int bitmap_block;   /* whose bitmap is being collected, or -1 */
	GByteArray *bitmap; /* size, bits and mark */
	bool failed;
};

SnapReturn *snap_return_new(const struct snap_ramlist *ram,
			    uint32_t target_page)
{
	SnapReturn *r = g_new0(SnapReturn, 1);

	r->ram = ram;
	r->target_page = target_page;
	r->block = -1;
	r->bitmap_block = -1;
	r->bitmap = g_byte_array_new();
	return r;
}

void snap_return_free(SnapReturn *r)
{
	if (!r)
		return;
	g_byte_array_unref(r->bitmap);
	g_free(r);
}

void snap_return_feed(SnapReturn *r, const void *data, size_t size)
{
	g_assert(snap_cursor_left(&r->in) == 0 || r->failed);
	r->in = snap_cursor(data, size);
}

static uint32_t take_be32(struct snap_cursor *c)
{
	be32 v = { 0 };

	snap_cursor_copy(c, &v, sizeof(v));
	return snap_be32(v);
}

static uint64_t take_be64(struct snap_cursor *c)
{
	be64 v = { 0 };

	snap_cursor_copy(c, &v, sizeof(v));
	return snap_be64(v);
}

/* Reads the block that a str8 at the end of a message names, or -EPROTO. */
static int take_block(SnapReturn *r, struct snap_cursor *c, GError **error)
{
	const uint8_t *length = snap_cursor_take(c, 1);
	int block;

	if (!length || snap_cursor_left(c) != *length)
		return snap_fail(error, EPROTO,
				 "a message of QEMU whose block name is not as "
				 "long as it says");
	block = snap_ramlist_find(r->ram, c->at, *length);
	if (block < 0) {
		g_autofree char *raw = g_strndup((const char *)c->at, *length);
		g_autofree char *name = g_strescape(raw, NULL);

		return snap_fail(error, EPROTO,
				 "QEMU asks for RAM block \"%s\", which the "
				 "snapshot does not have",
				 name);
	}
	return block;
}

static int request(SnapReturn *r, struct snap_cursor *c, bool named,
		   struct snap_return_event *ev, GError **error)
{
	const struct snap_ram_block *b;
	uint64_t end;

	ev->kind = SNAP_RETURN_REQUEST;
	ev->offset = take_be64(c);
	ev->length = take_be32(c);
	if (named) {
		r->block = take_block(r, c, error);
		if (r->block < 0)
			return r->block;
	}
	if (r->block < 0)
		return snap_fail(error, EPROTO,
				 "QEMU asks for a page of no RAM block");
	b = &r->ram->blocks[r->block];
	if (!snap_add(ev->offset, ev->length, &end) || end > b->length ||
	    ev->length == 0 || ev->offset % r->target_page ||
	    ev->length % r->target_page)
		return snap_fail(error, EPROTO,
				 "QEMU asks for 0x%" PRIx64
				 " bytes at 0x%" PRIx64
				 " of RAM block %s, which has 0x%" PRIx64,
				 ev->length, ev->offset, b->name, b->length);
	ev->block = (guint)r->block;
	return 1;
}

/* The least payload of a type in bytes, which is exact unless a name follows;
 * -1 for an unknown type. */
static int payload_size(uint16_t type, bool *ret_named)
{
	*ret_named = type == RP_REQ_PAGES_ID || type == RP_RECV_BITMAP;
	switch (type) {
	case RP_SHUT:
	case RP_PONG:
	case RP_RESUME_ACK:
		return 4;
	case RP_REQ_PAGES_ID:
		return 13;
	case RP_REQ_PAGES:
		return 12;
	case RP_RECV_BITMAP:
		return 1;
	case RP_SWITCHOVER_ACK:
		return 0;
	default:
		return -1;
	}
}

/* Handles a complete message. Returns 1 with an event, 0 without. */
static int message(SnapReturn *r, uint16_t type, struct snap_cursor *c,
		   struct snap_return_event *ev, GError **error)
{
	switch (type) {
	case RP_SHUT:
		ev->kind = SNAP_RETURN_SHUT;
		ev->value = take_be32(c);
		return 1;
	case RP_PONG:
		ev->kind = SNAP_RETURN_PONG;
		ev->value = take_be32(c);
		return 1;
	case RP_RESUME_ACK:
		ev->kind = SNAP_RETURN_RESUMED;
		ev->value = take_be32(c);
		return 1;
	case RP_REQ_PAGES_ID:
		return request(r, c, true, ev, error);
	case RP_REQ_PAGES:
		return request(r, c, false, ev, error);
	case RP_RECV_BITMAP:
		r->bitmap_block = take_block(r, c, error);
		g_byte_array_set_size(r->bitmap, 0);
		return MIN(r->bitmap_block, 0);
	default:
		return 0;
	}
}

/* Holds bytes until there are `size`. */
static bool hold(SnapReturn *r, size_t size)
{
	size_t now = MIN(size - r->held, snap_cursor_left(&r->in));

	snap_cursor_copy(&r->in, r->hold + r->held, now);
	r->held += now;
	return r->held == size;
}

static int message_step(SnapReturn *r, struct snap_return_event *ev,
			GError **error)
{
	struct snap_cursor c;
	uint16_t type, length;
	bool named;
	int least;

	if (r->held < 4 && !hold(r, 4))
		return 0;
	type = (uint16_t)(r->hold[0] << 8 | r->hold[1]);
	length = (uint16_t)(r->hold[2] << 8 | r->hold[3]);
	least = payload_size(type, &named);
	if (least < 0)
		return snap_fail(error, EPROTO,
				 "a message of QEMU of unknown type %u", type);
	if (length < least || length > least + (named ? 255 : 0))
		return snap_fail(error, EPROTO,
				 "a message of QEMU of type %u with %u bytes",
				 type, length);
	if (!hold(r, 4 + (size_t)length))
		return 0;
	r->held = 0;
	c = snap_cursor(r->hold + 4, length);
	return message(r, type, &c, ev, error);
}

/* The size of a block's bitmap in bytes: whole 64-bit words. */
static uint64_t bitmap_size(const SnapReturn *r)
{
	const struct snap_ram_block *b = &r->ram->blocks[r->bitmap_block];

	return snap_div_up(b->length / r->target_page, 64) * 8;
}

static int bitmap_step(SnapReturn *r, struct snap_return_event *ev,
		       GError **error)
{
	uint64_t size = bitmap_size(r), whole = 8 + size + 8, now;
	struct snap_cursor c;

	/* First the size: if it is wrong, no more bytes come. */
	do {
		uint64_t want = r->bitmap->len < 8 ? 8 : whole;

		now = MIN(want - r->bitmap->len, snap_cursor_left(&r->in));
		g_byte_array_append(r->bitmap, snap_cursor_take(&r->in, now),
				    (guint)now);
		c = snap_cursor(r->bitmap->data, r->bitmap->len);
		if (r->bitmap->len == 8 && take_be64(&c) != size)
			return snap_fail(
				error, EPROTO,
				"QEMU's list of the pages of RAM "
				"block %s is not %" PRIu64 " bytes long",
				r->ram->blocks[r->bitmap_block].name, size);
	} while (now && r->bitmap->len < whole);
	if (r->bitmap->len < whole)
		return 0;
	c = snap_cursor(r->bitmap->data + 8 + size, 8);
	if (take_be64(&c) != BITMAP_MARK)
		return snap_fail(error, EPROTO,
				 "QEMU's list of the pages of RAM block %s "
				 "does not end as it should",
				 r->ram->blocks[r->bitmap_block].name);
	ev->kind = SNAP_RETURN_BITMAP;
	ev->block = (guint)r->bitmap_block;
	ev->bitmap = r->bitmap->data + 8;
	ev->length = size;
	r->bitmap_block = -1;
	return 1;
}

int snap_return_step(SnapReturn *r, struct snap_return_event *ret_event,
		     GError **error)
{
	struct snap_return_event ev = { 0 };
	int n = 0;

	if (r->failed)
		return snap_fail(error, EPROTO,
				 "QEMU's return path was not understood");
	while (n == 0 && snap_cursor_left(&r->in))
		n = r->bitmap_block >= 0 ? bitmap_step(r, &ev, error)
					 : message_step(r, &ev, error);
	r->failed = n < 0;
	if (n > 0)
		*ret_event = ev;
	return n;
}
