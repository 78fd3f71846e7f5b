/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes extents of neighbouring pages from pages that come in any order. Inside
 * fs/save. */
#pragma once

#include "fs/save/pool.h"

typedef struct SnapGather SnapGather;

/* Gathers pages into jobs of `pool` and submits the jobs to `lane`. */
SnapGather *snap_gather_new(SnapPool *pool, SnapLane *lane);
/* Drops the jobs that were not submitted. */
void snap_gather_free(SnapGather *g);

/* Takes `size` bytes (whole pages, at most 64 KiB, within one region) at
 * `offset` of the page space. If all of them are the same byte they become a
 * fill, otherwise all pages are stored. */
void snap_gather_pages(SnapGather *g, uint64_t offset, const void *data,
		       size_t size);

/* Takes the pages [offset, offset + size), within one region, all of whose
 * bytes are `fill`. */
void snap_gather_fill(SnapGather *g, uint64_t offset, size_t size,
		      uint8_t fill);

/* Submits all open jobs. */
void snap_gather_flush(SnapGather *g);
