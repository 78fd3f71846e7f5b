/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pages in the order in which a stream sends them become extents of
 * neighbours. Inside fs/save. */
#pragma once

#include "fs/save/pool.h"

typedef struct SnapGather SnapGather;

/* Gathers into jobs of `pool` and submits them to `lane`. */
SnapGather *snap_gather_new(SnapPool *pool, SnapLane *lane);
/* Drops what is gathered and not yet submitted. */
void snap_gather_free(SnapGather *g);

/* Takes `size` bytes (whole pages, at most 64 KiB, within one region) at
 * `offset` of the page space. They are stored or zero together: when all of
 * them are one byte, as a fill. */
void snap_gather_pages(SnapGather *g, uint64_t offset, const void *data,
		       size_t size);

/* Notes that the pages [offset, offset + size), within one region, are all
 * `fill`. */
void snap_gather_fill(SnapGather *g, uint64_t offset, size_t size,
		      uint8_t fill);

/* Submits all that is gathered. */
void snap_gather_flush(SnapGather *g);
