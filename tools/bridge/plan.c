/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is read, and when: first what QEMU asks for, with its neighbours, then
 * the hot pages in their order, then everything from the front.
 *
 * All that is not a hole passes through a bulk chunk unless it was sent before;
 * that is what makes the end of the plan the end of the memory.
 */
#include "tools/bridge/state.h"

#include <errno.h>
#include <inttypes.h>

#include "format/base/error.h"
#include "format/base/units.h"

/* A page that is asked for is read with its neighbours: an extent of a
 * snapshot, which is decompressed as a whole anyway. */
#define NEAR_SIZE (64 * SNAP_KIB)

/* What is read at one go otherwise; as little as the former while the guest
 * asks for pages, for what is under way then is what they wait for, at the
 * storage and at the processors. */
#define FAR_SIZE (512 * SNAP_KIB)
#define ASKS_RECENT_US (50 * 1000)

/* Memory for the chunks of a kind. */
#define KIND_MEMORY (64 * SNAP_MIB)

/* A storage on which that much cannot be read is given up. */
#define BAD_MAX 1024u

void bridge_plan_init(struct bridge *b)
{
	static const guint most[CHUNK_KINDS] = { 32, 6, 4 };
	uint64_t unit = 0;

	for (guint i = 0; i < b->info->ram.n; i++)
		unit = MAX(unit, snap_postcopy_unit(b->post, i));
	for (guint kind = 0; kind < CHUNK_KINDS; kind++) {
		b->room[kind] =
			MAX(unit, kind == CHUNK_ASK ? NEAR_SIZE : FAR_SIZE);
		b->most[kind] =
			MAX(1, MIN(most[kind], KIND_MEMORY / b->room[kind]));
		b->chunks[kind] = g_ptr_array_new();
		g_queue_init(&b->ready[kind]);
	}
}

static bool chunk_holds(const struct chunk *c, guint block, uint64_t offset)
{
	return c->block == block && offset >= c->offset &&
	       offset - c->offset < c->length;
}

struct chunk *bridge_find_ready(const struct bridge *b, guint block,
				uint64_t offset)
{
	for (guint kind = 0; kind < CHUNK_KINDS; kind++)
		for (GList *l = b->ready[kind].head; l; l = l->next)
			if (chunk_holds(l->data, block, offset))
				return l->data;
	return NULL;
}

/* True when a chunk that holds the page is being read because of an ask. */
static bool is_on_its_way(const struct bridge *b, const struct ask *a)
{
	for (guint i = 0; i < b->chunks[CHUNK_ASK]->len; i++) {
		const struct chunk *c = b->chunks[CHUNK_ASK]->pdata[i];

		if (c->state == CHUNK_READING &&
		    chunk_holds(c, a->block, a->offset))
			return true;
	}
	return false;
}

static bool is_waited_for(const struct bridge *b, const struct chunk *c)
{
	for (guint i = 0; i < b->asks->len; i++) {
		const struct ask *a = &g_array_index(b->asks, struct ask, i);

		if (chunk_holds(c, a->block, a->offset))
			return true;
	}
	return false;
}

/* A chunk to read into, or NULL. For an ask, one whose neighbours are still to
 * be sent is taken away from them. */
static struct chunk *idle_chunk(struct bridge *b, enum chunk_kind kind)
{
	GPtrArray *chunks = b->chunks[kind];

	for (guint i = 0; i < chunks->len; i++) {
		struct chunk *c = chunks->pdata[i];

		if (c->state == CHUNK_IDLE && c != b->lent)
			return c;
	}
	if (chunks->len < b->most[kind]) {
		g_ptr_array_add(chunks,
				pool_chunk_new(b->pool, kind, b->room[kind]));
		return chunks->pdata[chunks->len - 1];
	}
	if (kind != CHUNK_ASK)
		return NULL;
	for (GList *l = b->ready[kind].head; l; l = l->next) {
		struct chunk *c = l->data;

		if (c == b->lent || is_waited_for(b, c))
			continue;
		g_queue_delete_link(&b->ready[kind], l);
		return c;
	}
	return NULL;
}

/* A stretch of a block. */
struct piece {
	guint block;
	uint64_t from;
	uint64_t first; /* what lies before it is read, but not passed on */
	uint64_t end;
};

static void submit(struct bridge *b, struct chunk *c, const struct piece *p)
{
	c->block = p->block;
	c->offset = p->from;
	c->flat = b->info->ram.blocks[p->block].flat + p->from;
	c->length = (size_t)(p->end - p->from);
	c->unit = snap_postcopy_unit(b->post, p->block);
	c->at = (size_t)(p->first - p->from);
	pool_submit(b->pool, c);
}

/* `length` bytes of a block with their neighbours: the extents they lie in are
 * decompressed as a whole anyway. Those before them need not be passed on: who
 * reads memory reads it forwards. */
static struct piece near_piece(const struct bridge *b, guint block,
			       uint64_t offset, uint64_t length)
{
	uint64_t unit = snap_postcopy_unit(b->post, block);
	uint64_t near = MAX(NEAR_SIZE, unit);

	return (struct piece){
		block,
		offset - offset % near,
		offset - offset % unit,
		MIN(snap_round_up(offset + length, near),
		    b->info->ram.blocks[block].length),
	};
}

static void plan_asks(struct bridge *b)
{
	for (guint i = 0; i < b->asks->len; i++) {
		struct ask *a = &g_array_index(b->asks, struct ask, i);
		struct piece p;
		struct chunk *c;

		if (a->reading || bridge_find_ready(b, a->block, a->offset))
			continue;
		if (!is_on_its_way(b, a)) {
			c = idle_chunk(b, CHUNK_ASK);
			if (!c)
				return;
			p = near_piece(b, a->block, a->offset, SNAP_PAGE);
			submit(b, c, &p);
		}
		a->reading = true;
	}
}

static bool hot_left(const struct bridge *b)
{
	return b->hot_run < b->hot->len &&
	       (b->phase != PHASE_PRECOPY || b->passed < b->goal);
}

static bool bulk_left(const struct bridge *b)
{
	if (b->phase == PHASE_PRECOPY &&
	    (b->opts->precopy == PRECOPY_HOT || b->passed >= b->goal))
		return false;
	return b->bulk_block < b->info->ram.n;
}

/* Will that page be sent, or has it been? */
static bool is_planned(const struct bridge *b, guint block, uint64_t at)
{
	uint64_t page = bridge_page(b, block, at);

	return bit_get(b->planned, page) || bit_get(b->sent, page);
}

/* Marks pages as planned; gives the bytes that were not. */
static uint64_t plan_range(struct bridge *b, guint block, uint64_t from,
			   uint64_t end)
{
	uint64_t step = b->info->target_page, fresh = 0;

	for (; from < end; from += step) {
		fresh += is_planned(b, block, from) ? 0 : step;
		bit_set(b->planned, bridge_page(b, block, from));
	}
	return fresh;
}

/* Steps behind what is planned in the run at hand, or to the next; false when
 * no run is left. */
static bool hot_skip(struct bridge *b)
{
	while (b->hot_run < b->hot->len) {
		struct snap_hot_run run =
			g_array_index(b->hot, struct snap_hot_run, b->hot_run);

		for (; b->hot_page < run.pages; b->hot_page++)
			if (!is_planned(b, run.block,
					run.offset + b->hot_page * SNAP_PAGE))
				return true;
		b->hot_run++;
		b->hot_page = 0;
	}
	return false;
}

/* The next piece of the hot list, up to what is planned already, as far as it
 * fits into `room` bytes. Where that is in the same extent, this has been read
 * as a whole, and is in memory: what is missing is read alone then. */
static struct piece hot_piece(const struct bridge *b, uint64_t room)
{
	struct snap_hot_run run =
		g_array_index(b->hot, struct snap_hot_run, b->hot_run);
	uint64_t at = b->hot_page * SNAP_PAGE;
	struct piece p = near_piece(b, run.block, run.offset + at,
				    run.pages * SNAP_PAGE - at);
	uint64_t end = MIN(p.end, p.from + room);
	uint64_t step = b->info->target_page;

	p.end = p.first + step;
	while (p.end < end && !is_planned(b, p.block, p.end))
		p.end += step;
	if (p.end < end)
		p.from = p.first;
	return p;
}

/* Takes the next piece of the hot list and those that follow it, as far as they
 * can be read at one go; false when none is left. */
static bool next_hot(struct bridge *b, struct piece *ret)
{
	uint64_t room = b->room[CHUNK_HOT];
	struct piece next;

	if (!hot_skip(b))
		return false;
	*ret = hot_piece(b, room);
	b->passed += plan_range(b, ret->block, ret->first, ret->end);
	while (hot_skip(b)) {
		next = hot_piece(b, room);
		if (next.block != ret->block || next.from != ret->end ||
		    next.end - ret->from > room)
			break;
		b->passed += plan_range(b, next.block, next.from, next.end);
		ret->end = next.end;
	}
	return true;
}

static void plan_hot(struct bridge *b)
{
	struct chunk *c = NULL;
	struct piece p;

	while (hot_left(b) && (c || (c = idle_chunk(b, CHUNK_HOT)))) {
		if (!next_hot(b, &p))
			return;
		submit(b, c, &p);
		c = NULL;
	}
}

/* Cuts what is sent off both ends of a range. */
static void trim_sent(const struct bridge *b, guint block, uint64_t *from,
		      uint64_t *end)
{
	uint64_t unit = snap_postcopy_unit(b->post, block);

	while (*from < *end && bit_get(b->sent, bridge_page(b, block, *from)))
		*from = MIN(*from + unit, *end);
	while (*from < *end &&
	       bit_get(b->sent, bridge_page(b, block, *end - 1)))
		*end -= (*end - 1) % unit + 1;
}

/* How much is read at one go for the bulk, now. */
static uint64_t bulk_size(const struct bridge *b, guint block)
{
	bool calm = g_get_monotonic_time() - b->last_ask > ASKS_RECENT_US;

	return calm ? b->room[CHUNK_BULK]
		    : MAX(NEAR_SIZE, snap_postcopy_unit(b->post, block));
}

/* Steps over the next piece of all memory; false when all of it is sent. */
static bool next_bulk(struct bridge *b, struct piece *ret)
{
	guint block = b->bulk_block;
	uint64_t length = b->info->ram.blocks[block].length;
	uint64_t from = b->bulk_offset;
	uint64_t end = MIN(from + bulk_size(b, block), length);

	b->bulk_offset = end;
	if (b->bulk_offset >= length) {
		b->bulk_block++;
		b->bulk_offset = 0;
	}
	trim_sent(b, block, &from, &end);
	*ret = (struct piece){ block, from, from, end };
	return from < end;
}

static void plan_bulk(struct bridge *b)
{
	struct chunk *c = NULL;
	struct piece p;

	while (bulk_left(b) && (c || (c = idle_chunk(b, CHUNK_BULK)))) {
		if (!next_bulk(b, &p))
			continue;
		b->passed += p.end - p.from;
		submit(b, c, &p);
		c = NULL;
	}
}

void bridge_plan(struct bridge *b)
{
	plan_asks(b);
	if (b->phase == PHASE_BEGIN || b->phase == PHASE_RECOVER)
		return;
	plan_hot(b);
	/* The storage works for what is asked for alone, while there is any. */
	if (!hot_left(b) && b->asks->len == 0)
		plan_bulk(b);
}

bool bridge_plan_done(const struct bridge *b)
{
	if (hot_left(b) || bulk_left(b))
		return false;
	for (guint kind = CHUNK_HOT; kind <= CHUNK_BULK; kind++)
		for (guint i = 0; i < b->chunks[kind]->len; i++) {
			const struct chunk *c = b->chunks[kind]->pdata[i];

			if (c->state != CHUNK_IDLE)
				return false;
		}
	return true;
}

/* The bulk goes on behind a hole that has been found. */
static void skip_hole(struct bridge *b, const struct chunk *c)
{
	uint64_t end =
		MIN(c->offset + c->hole, b->info->ram.blocks[c->block].length);

	if (b->bulk_block != c->block || end <= b->bulk_offset)
		return;
	end -= end % c->unit;
	if (end <= b->bulk_offset)
		return;
	b->passed += end - b->bulk_offset;
	b->bulk_offset = end;
	if (end == b->info->ram.blocks[c->block].length) {
		b->bulk_block++;
		b->bulk_offset = 0;
	}
}

/* Remembers the first page that could not be read, of those that are wanted. */
static void note_bad(struct bridge *b, const struct chunk *c)
{
	for (size_t at = c->at; at < c->length; at += b->info->target_page) {
		if (c->pages[at / b->info->target_page] != PAGE_BAD)
			continue;
		if (b->bad_count++ == 0) {
			b->bad_error = c->error;
			b->bad_block = c->block;
			b->bad_offset = c->offset + at;
		}
	}
}

int bridge_collect(struct bridge *b, GError **error)
{
	struct chunk *c;

	while ((c = pool_take(b->pool))) {
		if (c->error)
			note_bad(b, c);
		if (c->length == 0)
			skip_hole(b, c);
		if (c->length == 0)
			c->state = CHUNK_IDLE;
		else
			g_queue_push_tail(&b->ready[c->kind], c);
	}
	/* QEMU cannot load the devices without what it asks for meanwhile. */
	if (b->bad_count &&
	    (b->phase == PHASE_PRECOPY || b->phase == PHASE_LOADING ||
	     b->bad_count > BAD_MAX))
		return snap_fail(error, b->bad_error, "cannot read on");
	return 0;
}

void bridge_chunk_done(struct bridge *b, struct chunk *c)
{
	g_queue_remove(&b->ready[c->kind], c);
	if (c == b->lent)
		b->lent_done = true;
	else
		c->state = CHUNK_IDLE;
}
