/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is sent. A batch is one part of the stream: a page that was asked for,
 * alone, or a few of those nobody waits for, few enough that a page asked for
 * meanwhile is next soon. Of a huge page, all target pages go at one go.
 *
 * A page of zeros is not sent unless it is asked for: what is not sent before
 * the end becomes zero.
 */
#include "tools/bridge/state.h"

/* Pages in a batch that nobody waits for. */
#define BATCH_PAGES 16u

/* Begins a batch that can take a unit of `pages` pages. */
static void batch_begin(struct bridge *b, struct chunk *c)
{
	guint pages = (guint)(c->unit / b->info->target_page);
	guint most = MAX(pages, BATCH_PAGES);
	size_t copies = SNAP_POSTCOPY_BEGIN_SIZE + SNAP_POSTCOPY_RECORD_MAX +
			9 * (size_t)most + SNAP_POSTCOPY_END_SIZE;

	if (b->wire.copies_room < copies)
		wire_reserve(&b->wire, 2 * most + 2, copies);
	wire_copied(&b->wire,
		    snap_postcopy_part_begin(b->post, wire_copy(&b->wire)));
	b->lent = c;
}

static void batch_end(struct bridge *b)
{
	wire_copied(&b->wire,
		    snap_postcopy_part_end(b->post, wire_copy(&b->wire)));
}

/* Adds the unit `at` bytes into the chunk. */
static guint put_unit(struct bridge *b, const struct chunk *c, size_t at,
		      bool named)
{
	uint32_t page = b->info->target_page;
	size_t end = MIN(at + c->unit, c->length);
	guint pages = 0;

	for (; at < end; at += page) {
		bool zero = c->pages[at / page] == PAGE_ZERO;
		uint64_t offset = c->offset + at;
		size_t size =
			snap_postcopy_record(b->post, c->block, offset, named,
					     zero, wire_copy(&b->wire));

		wire_copied(&b->wire, size);
		if (!zero)
			wire_put(&b->wire, c->data + at, page);
		bit_set(b->sent, bridge_page(b, c->block, offset));
		named = false;
		pages++;
	}
	return pages;
}

/* True when any page of the unit is in that state. */
static bool unit_has(const struct bridge *b, const struct chunk *c, size_t at,
		     enum page_state state)
{
	size_t end = MIN(at + c->unit, c->length);

	for (; at < end; at += b->info->target_page)
		if (c->pages[at / b->info->target_page] == (uint8_t)state)
			return true;
	return false;
}

bool bridge_send_ask(struct bridge *b)
{
	guint i = 0;

	while (i < b->asks->len) {
		struct ask a = g_array_index(b->asks, struct ask, i);
		bool sent = bit_get(b->sent, bridge_page(b, a.block, a.offset));
		struct chunk *c =
			sent ? NULL : bridge_find_ready(b, a.block, a.offset);
		size_t at = c ? (size_t)(a.offset - c->offset) : 0;

		if (!sent && !c) {
			i++;
			continue;
		}
		g_array_remove_index(b->asks, i);
		/* One that cannot be read stays unanswered: QEMU waits until
		 * the bridge ends without having sent all. */
		if (sent || unit_has(b, c, at, PAGE_BAD))
			continue;
		batch_begin(b, c);
		put_unit(b, c, at, true);
		batch_end(b);
		b->lent_since = a.since;
		return true;
	}
	return false;
}

/* Puts what a chunk still has, up to a batch; false when that is nothing. */
static bool send_chunk(struct bridge *b, struct chunk *c)
{
	guint pages = 0;

	for (; c->at < c->length && pages < BATCH_PAGES; c->at += c->unit) {
		if (bit_get(b->sent,
			    bridge_page(b, c->block, c->offset + c->at)) ||
		    unit_has(b, c, c->at, PAGE_BAD) ||
		    !unit_has(b, c, c->at, PAGE_DATA))
			continue;
		if (pages == 0)
			batch_begin(b, c);
		pages += put_unit(b, c, c->at, pages == 0);
	}
	if (pages)
		batch_end(b);
	if (c->at >= c->length)
		bridge_chunk_done(b, c);
	return pages > 0;
}

bool bridge_send_background(struct bridge *b)
{
	for (guint kind = 0; kind < CHUNK_KINDS; kind++) {
		struct chunk *c;

		while ((c = g_queue_peek_head(&b->ready[kind])))
			if (send_chunk(b, c))
				return true;
	}
	return false;
}

void bridge_sent(struct bridge *b)
{
	if (b->lent && b->lent_since)
		stats_served(&b->stats, g_get_monotonic_time() - b->lent_since);
	if (b->lent && b->lent_done)
		b->lent->state = CHUNK_IDLE;
	b->lent = NULL;
	b->lent_done = false;
	b->lent_since = 0;
}
