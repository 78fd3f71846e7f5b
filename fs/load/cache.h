/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A cache of frames. Each frame is loaded once, however many threads wait for
 * it. Inside fs/load. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct SnapCache SnapCache;

/* A cached frame. Its bytes may be read while the frame is held. */
struct snap_cached {
	void *data;
	size_t size;
};

/* Makes a cache of up to `limit` bytes. */
SnapCache *snap_cache_new(uint64_t limit);
/* Frees the cache. No frame may be held. */
void snap_cache_free(SnapCache *cache);

/* Names a frame. All fields count: in a malicious file, two references to the
 * same offset may mean different frames. */
struct snap_cache_key {
	uint64_t owner;
	uint64_t offset; /* in the owner's file */
	uint32_t length;
	uint32_t crc32c;
	uint32_t kind;
	uint64_t number; /* index of the node or region; pages of an extent */
};

/* Fills a frame: `size` bytes at `data`. Called without the lock of the cache.
 * Returns 0 or -errno. */
typedef int (*snap_cache_load)(void *ctx, void *data, size_t size);

/* How a frame that is not cached yet comes in. */
struct snap_cache_source {
	snap_cache_load load;
	void *ctx;
	size_t size; /* of the frame, in bytes */
	bool keep;   /* from its first use on, or also without one */
};

/* Holds the frame of `key`. Loads it if needed, or waits while another thread
 * does. Returns 0 or -errno of `load`; a failed load is not remembered. */
int snap_cache_get(SnapCache *cache, const struct snap_cache_key *key,
		   const struct snap_cache_source *source,
		   const struct snap_cached **ret_frame);

/* The same for a frame that is cached or being loaded; else *ret_frame is
 * NULL. */
int snap_cache_find(SnapCache *cache, const struct snap_cache_key *key,
		    const struct snap_cached **ret_frame);

/* Loads the frame of `key` ahead of its use, unless it is cached or being
 * loaded. Returns 0 or -errno; who uses the frame meets the error again. */
int snap_cache_ahead(SnapCache *cache, const struct snap_cache_key *key,
		     const struct snap_cache_source *source);

/* True for a frame that is cached or being loaded. */
bool snap_cache_has(SnapCache *cache, const struct snap_cache_key *key);

/* Ends the hold of a frame. */
void snap_cache_put(SnapCache *cache, const struct snap_cached *frame);

/* Drops all frames of `owner`. None of them may be held. */
void snap_cache_forget(SnapCache *cache, uint64_t owner);

/* Counters since the start, and the bytes held now. */
struct snap_cache_stats {
	uint64_t hits;
	uint64_t misses; /* loads on demand */
	uint64_t ahead;	 /* loads ahead */
	uint64_t waits;
	uint64_t errors;
	uint64_t bytes;
};
struct snap_cache_stats snap_cache_stats(SnapCache *cache);
