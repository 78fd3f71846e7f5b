/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames in memory: each is loaded once, however many wait for it. Inside
 * fs/load. */
#pragma once

#include <glib.h>
#include <stdint.h>

typedef struct SnapCache SnapCache;

/* What is cached; the bytes may be read while the frame is held. */
struct snap_cached {
	void *data;
	size_t size;
};

/* A cache of up to `limit` bytes. */
SnapCache *snap_cache_new(uint64_t limit);
/* Nothing of it may be held any more. */
void snap_cache_free(SnapCache *cache);

/* What is asked for. All of it tells frames apart: in a file that was made to
 * deceive, two who refer to the same place may mean different things by it. */
struct snap_cache_key {
	uint64_t owner;
	uint64_t offset; /* in the owner's file */
	uint32_t length;
	uint32_t crc32c;
	uint32_t kind;
	uint64_t number; /* of the node or region; pages of an extent */
};

/* Loads what is missing: *ret_data is to be allocated by g_malloc. 0 or
 * -errno. Called without the cache's lock. */
typedef int (*snap_cache_load)(void *ctx, void **ret_data, size_t *ret_size);

/* Holds the frame of `key`, loading it if need be; who comes while it is being
 * loaded waits for that. -errno from `load`; a failed load is
 * not remembered. */
int snap_cache_get(SnapCache *cache, const struct snap_cache_key *key,
		   snap_cache_load load, void *ctx,
		   const struct snap_cached **ret_frame);

/* The same for a frame that is there or is being loaded; else it is NULL. */
int snap_cache_find(SnapCache *cache, const struct snap_cache_key *key,
		    const struct snap_cached **ret_frame);

/* Lets go of a frame. */
void snap_cache_put(SnapCache *cache, const struct snap_cached *frame);

/* Drops all frames of `owner`, none of which is held. */
void snap_cache_forget(SnapCache *cache, uint64_t owner);

/* Counters since the start, and the bytes held now. */
struct snap_cache_stats {
	uint64_t hits;
	uint64_t misses;
	uint64_t waits;
	uint64_t errors;
	uint64_t bytes;
};
struct snap_cache_stats snap_cache_stats(SnapCache *cache);
