/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The runs of one region, in memory. */
#pragma once

#include "format/image/image.h"

/* What a splice replaced. */
struct snap_splice {
	/* bytes of the snapshot's own extents that are no longer in use */
	uint64_t dead;
	guint pages; /* pages in extents that were replaced */
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

/* True when two runs lie in the same extent. */
bool snap_leaf_same(const struct snap_segment *a, const struct snap_segment *b);

/* The number of pages of the extent of `of` that are in use. */
guint snap_leaf_live(const struct snap_segment *s, guint n,
		     const struct snap_segment *of);

/* Adds the bytes of the extents that the runs use to the sums of their layers,
 * each extent once. */
void snap_leaf_used(const struct snap_leaf *leaf,
		    uint64_t used[SNAP_LAYERS_MAX + 1]);

/* Splits an extent into runs: gives the run that begins with pages[i], a copy
 * of `like` with its own pages. Returns the index of the next run's first page,
 * or `n` at the end. */
guint snap_leaf_run(const uint16_t *pages, guint n, guint i,
		    const struct snap_segment *like,
		    struct snap_segment *ret_run);
