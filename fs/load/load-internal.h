/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of fs/load share. */
#pragma once

#include "fs/load/cache.h"
#include "fs/load/files.h"
#include "fs/load/pages.h"

/* ---- the loader (loader.c) ---- */

struct SnapLoader {
	SnapCache *cache;
	SnapFiles *files;
	SnapNear *near; /* or NULL */
	GThreadPool *ahead;
	uint64_t window;   /* of readahead, in bytes */
	uint64_t map_most; /* of a map, what is brought ahead, in bytes */
	GMutex lock;
	GPtrArray *codecs;  /* that no thread uses now; protected by lock */
	bool warm;	    /* asked for; protected by lock */
	bool ending;	    /* takes no more jobs; protected by lock */
	uint64_t bytes_out; /* this and the rest are atomic */
	uint64_t bytes_read;
	uint64_t errors; /* besides those of the cache */
};

#define SNAP_LOADER_COUNT(loader, field, n)                                    \
	__atomic_fetch_add(&(loader)->field, n, __ATOMIC_RELAXED)

/* A decompressor for the calling thread alone, until it is put back. The last
 * one that was put back comes first, so that the processor has it in its
 * cache. */
SnapCodec *snap_loader_codec(SnapLoader *loader);
void snap_loader_put_codec(SnapLoader *loader, SnapCodec *codec);

/* Makes some decompressors ready, once, in the background. The first use of one
 * takes milliseconds, for its memory and for zstd's code. */
void snap_loader_warm(SnapLoader *loader);

/* Something to do ahead, in a thread of the loader. Readers come first: the
 * kernel runs those threads when it has time. */
struct snap_ahead {
	void (*run)(struct snap_ahead *ahead); /* owns `ahead` */
};
/* False when the loader ends: the job is still the caller's. */
bool snap_loader_ahead(SnapLoader *loader, struct snap_ahead *ahead);

/* True when so many jobs wait that more would only slow the threads. */
bool snap_loader_busy(SnapLoader *loader);

/* ---- a snapshot (snapshot.c) ---- */

struct SnapPages {
	gint refs; /* atomic */
	SnapLoader *loader;
	SnapReader *reader;
	uint64_t id; /* the owner of its map's frames in the cache */
	/* the owners of the extents: its own and those of its parents */
	uint64_t files[SNAP_LAYERS_MAX + 1];
	char *name;
	const struct snap_entry *top;
	guint n_nodes;
	uint64_t n_regions;
	gint map; /* what became of it (ahead.c); atomic */
	GMutex lock;
	/* the offsets where damage was logged last; protected by lock */
	uint64_t logged[16];
	guint n_logged;
};

/* ---- its frames in the cache (frames.c) ---- */

/* A held leaf, or none: then the region is all zero. */
struct snap_held_leaf {
	const struct snap_cached *frame;
	const struct snap_leaf *leaf;
};

/* Holds the leaf of a region until snap_pages_put_leaf(). Returns 0 or
 * -errno. */
int snap_pages_get_leaf(SnapPages *pages, uint64_t region,
			struct snap_held_leaf *ret_leaf);
void snap_pages_put_leaf(SnapPages *pages, struct snap_held_leaf *leaf);

/* True when the cache has the leaf of a region, or none is needed. */
bool snap_pages_has_leaf(SnapPages *pages, uint64_t region);

/* Puts leaf number `region` into the cache, from bytes of the file that were
 * read before. */
void snap_pages_leaf_ahead(SnapPages *pages, uint64_t region,
			   const struct snap_entry *entry,
			   const struct snap_stretch *bytes);

/* Holds node `index`, which must not be empty, until snap_cache_put(). Returns
 * 0 or -errno. */
int snap_pages_get_node(SnapPages *pages, guint index,
			const struct snap_cached **ret_frame);

/* Holds the extent of a segment, until snap_cache_put(). Returns 0 or
 * -errno. */
int snap_pages_get_extent(SnapPages *pages, const struct snap_segment *segment,
			  const struct snap_cached **ret_frame);

/* The same, but only a cached extent; else *ret_frame is NULL. */
int snap_pages_find_extent(SnapPages *pages, const struct snap_segment *segment,
			   const struct snap_cached **ret_frame);

/* The most bytes that the store is asked for at a time. */
#define SNAP_EXPECT_MAX (1 * SNAP_MIB)

/* Says to the store which of the bytes [from, to) of a region will be read
 * soon: those of extents that are not cached, neighbours together. */
void snap_pages_extents_soon(SnapPages *pages, const struct snap_leaf *leaf,
			     uint64_t from, uint64_t to);

/* Loads the extent of a segment ahead. Returns 0 or -errno. */
int snap_pages_extent_ahead(SnapPages *pages,
			    const struct snap_segment *segment);

/* Decompresses the extent of a segment into `ret`, past the cache. Returns 0 or
 * -errno. */
int snap_pages_fetch_extent(SnapPages *pages,
			    const struct snap_segment *segment, void *ret);

/* ---- ahead of the readers (ahead.c) ---- */

/* Somebody is about to read: brings the map in, once, in the background, and
 * makes ready to decompress. */
void snap_pages_expect(SnapPages *pages);

/* A process reads [offset, offset + size): brings in what it will want next. */
void snap_pages_ahead(SnapPages *pages, uint64_t offset, uint64_t size,
		      struct snap_pages_hint *hint);
