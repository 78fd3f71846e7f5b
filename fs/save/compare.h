/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compares pages with those of another snapshot; each worker has one of these.
 * Inside fs/save. */
#pragma once

#include "format/image/image.h"

typedef struct SnapCompare SnapCompare;

/* Makes one that has read nothing. */
SnapCompare *snap_compare_new(void);
void snap_compare_free(SnapCompare *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapCompare, snap_compare_free)

/* Goes to a region of a snapshot, whose `id` no other one has ever had. Returns
 * false where its map cannot be read. */
bool snap_compare_region(SnapCompare *c, SnapReader *reader, uint64_t id,
			 uint64_t region);

/* Is `data` the page of the region, and does that lie in an extent of one of
 * the layers whose bits are set in `layers`? Then *ret_run is that page of the
 * extent. What cannot be read is not equal. */
bool snap_compare_page(SnapCompare *c, guint page, const void *data,
		       unsigned layers, struct snap_segment *ret_run);
