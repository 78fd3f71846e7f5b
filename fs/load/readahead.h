/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which bytes come next: window arithmetic alone. Inside fs/load. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fs/load/pages.h"

/* How far ahead of a sequential reader frames are loaded. */
#define SNAP_READAHEAD_WINDOW (4 * SNAP_MIB)

/* Notes a read of [offset, offset + size) and says what to load ahead:
 * [*ret_from, *ret_to), and false when nothing. A reader counts as sequential
 * when it goes on near where the last read ended: the kernel's own readahead
 * sends several reads at once, which arrive in any order. */
bool snap_readahead_next(struct snap_pages_hint *hint, uint64_t offset,
			 uint64_t size, uint64_t window, uint64_t *ret_from,
			 uint64_t *ret_to);
