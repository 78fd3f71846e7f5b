/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device state in the page space.
 *
 * A mapped-ram file that a snapshot shows of a classic stream has the
 * capability mapped-ram in its description, where the stream has none. A copy
 * of that file is the classic stream again, so the description loses it. Only
 * at the end of the stream is it certain which bytes are the description, so
 * the last ones are kept until then.
 */
#include <string.h>

#include "format/base/bytes.h"
#include "format/qemu/describe.h"
#include "fs/save/ingest-internal.h"

/* A longer description stays as it is. */
#define KEPT_MAX (16 * SNAP_MIB)
/* Bytes that are kept before a description begins. */
#define KEPT_IDLE (64 * SNAP_KIB)

static void forget(struct snap_kept *k)
{
	g_clear_pointer(&k->bytes, g_free);
	k->size = k->room = 0;
}

static bool append(struct snap_kept *k, const void *data, size_t size)
{
	uint8_t *more;

	if (k->size + size > KEPT_MAX)
		return false;
	if (k->size + size > k->room) {
		more = g_try_realloc(k->bytes, 2 * (k->size + size));
		if (!more)
			return false;
		k->bytes = more;
		k->room = 2 * (k->size + size);
	}
	memcpy(k->bytes + k->size, data, size);
	k->size += size;
	return true;
}

/* Drops all but the last page or two. */
static void shorten(struct snap_kept *k)
{
	size_t drop = k->size / SNAP_PAGE * SNAP_PAGE - SNAP_PAGE;

	memmove(k->bytes, k->bytes + drop, k->size - drop);
	k->size -= drop;
	k->at += drop;
}

static void keep(SnapIngest *in, const void *data, size_t size)
{
	const struct snap_stream_info *info = snap_parser_info(in->parser);
	struct snap_kept *k = &in->kept;

	if (!in->mapped || info->ram_parts || !info->tail || k->lost)
		return;
	if (!k->size) {
		k->at = in->state_size / SNAP_PAGE * SNAP_PAGE;
		k->lost = !append(k, in->page, in->state_size % SNAP_PAGE);
	}
	k->lost = k->lost || !append(k, data, size);
	if (k->lost)
		forget(k);
	else if (!info->description_at && k->size > KEPT_IDLE)
		shorten(k);
}

/* Makes the change, if there is one. */
static bool drop_capability(struct snap_kept *k, uint64_t at)
{
	struct snap_description_change c;
	uint8_t *d;
	size_t n;
	be32 length;

	if (!at || at < k->at || at - k->at >= k->size)
		return false;
	d = k->bytes + (at - k->at);
	n = k->size - (size_t)(at - k->at);
	if (n <= sizeof(length) || snap_get_be32(d) != n - sizeof(length) ||
	    !snap_description_drop(
		    d + sizeof(length),
		    MIN(n - sizeof(length), SNAP_DESCRIPTION_HEAD), &c))
		return false;
	length = snap_to_be32((uint32_t)(n - sizeof(length) - (c.to - c.from)));
	memcpy(d, length.b, sizeof(length));
	d += sizeof(length);
	n -= sizeof(length);
	memmove(d + c.from, d + c.to, n - c.to);
	k->size -= c.to - c.from;
	return true;
}

static void put(SnapIngest *in, const uint8_t *data, size_t size)
{
	while (size > 0) {
		size_t at = in->state_size % SNAP_PAGE;
		size_t n = MIN(size, SNAP_PAGE - at);
		uint64_t page = in->state_base + in->state_size - at;

		memcpy(in->page + at, data, n);
		in->state_size += n;
		data += n;
		size -= n;
		if (at + n == SNAP_PAGE)
			snap_gather_pages(in->gather, page, in->page,
					  SNAP_PAGE);
	}
}

/* Gathers the last page, padded with zeros. */
static void flush(SnapIngest *in)
{
	size_t at = in->state_size % SNAP_PAGE;

	if (!at)
		return;
	memset(in->page + at, 0, SNAP_PAGE - at);
	snap_gather_pages(in->gather, in->state_base + in->state_size - at,
			  in->page, SNAP_PAGE);
}

static void describe(SnapIngest *in)
{
	struct snap_kept *k = &in->kept;
	uint64_t end = in->state_size;

	if (!snap_parser_complete(in->parser) ||
	    !drop_capability(k, snap_parser_info(in->parser)->description_at))
		return;
	in->state_size = k->at;
	put(in, k->bytes, k->size);
	for (uint64_t page = snap_round_up(in->state_size, SNAP_PAGE);
	     page < end; page += SNAP_PAGE)
		snap_gather_fill(in->gather, in->state_base + page, SNAP_PAGE,
				 0);
}

void snap_state_put(SnapIngest *in, const uint8_t *data, size_t size)
{
	keep(in, data, size);
	put(in, data, size);
}

void snap_state_finish(SnapIngest *in)
{
	describe(in);
	flush(in);
}

void snap_state_clear(SnapIngest *in)
{
	forget(&in->kept);
}
