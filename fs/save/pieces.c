/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A writer that continues where it stopped leaves at most one incomplete page
 * after each write. So a few pages are enough, even for several writers. A
 * writer that leaves more incomplete pages is refused, to bound the memory.
 */
#include "fs/save/pieces.h"

#include <string.h>

#include "format/base/error.h"

/* Incomplete pages at most: 64 of 4 KiB, fewer if they are larger. */
#define PIECES_BYTES (256 * SNAP_KIB)
#define PIECES_MIN 8u

struct piece {
	uint64_t key;
	size_t missing; /* bytes */
	uint8_t *came;	/* a bit per byte */
	uint8_t data[];
};

struct SnapPieces {
	SnapPool *pool;
	uint32_t size;
	guint max;
	guint n;
	struct piece **pieces;
};

SnapPieces *snap_pieces_new(SnapPool *pool, uint32_t size)
{
	SnapPieces *p = g_new0(SnapPieces, 1);

	p->pool = pool;
	p->size = size;
	p->max = MAX(PIECES_MIN, (guint)(PIECES_BYTES / size));
	p->pieces = g_new0(struct piece *, p->max);
	return p;
}

/* The memory of an incomplete page, in bytes. */
static size_t piece_cost(const SnapPieces *p)
{
	return sizeof(struct piece) + p->size + p->size / 8;
}

static void drop_at(SnapPieces *p, guint i)
{
	g_free(p->pieces[i]);
	p->pieces[i] = p->pieces[--p->n];
	snap_pool_unreserve(p->pool, piece_cost(p));
}

void snap_pieces_free(SnapPieces *p)
{
	if (!p)
		return;
	while (p->n)
		drop_at(p, 0);
	g_free(p->pieces);
	g_free(p);
}

/* The index of the page, or p->n. */
static guint find(const SnapPieces *p, uint64_t key)
{
	guint i = 0;

	while (i < p->n && p->pieces[i]->key != key)
		i++;
	return i;
}

static int add(SnapPieces *p, uint64_t key, GError **error)
{
	struct piece *piece;

	if (p->n == p->max)
		return snap_fail(error, EPROTO,
				 "more than %u pages of RAM are incomplete",
				 p->max);
	if (!snap_pool_reserve_late(p->pool, piece_cost(p)))
		return snap_fail(error, ENOMEM,
				 "-o buffer= has no memory left for a page of "
				 "RAM that comes in pieces");
	piece = g_malloc0(piece_cost(p));
	piece->key = key;
	piece->missing = p->size;
	piece->came = piece->data + p->size;
	p->pieces[p->n++] = piece;
	return 0;
}

int snap_pieces_put(SnapPieces *p, uint64_t key, size_t at, const void *data,
		    size_t size, const uint8_t **ret_whole, GError **error)
{
	guint i = find(p, key);
	struct piece *piece;
	int r = i < p->n ? 0 : add(p, key, error);

	if (r < 0)
		return r;
	piece = p->pieces[i];
	memcpy(piece->data + at, data, size);
	for (size_t b = at; b < at + size; b++) {
		uint8_t mask = (uint8_t)(1 << b % 8);

		piece->missing -= !(piece->came[b / 8] & mask);
		piece->came[b / 8] |= mask;
	}
	*ret_whole = piece->missing ? NULL : piece->data;
	return 0;
}

void snap_pieces_drop(SnapPieces *p, uint64_t key)
{
	guint i = find(p, key);

	if (i < p->n)
		drop_at(p, i);
}

const uint8_t *snap_pieces_next(const SnapPieces *p, uint64_t *ret_key)
{
	if (!p->n)
		return NULL;
	*ret_key = p->pieces[0]->key;
	return p->pieces[0]->data;
}
