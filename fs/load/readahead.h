/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guesses which bytes come next; only arithmetic. Inside fs/load. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fs/load/pages.h"

/* How far ahead of a sequential reader frames are loaded, in bytes. */
#define SNAP_READAHEAD_WINDOW (4 * SNAP_MIB)

/* Notes a read of [offset, offset + size). Returns true if [*ret_from, *ret_to)
 * should be loaded ahead: twice as much as was read in order so far, up to
 * `window`. */
bool snap_readahead_next(struct snap_pages_hint *hint, uint64_t offset,
			 uint64_t size, uint64_t window, uint64_t *ret_from,
			 uint64_t *ret_to);
