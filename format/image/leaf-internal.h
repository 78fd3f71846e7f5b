/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The runs of one region, in memory. */
#pragma once

#include "format/image/image.h"

/* What a splice replaced. */
struct snap_splice {
	uint64_t dead; /* bytes of extents that are no longer in use */
	guint pages;   /* pages in extents that were replaced */
};

/* Makes a leaf of a region of zeros. */
void snap_leaf_clear(struct snap_leaf *leaf);

/* The number of pages that are not zero. */
guint snap_leaf_stored(const struct snap_leaf *leaf);

/* The number after the last page that is not zero. */
guint snap_leaf_end(const struct snap_leaf *leaf);

/* Replaces the pages of `run` in the `n` runs at `s`. `s` has room for two more
 * runs, up to the pages of a region. Returns the new number of runs. */
guint snap_leaf_splice(struct snap_segment *s, guint n,
		       const struct snap_segment *run,
		       struct snap_splice *ret_gone);

/* The number of pages of the extent at `offset` that are in use. */
guint snap_leaf_live(const struct snap_segment *s, guint n, uint64_t offset);

/* Splits an extent into runs: gives the run that begins with pages[i], a copy
 * of `like` with its own pages. Returns the index of the next run's first page,
 * or `n` at the end. */
guint snap_leaf_run(const uint16_t *pages, guint n, guint i,
		    const struct snap_segment *like,
		    struct snap_segment *ret_run);
