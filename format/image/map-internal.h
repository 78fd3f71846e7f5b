/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The map while a snapshot is written: what every page of every region is, in
 * bounded memory.
 */
#pragma once

#include "format/image/image.h"
#include "format/image/leaf-internal.h"

typedef struct SnapMap SnapMap;

/* A map of zeros that keeps up to `memory` bytes of leaves, and the others in
 * `scratch`, which it takes over. Without a scratch file (NULL) all leaves stay
 * in memory. */
SnapMap *snap_map_new(SnapFile *scratch, uint64_t memory);
void snap_map_free(SnapMap *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapMap, snap_map_free)

/* One past the last region that was touched. */
uint64_t snap_map_regions(const SnapMap *m);

/* Whether a region was touched; all others are zeros. */
bool snap_map_has(const SnapMap *m, uint64_t region);

/* Puts a run in the place of what the map says of its pages. -errno of the
 * scratch file. */
int snap_map_splice(SnapMap *m, uint64_t region, const struct snap_segment *run,
		    struct snap_splice *ret_gone);

/* Puts a whole leaf in the place of another. -errno of the scratch file. */
int snap_map_replace(SnapMap *m, uint64_t region, const struct snap_leaf *leaf);

/* Copies the leaf of a region. -errno of the scratch file. */
int snap_map_get(SnapMap *m, uint64_t region, struct snap_leaf *ret_leaf);
