/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Behind the header of each RAM block lie its bitmap and its pages, and behind
 * them the stream goes on (wire.h). Bitmaps and pages come in any order, from
 * several writers, cut anywhere:
 *
 *	header │ bitmap │ zeros │ pages ........... │ header │ bitmap │ …
 *	stream ┘                                    └ stream
 *
 * Of each target page two bits are kept: what the bitmap *said*, and whether it
 * was *written*. Of what they say together, who wrote the file decides. QEMU
 * writes its bitmaps when all pages are there: a page that one names and that
 * did not come is lost. A copy comes front to back and leaves out holes: a page
 * that did not come is zero. In either, a page that came and is not named is
 * one that became zero later. And QEMU's background snapshot never writes the
 * bitmaps: where none names any page, those that came are the snapshot.
 */
#include "fs/save/mapped.h"

#include <inttypes.h>
#include <string.h>

#include "format/base/error.h"
#include "format/base/zero.h"
#include "fs/save/pieces.h"

/* One block's. Of the bits, page i has bit i % 8 of byte i / 8. */
struct area {
	char *name;
	uint64_t begin;	 /* where in the file; zeros up to the bitmap */
	uint64_t bitmap; /* where in the file */
	uint64_t bytes;	 /* of the bitmap, and of each array of bits */
	uint64_t pages;	 /* where in the file */
	uint64_t length; /* of the pages */
	uint64_t flat;	 /* where in the page space they belong */
	uint64_t came;	 /* bytes of the bitmap, from its beginning on */
	uint8_t *said;
	uint8_t *written;
	bool touched; /* a page came, or a part of one */
};

struct SnapMapped {
	SnapPool *pool;
	SnapGather *gather;
	uint32_t target_page;
	uint64_t end;  /* of the last area in the file */
	GArray *areas; /* struct area, in the file's order */
	SnapPieces *pieces;
	uint64_t reserved; /* bytes of the pool's memory */
	bool said;	   /* some bitmap names a page */
	bool late;	   /* and came when pages of its block had */
};

static void area_clear(gpointer data)
{
	struct area *a = data;

	g_free(a->name);
	g_free(a->said);
	g_free(a->written);
}

static struct area *area_at(const SnapMapped *m, guint i)
{
	return &g_array_index(m->areas, struct area, i);
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
	m->areas = g_array_new(FALSE, TRUE, sizeof(struct area));
	g_array_set_clear_func(m->areas, area_clear);
	m->pieces = snap_pieces_new(pool, target_page);
	return m;
}

void snap_mapped_free(SnapMapped *m)
{
	if (!m)
		return;
	snap_pieces_free(m->pieces);
	snap_pool_unreserve(m->pool, m->reserved);
	g_array_unref(m->areas);
	g_free(m);
}

/* ---- areas ---- */

/* Checks where a block says that it lies. */
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

/* Two bits a page; only what is touched becomes memory. */
static int reserve_bits(SnapMapped *m, struct area *a, GError **error)
{
	if (!a->bytes)
		return 0;
	if (snap_pool_reserve_late(m->pool, 2 * a->bytes)) {
		m->reserved += 2 * a->bytes;
		a->said = g_try_malloc0(a->bytes);
		a->written = g_try_malloc0(a->bytes);
	}
	if (a->said && a->written)
		return 0;
	return snap_fail(error, ENOMEM,
			 "RAM block %s: %" PRIu64
			 " KiB for its bitmap are more than is left of -o "
			 "buffer=",
			 a->name, snap_div_up(2 * a->bytes, SNAP_KIB));
}

int snap_mapped_add(SnapMapped *m, const struct snap_ram_block *block,
		    uint64_t from, GError **error)
{
	uint64_t pages = block->length / m->target_page;
	uint64_t bytes = snap_div_up(pages, 64) * 8;
	struct area *a;
	int r = check_place(m, block, from, bytes, error);

	if (r < 0)
		return r;
	m->end = block->pages + block->length;
	g_array_set_size(m->areas, m->areas->len + 1);
	a = area_at(m, m->areas->len - 1);
	a->name = g_strdup(block->name);
	a->begin = block->behind;
	a->bitmap = block->bitmap;
	a->bytes = bytes;
	a->pages = block->pages;
	a->length = block->length;
	a->flat = block->flat;
	return reserve_bits(m, a, error);
}

/* The last area that begins at `offset` or before, or NULL. */
static struct area *area_find(const SnapMapped *m, uint64_t offset)
{
	guint low = 0, high = m->areas->len;

	while (low < high) {
		guint middle = low + (high - low) / 2;

		if (area_at(m, middle)->begin <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? area_at(m, low - 1) : NULL;
}

/* ---- writing ---- */

static void take_bitmap(SnapMapped *m, struct area *a, const uint8_t *data,
			size_t size, uint64_t offset)
{
	uint64_t at = offset - a->bitmap;

	memcpy(a->said + at, data, size);
	if (at <= a->came)
		a->came = MAX(a->came, at + size);
	for (size_t i = 0; i < size; i++)
		if (data[i]) {
			m->said = true;
			m->late = m->late || a->touched;
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

static void take_page(SnapMapped *m, struct area *a, uint64_t page,
		      const uint8_t *data)
{
	a->written[page / 8] |= (uint8_t)(1 << page % 8);
	snap_gather_pages(m->gather, a->flat + page * m->target_page, data,
			  m->target_page);
}

/* Bytes that are not a whole page. */
static int take_piece(SnapMapped *m, struct area *a, uint64_t at,
		      const uint8_t *data, size_t size, GError **error)
{
	uint64_t page = at / m->target_page;
	uint64_t flat = a->flat + page * m->target_page;
	const uint8_t *whole;
	int r;

	if (bit(a->written, page))
		return snap_fail(error, EPROTO,
				 "offset %" PRIu64 ": page %" PRIu64
				 " of RAM block %s has come already, and can "
				 "only be written again as a whole",
				 a->pages + at, page, a->name);
	r = snap_pieces_put(m->pieces, flat, (size_t)(at % m->target_page),
			    data, size, &whole, error);
	if (r < 0)
		return snap_fail_prefix(error, r, "offset %" PRIu64,
					a->pages + at);
	if (!whole)
		return 0;
	take_page(m, a, page, whole);
	snap_pieces_drop(m->pieces, flat);
	return 0;
}

/* Takes bytes that lie `at` bytes within the area's pages. */
static int take_pages(SnapMapped *m, struct area *a, uint64_t at,
		      const uint8_t *data, size_t size, GError **error)
{
	a->touched = true;
	while (size > 0) {
		size_t within = (size_t)(at % m->target_page);
		size_t n = MIN(size, m->target_page - within);
		int r = 0;

		if (n == m->target_page) {
			snap_pieces_drop(m->pieces, a->flat + at);
			take_page(m, a, at / m->target_page, data);
		} else {
			r = take_piece(m, a, at, data, n, error);
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
	struct area *a = area_find(m, offset);
	int r = 0;

	if (!a || offset >= a->pages + a->length)
		return 0;
	if (offset < a->bitmap) {
		size = (size_t)MIN(size, a->bitmap - offset);
		r = check_padding(data, size, offset, error);
	} else if (offset < a->bitmap + a->bytes) {
		size = (size_t)MIN(size, a->bitmap + a->bytes - offset);
		take_bitmap(m, a, data, size, offset);
	} else if (offset < a->pages) {
		size = (size_t)MIN(size, a->pages - offset);
		r = check_padding(data, size, offset, error);
	} else {
		size = (size_t)MIN(size, a->pages + a->length - offset);
		r = take_pages(m, a, offset - a->pages, data, size, error);
	}
	return r < 0 ? r : (ssize_t)size;
}

/* ---- the end ---- */

/* The first page that is set in one and not in the other, or -1. */
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

/* True when neither a page nor the name of one has come: headers alone, of a
 * file whose pages are still to be copied. */
static bool is_bare(const SnapMapped *m)
{
	for (guint i = 0; i < m->areas->len; i++)
		if (area_at(m, i)->touched)
			return false;
	return m->areas->len && !m->said;
}

/* Bytes of a bitmap that have a page: it is filled up to a word of who wrote
 * it. */
static uint64_t bitmap_least(const SnapMapped *m, const struct area *a)
{
	return snap_div_up(a->length / m->target_page, 8);
}

bool snap_mapped_waits(const SnapMapped *m)
{
	if (is_bare(m))
		return true;
	for (guint i = 0; i < m->areas->len; i++) {
		const struct area *a = area_at(m, i);

		if (m->said && a->came < bitmap_least(m, a))
			return true;
		if (!m->late &&
		    first_without(a->said, a->written, a->bytes) >= 0)
			return true;
	}
	return false;
}

/* Bits behind the last page. */
static int check_surplus(const SnapMapped *m, const struct area *a,
			 GError **error)
{
	uint64_t pages = a->length / m->target_page;

	for (uint64_t i = pages; i < a->bytes * 8; i++)
		if (bit(a->said, i))
			return snap_fail(error, EPROTO,
					 "the bitmap of RAM block %s names "
					 "page %" PRIu64
					 "; the block has %" PRIu64,
					 a->name, i, pages);
	return 0;
}

int snap_mapped_check(const SnapMapped *m, GError **error)
{
	for (guint i = 0; i < m->areas->len; i++) {
		const struct area *a = area_at(m, i);
		int r = check_surplus(m, a, error);
		int64_t page;

		if (r < 0)
			return r;
		page = first_without(a->said, a->written, a->bytes);
		if (m->late && page >= 0)
			return snap_fail(error, EPROTO,
					 "the bitmap of RAM block %s names "
					 "page %" PRId64
					 ", which was never written",
					 a->name, page);
	}
	return 0;
}

/* Pages that came and are not named: zero by now. */
static void forget_unsaid(SnapMapped *m, const struct area *a)
{
	for (uint64_t i = 0; i < a->bytes; i++) {
		unsigned only = a->written[i] & (unsigned)~a->said[i];

		for (; only; only &= only - 1) {
			uint64_t page = i * 8 + (unsigned)__builtin_ctz(only);

			snap_gather_fill(m->gather,
					 a->flat + page * m->target_page,
					 m->target_page, 0);
		}
	}
}

/* Pages of which only a part came: the rest is a hole. */
static void take_parts(SnapMapped *m, bool all)
{
	const uint8_t *data;
	uint64_t flat;

	while ((data = snap_pieces_next(m->pieces, &flat))) {
		for (guint i = 0; i < m->areas->len; i++) {
			struct area *a = area_at(m, i);
			uint64_t page = (flat - a->flat) / m->target_page;

			if (flat < a->flat || flat - a->flat >= a->length)
				continue;
			if (all || bit(a->said, page))
				take_page(m, a, page, data);
		}
		snap_pieces_drop(m->pieces, flat);
	}
}

bool snap_mapped_settle(SnapMapped *m)
{
	bool touched = false;

	for (guint i = 0; i < m->areas->len; i++) {
		const struct area *a = area_at(m, i);

		touched = touched || a->touched;
		if (m->said)
			forget_unsaid(m, a);
	}
	take_parts(m, !m->said);
	return touched && !m->said;
}
