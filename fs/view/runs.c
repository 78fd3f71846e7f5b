/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads a layout (format/qemu/synth.h) at any offset: walks the runs that the
 * read touches and reads each as its kind says.
 */
#include "fs/view/view-internal.h"

#include <string.h>

#include "format/base/bytes.h"

static int give_state(SnapSealed *s, SnapVec *vec, size_t size, uint64_t offset)
{
	const struct snap_block *state =
		snap_meta_find(snap_sealed_meta(s), SNAP_BLOCK_STATE);

	return snap_pages_give(s->pages, vec, size, state->base + offset, NULL);
}

/* ---- bitmaps ---- */

/* Folds each `n` bits into one, which is set if any of them is. */
static void fold_bits(uint8_t bits[SNAP_REGION_PAGES / 8], guint n)
{
	uint8_t folded[SNAP_REGION_PAGES / 8] = { 0 };

	for (guint i = 0; i < SNAP_REGION_PAGES; i++)
		if (bits[i / 8] >> i % 8 & 1)
			folded[i / n / 8] |= (uint8_t)(1u << i / n % 8);
	memcpy(bits, folded, sizeof(folded));
}

/* The bits of region number `i` of a block, one for each page of snapfs. Bits
 * past the block are 0. */
static int region_bits(SnapSealed *s, const struct snap_ram_block *b,
		       uint64_t i, uint8_t ret[SNAP_REGION_PAGES / 8])
{
	uint64_t stored[SNAP_REGION_PAGES / 64] = { 0 };
	uint64_t end = b->length / SNAP_PAGE, page = i * SNAP_REGION_PAGES;
	int r = page < end
			? snap_pages_stored(s->pages, b->flat / SNAP_REGION + i,
					    stored)
			: 0;

	for (guint word = 0; word < G_N_ELEMENTS(stored); word++, page += 64) {
		le64 bits;

		if (page >= end)
			stored[word] = 0;
		else if (end - page < 64)
			stored[word] &= ((uint64_t)1 << (end - page)) - 1;
		bits = snap_to_le64(stored[word]);
		memcpy(ret + (size_t)word * 8, bits.b, sizeof(bits));
	}
	return r;
}

/* Reads the bitmap of a block, region by region. A target page is at most 64
 * KiB (the layout checks it), so a region has at least 4 bytes. */
static int read_bitmap(SnapSealed *s, const struct snap_ram_block *b, void *buf,
		       size_t size, uint64_t offset)
{
	guint unit = s->info.target_page / SNAP_PAGE;
	size_t bytes = SNAP_REGION_PAGES / 8 / unit;
	uint8_t *to = buf;

	while (size) {
		uint8_t bits[SNAP_REGION_PAGES / 8];
		size_t skip = offset % bytes, n = MIN(size, bytes - skip);
		int r = region_bits(s, b, offset / bytes, bits);

		if (r < 0)
			return r;
		if (unit > 1)
			fold_bits(bits, unit);
		memcpy(to, bits + skip, n);
		to += n;
		offset += n;
		size -= n;
	}
	return 0;
}

/* ---- reading ---- */

/* Gives bytes within one run. */
static int give_run(SnapSealed *s, const struct snap_run *run, SnapVec *vec,
		    size_t size, uint64_t offset, struct snap_pages_hint *hint)
{
	const struct snap_ram_block *block = &s->info.ram.blocks[run->block];
	void *room;

	switch (run->kind) {
	case SNAP_RUN_STATE:
		return give_state(s, vec, size, run->state + offset);
	case SNAP_RUN_PAGES:
		return snap_pages_give(s->pages, vec, size,
				       block->flat + offset, hint);
	case SNAP_RUN_ZERO:
		return snap_vec_zero(vec, size);
	case SNAP_RUN_LITERAL:
		return snap_vec_point(vec, run->data + offset, size);
	case SNAP_RUN_RECORDS:
		room = snap_vec_room(vec, size);
		return room ? snap_records_read(s, run, room, size, offset,
						hint)
			    : -ENOMEM;
	case SNAP_RUN_BITMAP:
		room = snap_vec_room(vec, size);
		return room ? read_bitmap(s, block, room, size, offset)
			    : -ENOMEM;
	}
	return -EBADMSG;
}

int snap_runs_give(SnapSealed *s, const SnapLayout *layout, SnapVec *vec,
		   size_t size, uint64_t offset, struct snap_pages_hint *hint)
{
	while (size) {
		struct snap_run run;
		uint64_t within, n;
		int r;

		if (!snap_layout_find(layout, offset, &run))
			return -EBADMSG;
		within = offset - run.offset;
		n = MIN(size, run.length - within);
		r = give_run(s, &run, vec, n, within, hint);
		if (r < 0)
			return r;
		offset += n;
		size -= n;
	}
	return 0;
}

/* ---- holes ---- */

int snap_space_seek(SnapSealed *s, uint64_t base, uint64_t length,
		    uint64_t offset, bool hole, uint64_t *ret_offset)
{
	uint64_t first = base / SNAP_PAGE, page;
	uint64_t end = first + snap_div_up(length, SNAP_PAGE);
	int r = snap_pages_seek(s->pages, first + offset / SNAP_PAGE, end, hole,
				&page);

	if (r < 0)
		return r;
	*ret_offset = MIN(MAX(offset, (page - first) * SNAP_PAGE), length);
	return 0;
}

/* Finds data, or a hole, from `within` on in a run; its length if there is
 * none. */
static int seek_run(SnapSealed *s, const struct snap_run *run, uint64_t within,
		    bool hole, uint64_t *ret_within)
{
	const struct snap_ram_block *b;

	switch (run->kind) {
	case SNAP_RUN_ZERO:
		*ret_within = hole ? within : run->length;
		return 0;
	case SNAP_RUN_PAGES:
		b = &s->info.ram.blocks[run->block];
		return snap_space_seek(s, b->flat, run->length, within, hole,
				       ret_within);
	default:
		*ret_within = hole ? run->length : within;
		return 0;
	}
}

int snap_runs_seek(SnapSealed *s, const SnapLayout *layout, uint64_t offset,
		   bool hole, uint64_t *ret_offset)
{
	struct snap_run run;

	while (snap_layout_find(layout, offset, &run)) {
		uint64_t within = offset - run.offset, found;
		int r = seek_run(s, &run, within, hole, &found);

		if (r < 0)
			return r;
		offset = run.offset + found;
		if (found < run.length)
			break;
	}
	*ret_offset = offset;
	return 0;
}
