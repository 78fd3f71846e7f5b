/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes out: the page space of a snapshot, read at random.
 *
 * All snapshots of a mount share a SnapLoader: the cache of frames and the
 * readahead threads. SnapPages is one snapshot that is read through it.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "format/base/vec.h"
#include "format/image/image.h"
#include "fs/near/near.h"

#define SNAP_CACHE_DEFAULT (256 * SNAP_MIB)
#define SNAP_CACHE_MIN (4 * SNAP_MIB)

typedef struct SnapLoader SnapLoader;

struct snap_loader_opts {
	uint64_t cache; /* bytes of decompressed pages and map to keep */
	guint threads;	/* readahead threads; 0: one per processor */
	SnapNear *near; /* the disk cache, borrowed; or NULL */
};

/* Makes a loader and its threads. */
SnapLoader *snap_loader_new(const struct snap_loader_opts *opts);
/* Stops the threads. All SnapPages must be freed. */
void snap_loader_free(SnapLoader *loader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapLoader, snap_loader_free)

/* Counters since the start, and gauges. */
struct snap_loader_stats {
	uint64_t hits;
	uint64_t misses;
	uint64_t waits; /* waits for a frame that another reader was loading */
	uint64_t readahead; /* frames loaded ahead */
	uint64_t errors;
	uint64_t bytes_out;  /* bytes given to readers */
	uint64_t bytes_read; /* bytes read from store files */
	uint64_t cached;     /* bytes held now */
};
struct snap_loader_stats snap_loader_stats(SnapLoader *loader);

/* The disk cache, or NULL. */
SnapNear *snap_loader_near(SnapLoader *loader);

/* A snapshot that is read. Reference counted; all functions may be called from
 * any thread. */
typedef struct SnapPages SnapPages;

/* Makes one of a reader, which it owns from then on. `name` is for the log
 * ("vm1"). */
SnapPages *snap_pages_new(SnapLoader *loader, SnapReader *reader,
			  const char *name);
SnapPages *snap_pages_ref(SnapPages *pages);
void snap_pages_unref(SnapPages *pages);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapPages, snap_pages_unref)

/* The properties of the snapshot; owned by `pages`. */
const struct snap_meta *snap_pages_meta(const SnapPages *pages);

/* Its name in the log; owned by `pages`. */
const char *snap_pages_name(const SnapPages *pages);

/* The reads of one open file, from which readahead guesses the next bytes.
 * Zeroed at first. Wrong guesses only cost time, so it needs no lock. */
struct snap_pages_hint {
	uint64_t next;	 /* the byte that would come next */
	uint64_t ahead;	 /* the end of what was loaded ahead */
	uint64_t streak; /* bytes that were read in order so far */
};

/* Reads `size` bytes at `offset` of the page space; neither needs to be
 * aligned, and bytes past the last block are zero. Returns 0, -EBADMSG where
 * bytes are damaged, or -errno; damage is logged once. Without `hint` there is
 * no readahead, and extents that are read as a whole do not stay in the
 * cache. */
int snap_pages_read(SnapPages *pages, void *buf, size_t size, uint64_t offset,
		    struct snap_pages_hint *hint);

/* The same, but puts the bytes into a vector, which holds them in the cache.
 * After an error the vector is of no use. */
int snap_pages_give(SnapPages *pages, SnapVec *vec, size_t size,
		    uint64_t offset, struct snap_pages_hint *hint);

/* Says that bytes of the page space will be read soon: the store begins to read
 * what it takes. May wait for a part of the map. */
void snap_pages_soon(SnapPages *pages, uint64_t offset, uint64_t size);

/* Sets bit i % 64 of ret[i / 64] for each page i of `region` that is not zero,
 * and clears the others. Returns 0 or -errno. */
int snap_pages_stored(SnapPages *pages, uint64_t region,
		      uint64_t ret[SNAP_REGION_PAGES / 64]);

/* Finds the next page in [page, end) that is stored (or zero, with `zero`);
 * *ret_page is `end` if there is none. Returns 0 or -errno. */
int snap_pages_seek(SnapPages *pages, uint64_t page, uint64_t end,
		    gboolean zero, uint64_t *ret_page);

/* The pages from `first` (on a region boundary) to `end` as records of `unit`
 * pages. The pages of a record are stored or zero together, and the record has
 * `stored` or `zero` bytes. */
struct snap_pages_records {
	uint64_t first;
	uint64_t end;
	uint32_t unit;
	uint32_t stored;
	uint32_t zero;
};

/* Finds the page whose record holds the byte `offset` of the records, and the
 * byte where that record begins. Past all records these are the ends of range
 * and records. The time hardly grows with the size of the guest. Returns 0 or
 * -errno. */
int snap_pages_find(SnapPages *pages, const struct snap_pages_records *records,
		    uint64_t offset, uint64_t *ret_page, uint64_t *ret_offset);
