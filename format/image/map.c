/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Leaves in memory, the least recently used ones in the scratch file.
 *
 * A region is in one of three states. Untouched: all zero, and only a bit is
 * kept. In memory: in the table and in the list `recent`. Spilled: in its slot
 * of the scratch file; the offset of the slot follows from the region's number,
 * and the file is sparse. A leaf in memory is newer than its slot. The bytes in
 * memory are bounded by `memory` plus the one leaf that the caller works on.
 */
#include "format/image/map-internal.h"

#include <string.h>

#include "format/base/crc32c.h"

/* A slot of the scratch file. The checksum detects a disk that loses writes. */
struct slot {
	uint32_t crc32c; /* of the fields that follow */
	uint32_t n;
	struct snap_segment segments[SNAP_REGION_PAGES];
};
#define SLOT_SIZE ((uint64_t)20 << 10)
G_STATIC_ASSERT(sizeof(struct slot) <= SLOT_SIZE);

/* The leaf of a region in memory. */
struct held {
	GList link; /* in `recent`; its data is this struct */
	uint64_t region;
	guint n;
	guint room;
	struct snap_segment *segments;
};
/* Its memory, including the allocator's and the hash table's. */
#define HELD_SIZE (sizeof(struct held) + 64)

struct SnapMap {
	SnapFile *scratch;
	uint64_t memory; /* the limit in bytes */
	uint64_t used;
	GHashTable *held; /* struct held by region */
	GQueue recent;	  /* the least recent is last */
	GArray *touched;  /* uint64_t; a bit per region */
	uint64_t regions;
};

static void held_free(gpointer data)
{
	struct held *h = data;

	g_free(h->segments);
	g_free(h);
}

SnapMap *snap_map_new(SnapFile *scratch, uint64_t memory)
{
	SnapMap *m = g_new0(SnapMap, 1);

	m->scratch = scratch;
	m->memory = memory;
	m->held = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
					held_free);
	g_queue_init(&m->recent);
	m->touched = g_array_new(FALSE, TRUE, sizeof(uint64_t));
	return m;
}

void snap_map_free(SnapMap *m)
{
	if (!m)
		return;
	g_hash_table_unref(m->held);
	g_array_unref(m->touched);
	snap_file_close(m->scratch);
	g_free(m);
}

uint64_t snap_map_regions(const SnapMap *m)
{
	return m->regions;
}

bool snap_map_has(const SnapMap *m, uint64_t region)
{
	return region < m->regions &&
	       g_array_index(m->touched, uint64_t, region / 64) >> region % 64 &
		       1;
}

static void touch(SnapMap *m, uint64_t region)
{
	if (region >= m->regions) {
		m->regions = region + 1;
		if (region / 64 >= m->touched->len)
			g_array_set_size(m->touched, (guint)(region / 64 + 1));
	}
	g_array_index(m->touched, uint64_t, region / 64) |= (uint64_t)1
							    << region % 64;
}

/* ---- the scratch file ---- */

static uint32_t slot_crc32c(const struct slot *slot)
{
	return snap_crc32c(0, &slot->n,
			   sizeof(slot->n) +
				   slot->n * sizeof(slot->segments[0]));
}

static size_t slot_size(guint n)
{
	return offsetof(struct slot, segments) +
	       n * sizeof(struct snap_segment);
}

static int spill(SnapMap *m, const struct held *h)
{
	struct slot slot;

	slot.n = h->n;
	memcpy(slot.segments, h->segments, h->n * sizeof(slot.segments[0]));
	slot.crc32c = slot_crc32c(&slot);
	return m->scratch->ops->pwrite(m->scratch, &slot, slot_size(h->n),
				       h->region * SLOT_SIZE);
}

static int unspill(SnapMap *m, uint64_t region, struct snap_leaf *ret_leaf)
{
	struct slot slot;
	ssize_t n = m->scratch->ops->pread(m->scratch, &slot, sizeof(slot),
					   region * SLOT_SIZE);

	if (n < 0)
		return (int)n;
	if ((size_t)n < offsetof(struct slot, segments) ||
	    slot.n > SNAP_REGION_PAGES || (size_t)n < slot_size(slot.n) ||
	    slot.crc32c != slot_crc32c(&slot))
		return -EIO;
	ret_leaf->n = slot.n;
	memcpy(ret_leaf->segments, slot.segments,
	       slot.n * sizeof(slot.segments[0]));
	return 0;
}

/* ---- leaves in memory ---- */

static void reserve(SnapMap *m, struct held *h, guint n)
{
	if (h->room >= n)
		return;
	m->used -= h->room * sizeof(h->segments[0]);
	h->room = MAX(n, MIN(h->room * 2, SNAP_REGION_PAGES));
	h->segments = g_renew(struct snap_segment, h->segments, h->room);
	m->used += h->room * sizeof(h->segments[0]);
}

static int evict(SnapMap *m)
{
	while (m->scratch && m->used > m->memory && m->recent.length > 1) {
		struct held *h = g_queue_peek_tail(&m->recent);
		int r = spill(m, h);

		if (r < 0)
			return r;
		g_queue_unlink(&m->recent, &h->link);
		m->used -= HELD_SIZE + h->room * sizeof(h->segments[0]);
		g_hash_table_remove(m->held, &h->region);
	}
	return 0;
}

static void held_set(SnapMap *m, struct held *h, const struct snap_leaf *leaf)
{
	reserve(m, h, leaf->n);
	h->n = leaf->n;
	memcpy(h->segments, leaf->segments, leaf->n * sizeof(h->segments[0]));
}

/* Makes a leaf in memory. */
static struct held *hold(SnapMap *m, uint64_t region)
{
	struct held *h = g_new0(struct held, 1);

	h->region = region;
	h->link.data = h;
	g_hash_table_insert(m->held, &h->region, h);
	g_queue_push_head_link(&m->recent, &h->link);
	m->used += HELD_SIZE;
	touch(m, region);
	return h;
}

/* Brings the leaf of a region into memory. */
static int take(SnapMap *m, uint64_t region, struct held **ret_held)
{
	struct held *h = g_hash_table_lookup(m->held, &region);
	struct snap_leaf leaf;
	int r = 0;

	if (h) {
		g_queue_unlink(&m->recent, &h->link);
		g_queue_push_head_link(&m->recent, &h->link);
		*ret_held = h;
		return 0;
	}
	if (snap_map_has(m, region))
		r = unspill(m, region, &leaf);
	else
		snap_leaf_clear(&leaf);
	if (r < 0)
		return r;
	h = hold(m, region);
	held_set(m, h, &leaf);
	*ret_held = h;
	return 0;
}

int snap_map_splice(SnapMap *m, uint64_t region, const struct snap_segment *run,
		    struct snap_splice *ret_gone)
{
	struct held *h;
	int r;

	memset(ret_gone, 0, sizeof(*ret_gone));
	if (run->kind == SNAP_SEGMENT_ZERO && !snap_map_has(m, region))
		return 0;
	r = take(m, region, &h);
	if (r < 0)
		return r;
	reserve(m, h, MIN(h->n + 2, SNAP_REGION_PAGES));
	h->n = snap_leaf_splice(h->segments, h->n, run, ret_gone);
	return evict(m);
}

int snap_map_replace(SnapMap *m, uint64_t region, const struct snap_leaf *leaf)
{
	struct held *h = g_hash_table_lookup(m->held, &region);

	if (!h)
		h = hold(m, region);
	held_set(m, h, leaf);
	return evict(m);
}

int snap_map_get(SnapMap *m, uint64_t region, struct snap_leaf *ret_leaf)
{
	struct held *h = g_hash_table_lookup(m->held, &region);

	if (h) {
		ret_leaf->n = h->n;
		memcpy(ret_leaf->segments, h->segments,
		       h->n * sizeof(h->segments[0]));
		return 0;
	}
	if (snap_map_has(m, region))
		return unspill(m, region, ret_leaf);
	snap_leaf_clear(ret_leaf);
	return 0;
}
