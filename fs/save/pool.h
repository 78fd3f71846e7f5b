/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The workers that all saves share, and the lanes in which each save's extents
 * stay in order. Inside fs/save.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "format/image/image.h"

typedef struct SnapPool SnapPool;
typedef struct SnapLane SnapLane;

/* What is known of some pages of one region, on its way to the map: `n` pages
 * with content, and pages that are all `fill`. No page is both. */
struct snap_job {
	GList link; /* in its lane, or among the unused */
	SnapLane *lane;
	uint64_t region;
	guint n;
	uint16_t pages[SNAP_EXTENT_PAGES]; /* ascending once submitted */
	uint8_t fill;
	bool fills_any;
	uint64_t fills[SNAP_REGION_PAGES / 64];
	/* protected by the lane's lock once submitted */
	bool done;
	int error;
	size_t frame_size;
	/* the pages' content, and then the frame made of it */
	uint8_t bytes[SNAP_EXTENT_BOUND];
};

/* Workers with a compressor each, and memory for jobs of `limit` bytes in
 * all. */
SnapPool *snap_pool_new(guint threads, int level, uint64_t limit);
/* All its lanes must be gone. */
void snap_pool_free(SnapPool *pool);

/* An empty job for `region`. With `wait`, waits until there is memory; without,
 * NULL when there is none. */
struct snap_job *snap_pool_take(SnapPool *pool, uint64_t region, bool wait);

/* Gives back a job that is not going to be submitted. */
void snap_pool_give(SnapPool *pool, struct snap_job *job);

/* Sets aside `bytes` of the pool's memory for something else, of which three
 * quarters may be set aside so: false when that is not to be had. */
bool snap_pool_reserve(SnapPool *pool, uint64_t bytes);
/* The same for what only turns out to be needed when a save is under way: an
 * eighth more may be set aside so. */
bool snap_pool_reserve_late(SnapPool *pool, uint64_t bytes);
/* Gives it back. */
void snap_pool_unreserve(SnapPool *pool, uint64_t bytes);

/* Bytes of jobs that are taken now. */
uint64_t snap_pool_held(SnapPool *pool);

/* Called with each job of a lane, in the order in which they were submitted,
 * one at a time, from any worker, with no lock held. 0 or -errno. */
typedef int (*snap_lane_append)(void *ctx, const struct snap_job *job);

/* A lane whose jobs go to `append`. */
SnapLane *snap_lane_new(SnapPool *pool, snap_lane_append append, void *ctx);
/* Waits for what was submitted. */
void snap_lane_free(SnapLane *lane);

/* Hands a job over to be compressed and appended. After an error in the lane it
 * is dropped. */
void snap_lane_submit(SnapLane *lane, struct snap_job *job);

/* Waits until all that was submitted is appended: 0, or the first error. */
int snap_lane_wait(SnapLane *lane);

/* The first error so far; does not wait. */
int snap_lane_error(SnapLane *lane);
