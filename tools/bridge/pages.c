/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which pages are read next, and which were sent; see pages.h. Pages are target
 * pages and are numbered in flat RAM. */
#include "tools/bridge/pages.h"

#include "format/base/units.h"
#include "format/qemu/hot.h"

#define EXTENT_SIZE (64 * SNAP_KIB)
#define READ_MOST (512 * SNAP_KIB) /* at one go */
#define ASKS_RECENT_US (50 * 1000)
#define ASKS_MAX 16384u /* one page for each of QEMU's threads */
#define BATCH_PAGES 32u /* few, because an answer may have to wait for them */

enum page_flags {
	SENT = 1,
	ASKED = 2,
	HOT = 4,
	PLANNED = 8, /* the first page of an extent of the hot list */
	COMING = 16, /* in a hot piece, which a worker reads or sends */
};

struct ask {
	uint64_t page;
	gint64 since;
};

struct block {
	uint64_t first, end, unit; /* pages */
};

/* Makes a piece of the extent around a page, to be sent from there on. What
 * lies before it is read, too, but not sent: programs read memory forwards. */
static void set_extent(const struct pages *p, uint64_t page, struct piece *c)
{
	const struct block *b;
	uint64_t size;

	c->since = 0;
	c->block = p->b->ram->n - 1;
	while (p->blocks[c->block].first > page)
		c->block--;
	b = &p->blocks[c->block];
	size = MAX(EXTENT_SIZE / p->b->page, b->unit);
	c->from = page - (page - b->first) % size;
	c->at = page - (page - b->first) % b->unit;
	c->end = MIN(c->from + size, b->end);
}

/* Flags the pages of a run of the hot list, and notes their extents. */
static void plan_hot(struct pages *p, const struct snap_hot_run *run)
{
	uint64_t at = run->offset, end = at + run->pages * SNAP_PAGE;
	struct piece c;

	for (; at < end; at += SNAP_PAGE) {
		set_extent(p, p->blocks[run->block].first + at / p->b->page,
			   &c);
		p->flags[c.at] |= HOT;
		if (!(p->flags[c.from] & PLANNED))
			g_array_append_val(p->extents, c.from);
		p->flags[c.from] |= PLANNED;
	}
}

void pages_init(struct pages *p, struct bridge *b)
{
	uint64_t at = 0;

	p->b = b;
	p->end = b->ram->flat_size / b->page;
	p->room = READ_MOST / b->page;
	p->blocks = g_new0(struct block, b->ram->n + 1);
	p->flags = g_malloc0(p->end + 1);
	p->asks = g_array_new(FALSE, FALSE, sizeof(struct ask));
	p->extents = g_array_new(FALSE, FALSE, sizeof(uint64_t));
	p->learnt = snap_hot_new();
	p->hot = folder_read_hot(b);
	p->bulk_most = CLAMP(g_get_num_processors() / 2 + 1, 3, HOT_MOST);
	p->bulk = b->precopy != PRECOPY_HOT;
	p->goal = p->bulk ? p->end * (uint64_t)b->precopy / 100 : p->end;
	for (guint i = 0; i < b->ram->n; i++) {
		uint64_t first = b->ram->blocks[i].flat / b->page;
		uint64_t n = b->ram->blocks[i].length / b->page;
		uint64_t unit = snap_postcopy_unit(b->post, i) / b->page;

		p->blocks[i] = (struct block){ first, first + n, unit };
		p->room = MAX(p->room, unit);
		while (at < first) /* what lies between two blocks */
			p->flags[at++] = SENT;
		at = first + n;
	}
	for (guint i = 0; i < p->hot->len; i++)
		plan_hot(p, &g_array_index(p->hot, struct snap_hot_run, i));
}

bool pages_ask(struct pages *p, guint block, uint64_t offset, uint64_t length)
{
	const struct block *b = &p->blocks[block];
	uint64_t at = offset / p->b->page, end = at + length / p->b->page;

	p->last_ask = g_get_monotonic_time();
	for (at -= at % b->unit; at < end; at += b->unit) {
		struct ask a = { b->first + at, p->last_ask };

		if (p->flags[a.page] & (SENT | ASKED))
			continue;
		p->flags[a.page] |= ASKED;
		/* An answer of its own would come no sooner, and would wake
		 * several threads, which can take longer than all else. */
		if (p->flows && p->flags[a.page] & COMING)
			continue;
		if (p->waiting++ >= ASKS_MAX)
			return false;
		g_array_append_val(p->asks, a);
		if (p->learnt->len < SNAP_HOT_PAGES_MAX)
			snap_hot_add(p->learnt, block, at * p->b->page,
				     snap_div_up(p->b->page, SNAP_PAGE));
	}
	return true;
}

void pages_note_there(struct pages *p, guint block, const uint8_t *bitmap)
{
	const struct block *b = &p->blocks[block];

	for (uint64_t i = 0; i < b->end - b->first; i++)
		if (!bitmap || bitmap[i / 8] >> i % 8 & 1)
			p->flags[b->first + i] |= SENT;
}

/* Without a single discard QEMU hangs. The first unit is therefore always one:
 * if it was sent, it is sent again. */
void pages_put_discards(struct pages *p)
{
	uint32_t page = p->b->page;

	for (p->cursor = p->blocks[0].unit; p->cursor > 0; p->cursor--)
		p->flags[p->cursor - 1] &= ~SENT;
	for (guint i = 0; i < p->b->ram->n; i++) {
		const struct block *b = &p->blocks[i];

		for (uint64_t at = b->first, from; at < b->end; at++) {
			struct snap_postcopy_range range;

			for (from = at; at < b->end && !(p->flags[at] & SENT);)
				at++;
			range.start = (from - b->first) * page;
			range.length = (at - from) * page;
			if (at > from)
				snap_postcopy_put_discard(p->b->post, i, &range,
							  1, p->b->batch);
		}
	}
}

/* Steps to the next extent of the hot list that has hot pages to send. */
static bool find_hot(struct pages *p, struct piece *c)
{
	for (; p->next_hot < p->extents->len; p->next_hot++) {
		set_extent(p, g_array_index(p->extents, uint64_t, p->next_hot),
			   c);
		for (; c->at < c->end; c->at++)
			if ((p->flags[c->at] & (HOT | SENT)) == HOT)
				return true;
	}
	return false;
}

/* Steps to the next page that was not sent. */
static bool find_bulk(struct pages *p, struct piece *c)
{
	while (p->cursor < p->end && p->flags[p->cursor] & SENT)
		p->cursor++;
	if (p->cursor < p->end)
		set_extent(p, p->cursor, c);
	return p->cursor < p->end;
}

enum piece_kind pages_find(struct pages *p, struct piece *c)
{
	if (p->answer && p->asks->len) {
		struct ask a = g_array_index(p->asks, struct ask, 0);

		set_extent(p, a.page, c);
		c->since = a.since;
		return PIECE_ASK;
	}
	if (p->passed >= p->goal || p->background >= HOT_MOST)
		return PIECE_NONE;
	if (find_hot(p, c))
		return PIECE_HOT;
	/* While QEMU waits for a page, the storage works for it alone. */
	if (p->bulk && p->waiting == 0 && p->background < p->bulk_most &&
	    find_bulk(p, c))
		return PIECE_BULK;
	return PIECE_NONE;
}

/* What is sent is cut off both ends. While QEMU asks for pages, an extent is
 * read at a time, because the guest waits for the reads that are under way. */
static void take_bulk(struct pages *p, struct piece *c)
{
	const struct block *b = &p->blocks[c->block];

	c->from = c->at;
	if (g_get_monotonic_time() - p->last_ask > ASKS_RECENT_US)
		c->end = MIN(c->from + p->room, b->end);
	p->cursor = c->end;
	while (c->end - c->from > b->unit && p->flags[c->end - 1] & SENT)
		c->end -= (c->end - c->from - 1) % b->unit + 1;
}

bool pages_take(struct pages *p, struct piece *c)
{
	struct piece next;

	c->kind = pages_find(p, c);
	if (c->kind == PIECE_NONE)
		return false;
	p->taken++;
	if (c->kind == PIECE_ASK) {
		g_array_remove_index(p->asks, 0);
		return true;
	}
	/* Extents of the hot list that follow one another are read at once. */
	while (c->kind == PIECE_HOT && (p->next_hot++, find_hot(p, &next)) &&
	       next.block == c->block && next.from == c->end &&
	       next.end - c->from <= p->room)
		c->end = next.end;
	if (c->kind == PIECE_BULK)
		take_bulk(p, c);
	else
		for (uint64_t at = c->at; at < c->end; at++)
			p->flags[at] |= COMING;
	p->background++;
	p->passed += c->end - c->at;
	return true;
}

void pages_note_read(struct pages *p, const struct piece *c)
{
	if (c->hole > p->cursor) {
		p->passed += c->hole - p->cursor;
		p->cursor = c->hole;
	}
	for (uint64_t at = c->at; c->error && at < c->end; at++)
		if (c->states[at - c->from] == PAGE_BAD && !p->bad_count++) {
			p->bad = *c;
			p->bad.at = at;
		}
}

/* True if the unit from c->at to `end` is to be sent. */
static bool is_due(const struct pages *p, const struct piece *c, uint64_t end)
{
	bool zeros = c->since || p->zeros || p->flags[c->at] & ASKED;
	uint8_t state = zeros ? PAGE_DATA : PAGE_ZERO;

	for (uint64_t at = c->at; at < end; at++)
		state = MAX(state, c->states[at - c->from]);
	return state == PAGE_DATA && !(p->flags[c->at] & SENT);
}

guint pages_put(struct pages *p, struct piece *c)
{
	bool answer = c->since != 0;
	uint64_t end;
	guint n = 0;

	do {
		end = MIN(c->at + p->blocks[c->block].unit, c->end);
		p->flags[c->at] &= ~COMING;
		if (!is_due(p, c, end))
			c->at = end;
		for (; c->at < end; c->at++, n++) {
			wire_add_page(p->b, c, c->at);
			p->flags[c->at] |= SENT;
		}
		c->since = 0;
	} while (end < c->end && n < BATCH_PAGES &&
		 (!answer || (p->flows && !p->asks->len)));
	p->waiting -= answer;
	return n;
}
