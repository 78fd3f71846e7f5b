/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files whose extents are in the cache. A file that several snapshots use
 * has one owner there. Inside fs/load. */
#pragma once

#include "format/image/image.h"
#include "fs/load/cache.h"

typedef struct SnapFiles SnapFiles;

/* For a cache, which is borrowed. */
SnapFiles *snap_files_new(SnapCache *cache);
void snap_files_free(SnapFiles *files);

/* Returns a new number for an owner of frames. */
uint64_t snap_files_number(SnapFiles *files);

/* Takes the file of a layer of a reader: returns the owner of its extents. */
uint64_t snap_files_take(SnapFiles *files, const SnapReader *reader,
			 guint layer);

/* Gives an owner back. The last one to do so drops its frames. */
void snap_files_give(SnapFiles *files, uint64_t owner);
