/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disk cache: pieces of the store's files on a disk that is nearer.
 *
 * Each file of the store has a copy in a folder of this mount. The copy has the
 * same size, and the same bytes at the same offsets; what was not read yet is a
 * hole. So the file system knows which pieces are there, and there is no index
 * that could be wrong. Files of a store never change, so a copy is never old.
 *
 * A copy is trusted with nothing. Every frame that a reader takes from a file
 * is checked against the checksum in the store's map. What fails is read again,
 * from the store (`reread` in format/store/store.h). So nothing is ever synced.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "format/image/image.h"
#include "format/store/store.h"

#define SNAP_NEAR_SIZE_MIN SNAP_MIB
#define SNAP_NEAR_SIZE_DEFAULT (10 * SNAP_GIB)

/* Copies are made in pieces of so many bytes. */
#define SNAP_NEAR_PIECE (64 * SNAP_KIB)

typedef struct SnapNear SnapNear;

/* A cache of up to `limit` bytes in the folder `fd`, which it owns from then
 * on, also on failure; `path` is for the log. -EBUSY where another process uses
 * the folder. Returns 0 or -errno. */
int snap_near_new(int fd, const char *path, uint64_t limit, SnapNear **ret_near,
		  GError **error);
/* Frees the cache, when all its files were closed. The copies stay. */
void snap_near_free(SnapNear *near);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapNear, snap_near_free)

/* A file that reads its bytes from a copy of `below`, which it owns, where that
 * has them, and else adds them to the copy in the background. `which` says what
 * snapshot file it is. For snap_reader_wrap(). */
SnapFile *snap_near_wrap(void *near, SnapFile *below,
			 const struct snap_layer *which);

/* Waits until all that was read so far has been added, or given up. */
void snap_near_settle(SnapNear *near);

/* Counters since the start, and a gauge. */
struct snap_near_stats {
	uint64_t hits;	    /* reads that a copy answered */
	uint64_t hit_bytes; /* their bytes */
	uint64_t misses;    /* reads that the store answered */
	uint64_t rejected;  /* reads whose bytes had the wrong checksum */
	uint64_t bytes;	    /* of the copies, on disk */
};
struct snap_near_stats snap_near_stats(SnapNear *near);
