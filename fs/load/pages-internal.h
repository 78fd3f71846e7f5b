/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What pages.c and index.c share. Inside fs/load. */
#pragma once

#include "fs/load/cache.h"
#include "fs/load/pages.h"

struct SnapPages {
	gint refs; /* atomic */
	SnapLoader *loader;
	SnapReader *reader;
	uint64_t id; /* the owner of its frames in the cache */
	char *name;
	const struct snap_entry *top;
	guint n_nodes;
	uint64_t n_regions;
	GMutex lock;
	/* the offsets where damage was logged last; protected by lock */
	uint64_t logged[16];
	guint n_logged;
};

/* A held leaf, or none: then the region is all zero. */
struct held_leaf {
	const struct snap_cached *frame;
	const struct snap_leaf *leaf;
};

/* Holds the leaf of a region until snap_pages_put_leaf(). Returns 0 or
 * -errno. */
int snap_pages_get_leaf(SnapPages *pages, uint64_t region,
			struct held_leaf *ret_leaf);
void snap_pages_put_leaf(SnapPages *pages, struct held_leaf *leaf);

/* Holds node `index`, which must not be empty, until snap_cache_put(). Returns
 * 0 or -errno. */
int snap_pages_get_node(SnapPages *pages, guint index,
			const struct snap_cached **ret_frame);

/* The cache of the loader. */
SnapCache *snap_loader_cache(SnapLoader *loader);
