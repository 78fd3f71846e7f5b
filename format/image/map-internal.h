/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The map of a snapshot that is being written: the content of every page of
 * every region, in bounded memory.
 */
#pragma once

#include "format/image/image.h"
#include "format/image/leaf-internal.h"

typedef struct SnapMap SnapMap;

/* Makes a map of zeros that keeps at most `memory` bytes of leaves in memory
 * and the others in `scratch`, which it owns from then on. Without a scratch
 * file (NULL) all leaves stay in memory. */
SnapMap *snap_map_new(SnapFile *scratch, uint64_t memory);
void snap_map_free(SnapMap *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapMap, snap_map_free)

/* The number after the last region that was touched. */
uint64_t snap_map_regions(const SnapMap *m);

/* True when a region was touched. All others are zeros. */
bool snap_map_has(const SnapMap *m, uint64_t region);

/* Replaces the pages of a run. Returns 0, or -errno of the scratch file. */
int snap_map_splice(SnapMap *m, uint64_t region, const struct snap_segment *run,
		    struct snap_splice *ret_gone);

/* Replaces a whole leaf. Returns 0, or -errno of the scratch file. */
int snap_map_replace(SnapMap *m, uint64_t region, const struct snap_leaf *leaf);

/* Copies the leaf of a region. Returns 0, or -errno of the scratch file. */
int snap_map_get(SnapMap *m, uint64_t region, struct snap_leaf *ret_leaf);
