/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pages that come in pieces, until they are whole. Inside fs/save. */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "fs/save/pool.h"

typedef struct SnapPieces SnapPieces;

/* For pages of `size` bytes. Memory is set aside from `pool`, which is
 * borrowed. */
SnapPieces *snap_pieces_new(SnapPool *pool, uint32_t size);
void snap_pieces_free(SnapPieces *p);

/* Takes `size` bytes at `at` of the page `key`. *ret_whole is the page once all
 * of it has come (until it is dropped), else NULL. -EPROTO when too many pages
 * are waiting, -ENOMEM. */
int snap_pieces_put(SnapPieces *p, uint64_t key, size_t at, const void *data,
		    size_t size, const uint8_t **ret_whole, GError **error);

/* Forgets what came of the page `key`, if anything. */
void snap_pieces_drop(SnapPieces *p, uint64_t key);

/* A page that still waits, with zeros where nothing came, or NULL. */
const uint8_t *snap_pieces_next(const SnapPieces *p, uint64_t *ret_key);
