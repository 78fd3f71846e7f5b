/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The runs of one region, in memory. */
#pragma once

#include "format/image/image.h"

/* What a splice took away. */
struct snap_splice {
	uint64_t dead; /* bytes of extents that nobody refers to any more */
	guint pages;   /* pages in extents that were replaced */
};

/* Makes it the leaf of a region of zeros. */
void snap_leaf_clear(struct snap_leaf *leaf);

/* Pages that are not zero. */
guint snap_leaf_stored(const struct snap_leaf *leaf);

/* One past the last page that is not zero. */
guint snap_leaf_end(const struct snap_leaf *leaf);

/* Puts `run` in the place of what the `n` runs at `s` say of its pages. `s` has
 * room for two more, but never for more than a region has pages; returns their
 * new number. */
guint snap_leaf_splice(struct snap_segment *s, guint n,
		       const struct snap_segment *run,
		       struct snap_splice *ret_gone);

/* The number of pages of the extent at `offset` that are referred to. */
guint snap_leaf_live(const struct snap_segment *s, guint n, uint64_t offset);

/* An extent as runs: gives the one that begins with pages[i], `like` in all but
 * its place, and returns where the next begins (`n` at the end). */
guint snap_leaf_run(const uint16_t *pages, guint n, guint i,
		    const struct snap_segment *like,
		    struct snap_segment *ret_run);
