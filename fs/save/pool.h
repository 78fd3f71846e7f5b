/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The worker threads, which all saves share, and lanes, which keep the extents
 * of each save in order. Inside fs/save.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "format/image/image.h"
#include "fs/save/compare.h"
#include "fs/save/effort.h"
#include "fs/save/save.h"

typedef struct SnapPool SnapPool;
typedef struct SnapLane SnapLane;

/* Some pages of one region on their way to the map: `n` pages with content, and
 * pages all of whose bytes are `fill`. No page is both. */
struct snap_job {
	GList link; /* in its lane, or in the list of unused jobs */
	SnapLane *lane;
	uint64_t region;
	guint n;
	uint16_t pages[SNAP_EXTENT_PAGES]; /* ascending once submitted */
	uint8_t fill;
	bool fills_any;
	uint64_t fills[SNAP_REGION_PAGES / 64];
	/* pages that were among the first, and lie in the parent */
	guint n_shared;
	struct snap_segment shared[SNAP_EXTENT_PAGES];
	/* protected by the lane's lock once submitted */
	bool done;
	int error;
	size_t frame_size;
	/* the content of the pages; after compression, the frame;
	 * SNAP_EXTENT_BOUND bytes. The last field */
	uint8_t *bytes;
};

/* Starts `threads` workers that compress at `level`, or at the level that each
 * lane's effort says (SNAP_LEVEL_AUTO). Jobs take at most `limit` bytes of
 * memory in all. */
SnapPool *snap_pool_new(guint threads, int level, uint64_t limit);
/* Stops the workers. All lanes must be freed. */
void snap_pool_free(SnapPool *pool);

/* Returns an empty job for `region`. Where memory is short it waits for some,
 * or returns NULL if `wait` is false. Claims do not count. */
struct snap_job *snap_pool_take(SnapPool *pool, uint64_t region, bool wait);

/* Claims the memory for the jobs that a write of `bytes` opens at most, so that
 * taking them does not wait. Where memory is short it waits for some, at most
 * an eighth of all, or returns false if `wait` is false. */
bool snap_pool_claim(SnapPool *pool, size_t bytes, bool wait);
/* Ends a claim; `bytes` as before. */
void snap_pool_unclaim(SnapPool *pool, size_t bytes);

/* Returns a job that will not be submitted. */
void snap_pool_give(SnapPool *pool, struct snap_job *job);

/* Reserves `bytes` of the pool's memory for another use. Returns false where
 * more than three quarters of the memory would be reserved. */
bool snap_pool_reserve(SnapPool *pool, uint64_t bytes);
/* The same for memory whose need shows only during a save: up to seven eighths
 * of the memory may be reserved. */
bool snap_pool_reserve_late(SnapPool *pool, uint64_t bytes);
/* Ends a reservation. */
void snap_pool_unreserve(SnapPool *pool, uint64_t bytes);

/* The bytes of all jobs in use. */
uint64_t snap_pool_held(SnapPool *pool);

/* The bytes of pages that were compressed at each level so far. */
struct snap_saver_levels snap_pool_levels(SnapPool *pool);

/* Called with every job of a lane, in the order of submission, one at a time,
 * from any worker, without a lock. Returns 0 or -errno. */
typedef int (*snap_lane_append)(void *ctx, const struct snap_job *job);

/* Makes a lane that passes its jobs to `append`. */
SnapLane *snap_lane_new(SnapPool *pool, snap_lane_append append, void *ctx);

/* Called with every job of a lane before it is compressed, from any worker and
 * several at a time: takes out the pages that need not be stored. */
typedef void (*snap_lane_compare)(void *ctx, SnapCompare *compare,
				  struct snap_job *job);

/* Sets that function, before the first job is submitted. */
void snap_lane_set_compare(SnapLane *lane, snap_lane_compare compare,
			   void *ctx);
/* Waits for the submitted jobs, then frees the lane. */
void snap_lane_free(SnapLane *lane);

/* Submits a job to be compressed and appended. After an error in the lane the
 * job is dropped. */
void snap_lane_submit(SnapLane *lane, struct snap_job *job);

/* Tells how far a lane's file is: `written` bytes in all, of which `on_disk`
 * are known to be on the disk. */
void snap_lane_disk(SnapLane *lane, uint64_t written, uint64_t on_disk);

/* The level for extents that a lane's writer waits for. */
int snap_lane_level(SnapLane *lane);

/* Waits until all submitted jobs are appended. Returns 0 or the first error. */
int snap_lane_wait(SnapLane *lane);

/* Returns the first error so far, or 0, without waiting. */
int snap_lane_error(const SnapLane *lane);
