/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes out: the page space of a snapshot, read at random.
 *
 * A SnapLoader is what all snapshots of a mount share: the cache of frames and
 * the readahead threads. SnapPages is one snapshot seen through it.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "format/image/image.h"

#define SNAP_CACHE_DEFAULT (256 * SNAP_MIB)
#define SNAP_CACHE_MIN (4 * SNAP_MIB)

typedef struct SnapLoader SnapLoader;

struct snap_loader_opts {
	uint64_t cache; /* bytes of decompressed pages and map to keep */
	guint threads;	/* that read ahead; 0: one a processor */
};

/* A loader with its threads. */
SnapLoader *snap_loader_new(const struct snap_loader_opts *opts);
/* All its SnapPages must be gone. */
void snap_loader_free(SnapLoader *loader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapLoader, snap_loader_free)

/* Counters since the start, and gauges. */
struct snap_loader_stats {
	uint64_t hits;
	uint64_t misses;
	uint64_t waits;	    /* for a frame that another reader was loading */
	uint64_t readahead; /* frames loaded ahead */
	uint64_t errors;
	uint64_t bytes_out;  /* given to readers */
	uint64_t bytes_read; /* from store files */
	uint64_t cached;     /* bytes now */
};
struct snap_loader_stats snap_loader_stats(SnapLoader *loader);

/* A snapshot to be read; reference counted; any thread. */
typedef struct SnapPages SnapPages;

/* Takes `reader` over. `name` is for the log ("vm1"). */
SnapPages *snap_pages_new(SnapLoader *loader, SnapReader *reader,
			  const char *name);
SnapPages *snap_pages_ref(SnapPages *pages);
void snap_pages_unref(SnapPages *pages);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapPages, snap_pages_unref)

/* The snapshot's properties; owned by it. */
const struct snap_meta *snap_pages_meta(const SnapPages *pages);

/* What it is called in the log; owned by it. */
const char *snap_pages_name(const SnapPages *pages);

/* One stream of reads, from which readahead guesses what comes next; one an
 * open file. Zeroed at first; wrong guesses cost time only, so it needs no
 * lock. */
struct snap_pages_hint {
	uint64_t next;	/* byte that would be read next */
	uint64_t ahead; /* end of what was asked for */
};

/* Reads `size` bytes at `offset` of the page space (both any number; what lies
 * past the last block reads as zero). 0 or -errno (-EBADMSG damaged), logged
 * once. Without `hint` nothing is read ahead, and what takes in whole extents
 * does not stay in the cache. */
int snap_pages_read(SnapPages *pages, void *buf, size_t size, uint64_t offset,
		    struct snap_pages_hint *hint);

/* Sets bit i % 64 of ret[i / 64] for each page i of `region` that is not
 * zero. -errno. */
int snap_pages_stored(SnapPages *pages, uint64_t region,
		      uint64_t ret[SNAP_REGION_PAGES / 64]);

/* The next page at or after `page` that is stored (or, with `zero`, is zero),
 * before `end`; `end` if there is none. -errno. */
int snap_pages_seek(SnapPages *pages, uint64_t page, uint64_t end,
		    gboolean zero, uint64_t *ret_page);

/* The pages from `first` (on a region boundary) to `end`, seen as records of
 * `unit` pages each, which are stored or zero together and take `stored` or
 * `zero` bytes. */
struct snap_pages_records {
	uint64_t first;
	uint64_t end;
	uint32_t unit;
	uint32_t stored;
	uint32_t zero;
};

/* Finds the page whose record holds the byte `offset` of the records, and where
 * that record begins; past them all, the end of the range and of the records.
 * In steps that hardly grow with the guest. -errno. */
int snap_pages_find(SnapPages *pages, const struct snap_pages_records *records,
		    uint64_t offset, uint64_t *ret_page, uint64_t *ret_offset);
