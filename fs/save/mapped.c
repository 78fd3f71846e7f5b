/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The header of each RAM block is followed by the block's bitmap and pages,
 * then the stream goes on (wire.h). Bitmaps and pages come in any order, from
 * several writers, cut anywhere:
 *
 *	header │ bitmap │ zeros │ pages ........... │ header │ bitmap │ …
 *	stream ┘                                    └ stream
 *
 * Two bits are kept for each target page: whether the bitmap *names* it, and
 * whether it was *written*. What a difference means depends on the writer. QEMU
 * writes its bitmaps after all pages, so a page that is named but was not
 * written is lost. A copy comes front to back and leaves out holes, so such a
 * page is zero. In both cases a page that was written but is not named became
 * zero later. QEMU's background snapshot never writes the bitmaps: if no bitmap
 * names a page, the written pages are the snapshot.
 */
#include "fs/save/mapped.h"

#include <inttypes.h>
#include <string.h>

#include "format/base/error.h"
#include "format/base/zero.h"
#include "fs/save/pieces.h"

/* What follows the header of one RAM block. Offsets are in the file. In the
 * arrays of bits, page i is bit i % 8 of byte i / 8. */
struct block {
	char *name;
	uint64_t begin;	      /* where zeros begin, up to the bitmap */
	uint64_t bitmap;      /* where in the file */
	uint64_t bytes;	      /* of the bitmap, and of each array of bits */
	uint64_t pages;	      /* where in the file */
	uint64_t length;      /* bytes of the pages */
	uint64_t flat;	      /* the offset of the pages in the page space */
	uint64_t bitmap_came; /* bytes from its beginning on */
	uint8_t *named;
	uint8_t *written;
	bool touched; /* a page or a part of one came */
};

struct SnapMapped {
	SnapPool *pool;
	SnapGather *gather;
	uint32_t target_page;
	uint64_t end;	/* the end of the last block's pages in the file */
	GArray *blocks; /* struct block, in the file's order */
	SnapPieces *pieces;
	uint64_t reserved; /* bytes of the pool's memory */
	bool named;	   /* some bitmap names a page */
	bool late;	   /* such a bitmap came after pages of its block */
};

static void block_clear(gpointer data)
{
	struct block *b = data;

	g_free(b->name);
	g_free(b->named);
	g_free(b->written);
}

static struct block *block_at(const SnapMapped *m, guint i)
{
	return &g_array_index(m->blocks, struct block, i);
}

static bool bit(const uint8_t *bits, uint64_t i)
{
	return bits[i / 8] >> i % 8 & 1;
}

SnapMapped *snap_mapped_new(SnapPool *pool, SnapGather *gather, uint64_t begin,
			    uint32_t target_page)
{
	SnapMapped *m = g_new0(SnapMapped, 1);

	m->pool = pool;
	m->gather = gather;
	m->target_page = target_page;
	m->end = begin;
	m->blocks = g_array_new(FALSE, TRUE, sizeof(struct block));
	g_array_set_clear_func(m->blocks, block_clear);
	m->pieces = snap_pieces_new(pool, target_page);
	return m;
}

void snap_mapped_free(SnapMapped *m)
{
	if (!m)
		return;
	snap_pieces_free(m->pieces);
	snap_pool_unreserve(m->pool, m->reserved);
	g_array_unref(m->blocks);
	g_free(m);
}

/* ---- blocks ---- */

/* Checks the offsets in the header of a block. */
static int check_place(const SnapMapped *m, const struct snap_ram_block *b,
		       uint64_t from, uint64_t bytes, GError **error)
{
	uint64_t bitmap_end, end;

	if (m->target_page < SNAP_PAGE)
		return snap_fail(error, EOPNOTSUPP,
				 "mapped-ram with target pages of %u bytes",
				 m->target_page);
	if (b->bitmap < MAX(from, m->end) ||
	    !snap_add(b->bitmap, bytes, &bitmap_end) || b->pages < bitmap_end ||
	    !snap_add(b->pages, b->length, &end) || end > INT64_MAX)
		return snap_fail(error, EPROTO,
				 "RAM block %s: its bitmap at offset %" PRIu64
				 " and its pages at %" PRIu64
				 " overlap something else",
				 b->name, b->bitmap, b->pages);
	return 0;
}

/* Allocates two bits per page. The kernel gives memory only for the bytes that
 * are used. */
static int reserve_bits(SnapMapped *m, struct block *b, GError **error)
{
	if (!b->bytes)
		return 0;
	if (snap_pool_reserve_late(m->pool, 2 * b->bytes)) {
		m->reserved += 2 * b->bytes;
		b->named = g_try_malloc0(b->bytes);
		b->written = g_try_malloc0(b->bytes);
	}
	if (b->named && b->written)
		return 0;
	return snap_fail(error, ENOMEM,
			 "RAM block %s: %" PRIu64
			 " KiB for its bitmap are more than is left of -o "
			 "buffer=",
			 b->name, snap_div_up(2 * b->bytes, SNAP_KIB));
}

int snap_mapped_add(SnapMapped *m, const struct snap_ram_block *block,
		    uint64_t from, GError **error)
{
	uint64_t pages = block->length / m->target_page;
	uint64_t bytes = snap_div_up(pages, 64) * 8;
	struct block *b;
	int r = check_place(m, block, from, bytes, error);

	if (r < 0)
		return r;
	m->end = block->pages + block->length;
	g_array_set_size(m->blocks, m->blocks->len + 1);
	b = block_at(m, m->blocks->len - 1);
	b->name = g_strdup(block->name);
	b->begin = block->behind;
	b->bitmap = block->bitmap;
	b->bytes = bytes;
	b->pages = block->pages;
	b->length = block->length;
	b->flat = block->flat;
	return reserve_bits(m, b, error);
}

/* Finds the last block that begins at or before `offset`, or NULL. */
static struct block *block_find(const SnapMapped *m, uint64_t offset)
{
	guint low = 0, high = m->blocks->len;

	while (low < high) {
		guint middle = low + (high - low) / 2;

		if (block_at(m, middle)->begin <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? block_at(m, low - 1) : NULL;
}

/* ---- writing ---- */

static void take_bitmap(SnapMapped *m, struct block *b, const uint8_t *data,
			size_t size, uint64_t offset)
{
	uint64_t at = offset - b->bitmap;

	memcpy(b->named + at, data, size);
	if (at <= b->bitmap_came)
		b->bitmap_came = MAX(b->bitmap_came, at + size);
	for (size_t i = 0; i < size; i++)
		if (data[i]) {
			m->named = true;
			m->late = m->late || b->touched;
			return;
		}
}

static int check_padding(const uint8_t *data, size_t size, uint64_t offset,
			 GError **error)
{
	size_t i = snap_zeros_before(data, size);

	return i == size ? 0
			 : snap_fail(error, EPROTO,
				     "offset %" PRIu64
				     ": expected zeros up to the next RAM "
				     "block's pages, found 0x%02x",
				     offset + i, data[i]);
}

static void take_page(SnapMapped *m, struct block *b, uint64_t page,
		      const uint8_t *data)
{
	b->written[page / 8] |= (uint8_t)(1 << page % 8);
	snap_gather_pages(m->gather, b->flat + page * m->target_page, data,
			  m->target_page);
}

/* Takes a piece of a page. */
static int take_piece(SnapMapped *m, struct block *b, uint64_t at,
		      const uint8_t *data, size_t size, GError **error)
{
	uint64_t page = at / m->target_page;
	uint64_t flat = b->flat + page * m->target_page;
	const uint8_t *whole;
	int r;

	if (bit(b->written, page))
		return snap_fail(error, EPROTO,
				 "offset %" PRIu64 ": page %" PRIu64
				 " of RAM block %s was written already; only a "
				 "whole page can replace it",
				 b->pages + at, page, b->name);
	r = snap_pieces_put(m->pieces, flat, (size_t)(at % m->target_page),
			    data, size, &whole, error);
	if (r < 0)
		return snap_fail_prefix(error, r, "offset %" PRIu64,
					b->pages + at);
	if (!whole)
		return 0;
	take_page(m, b, page, whole);
	snap_pieces_drop(m->pieces, flat);
	return 0;
}

/* Takes bytes at offset `at` of the block's pages. */
static int take_pages(SnapMapped *m, struct block *b, uint64_t at,
		      const uint8_t *data, size_t size, GError **error)
{
	b->touched = true;
	while (size > 0) {
		size_t within = (size_t)(at % m->target_page);
		size_t n = MIN(size, m->target_page - within);
		int r = 0;

		if (n == m->target_page) {
			snap_pieces_drop(m->pieces, b->flat + at);
			take_page(m, b, at / m->target_page, data);
		} else {
			r = take_piece(m, b, at, data, n, error);
		}
		if (r < 0)
			return r;
		at += n;
		data += n;
		size -= n;
	}
	return 0;
}

ssize_t snap_mapped_write(SnapMapped *m, const void *data, size_t size,
			  uint64_t offset, GError **error)
{
	struct block *b = block_find(m, offset);
	int r = 0;

	if (!b || offset >= b->pages + b->length)
		return 0;
	if (offset < b->bitmap) {
		size = (size_t)MIN(size, b->bitmap - offset);
		r = check_padding(data, size, offset, error);
	} else if (offset < b->bitmap + b->bytes) {
		size = (size_t)MIN(size, b->bitmap + b->bytes - offset);
		take_bitmap(m, b, data, size, offset);
	} else if (offset < b->pages) {
		size = (size_t)MIN(size, b->pages - offset);
		r = check_padding(data, size, offset, error);
	} else {
		size = (size_t)MIN(size, b->pages + b->length - offset);
		r = take_pages(m, b, offset - b->pages, data, size, error);
	}
	return r < 0 ? r : (ssize_t)size;
}

/* ---- the end ---- */

/* The first page whose bit is set in `bits` but not in `others`, or -1. */
static int64_t first_without(const uint8_t *bits, const uint8_t *others,
			     uint64_t bytes)
{
	for (uint64_t i = 0; i < bytes; i++) {
		uint8_t only = (uint8_t)(bits[i] & ~others[i]);

		if (only)
			return (int64_t)(i * 8) + __builtin_ctz(only);
	}
	return -1;
}

/* True when only headers came: a file whose pages are still to be copied. */
static bool is_bare(const SnapMapped *m)
{
	for (guint i = 0; i < m->blocks->len; i++)
		if (block_at(m, i)->touched)
			return false;
	return m->blocks->len && !m->named;
}

/* The bytes of a bitmap that have bits for pages. QEMU pads the bitmap to whole
 * words; the padding need not come. */
static uint64_t bitmap_least(const SnapMapped *m, const struct block *b)
{
	return snap_div_up(b->length / m->target_page, 8);
}

bool snap_mapped_waits(const SnapMapped *m)
{
	if (is_bare(m))
		return true;
	for (guint i = 0; i < m->blocks->len; i++) {
		const struct block *b = block_at(m, i);

		if (m->named && b->bitmap_came < bitmap_least(m, b))
			return true;
		if (!m->late &&
		    first_without(b->named, b->written, b->bytes) >= 0)
			return true;
	}
	return false;
}

/* Checks that the bits after the last page are zero. */
static int check_surplus(const SnapMapped *m, const struct block *b,
			 GError **error)
{
	uint64_t pages = b->length / m->target_page;

	for (uint64_t i = pages; i < b->bytes * 8; i++)
		if (bit(b->named, i))
			return snap_fail(error, EPROTO,
					 "the bitmap of RAM block %s names "
					 "page %" PRIu64
					 "; the block has %" PRIu64,
					 b->name, i, pages);
	return 0;
}

int snap_mapped_check(const SnapMapped *m, GError **error)
{
	for (guint i = 0; i < m->blocks->len; i++) {
		const struct block *b = block_at(m, i);
		int r = check_surplus(m, b, error);
		int64_t page;

		if (r < 0)
			return r;
		page = first_without(b->named, b->written, b->bytes);
		if (m->late && page >= 0)
			return snap_fail(error, EPROTO,
					 "the bitmap of RAM block %s names "
					 "page %" PRId64
					 ", which was never written",
					 b->name, page);
	}
	return 0;
}

/* Makes the pages zero that were written but are not named. */
static void clear_unnamed(SnapMapped *m, const struct block *b)
{
	for (uint64_t i = 0; i < b->bytes; i++) {
		unsigned only = b->written[i] & (unsigned)~b->named[i];

		for (; only; only &= only - 1) {
			uint64_t page = i * 8 + (unsigned)__builtin_ctz(only);

			snap_gather_fill(m->gather,
					 b->flat + page * m->target_page,
					 m->target_page, 0);
		}
	}
}

/* Takes the pages of which only a part came; the rest is zero. */
static void take_incomplete(SnapMapped *m, bool all)
{
	const uint8_t *data;
	uint64_t flat;

	while ((data = snap_pieces_next(m->pieces, &flat))) {
		for (guint i = 0; i < m->blocks->len; i++) {
			struct block *b = block_at(m, i);
			uint64_t page = (flat - b->flat) / m->target_page;

			if (flat < b->flat || flat - b->flat >= b->length)
				continue;
			if (all || bit(b->named, page))
				take_page(m, b, page, data);
		}
		snap_pieces_drop(m->pieces, flat);
	}
}

bool snap_mapped_finish(SnapMapped *m)
{
	bool touched = false;

	for (guint i = 0; i < m->blocks->len; i++) {
		const struct block *b = block_at(m, i);

		touched = touched || b->touched;
		if (m->named)
			clear_unnamed(m, b);
	}
	take_incomplete(m, !m->named);
	return touched && !m->named;
}
