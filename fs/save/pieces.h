/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Collects the pieces of pages until the pages are complete. Inside fs/save. */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "fs/save/pool.h"

typedef struct SnapPieces SnapPieces;

/* Collects pages of `size` bytes. Their memory is reserved in `pool`, which is
 * borrowed. */
SnapPieces *snap_pieces_new(SnapPool *pool, uint32_t size);
void snap_pieces_free(SnapPieces *p);

/* Takes `size` bytes at offset `at` of the page `key`. *ret_whole becomes the
 * page if it is complete now (valid until it is dropped), else NULL. Returns 0,
 * -EPROTO where too many pages are incomplete, or -ENOMEM. */
int snap_pieces_put(SnapPieces *p, uint64_t key, size_t at, const void *data,
		    size_t size, const uint8_t **ret_whole, GError **error);

/* Drops the page `key`, if it is here. */
void snap_pieces_drop(SnapPieces *p, uint64_t key);

/* Returns a page that is incomplete, with zeros where no bytes came, or
 * NULL. */
const uint8_t *snap_pieces_next(const SnapPieces *p, uint64_t *ret_key);
