/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The straight line: bytes of a stream through the parser, the gatherer and the
 * workers into the writer. This is the one place that holds them together.
 * Inside fs/save.
 */
#pragma once

#include "fs/catalog/catalog.h"
#include "fs/save/pool.h"

typedef struct SnapIngest SnapIngest;

struct snap_ingest_opts {
	SnapCatalog *catalog; /* borrowed */
	SnapPool *pool;	      /* borrowed */
	const char *path;     /* the folder's, for a note after a crash */
	struct snap_catalog_owner owner;
	uint64_t hole;	     /* zeros that the file begins with */
	bool classic;	     /* in whichever form it comes, it is shown so */
	bool first;	     /* it replaces no snapshot */
	uint64_t map_memory; /* bytes the map may hold */
	int level;	     /* of zstd, where extents are made anew */
};

/* Begins: makes the new file. -errno. */
int snap_ingest_new(const struct snap_ingest_opts *opts,
		    SnapIngest **ret_ingest, GError **error);
/* Without a commit, nothing remains. */
void snap_ingest_free(SnapIngest *in);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapIngest, snap_ingest_free)

/* May a write come there? Anywhere, once snap_ingest_scattered(); else only
 * where the stream goes on, or before it. */
bool snap_ingest_takes(const SnapIngest *in, const void *data, size_t size,
		       uint64_t offset);

/* Bytes of the stream's file. -EPROTO, -EOPNOTSUPP, -ENOMEM, -errno of the
 * store. */
int snap_ingest_write(SnapIngest *in, const void *data, size_t size,
		      uint64_t offset, GError **error);

/* Has a byte of the stream come, or one that may be? */
bool snap_ingest_begun(const SnapIngest *in);

/* Is it known to be a stream whose parts come in any order? */
bool snap_ingest_scattered(const SnapIngest *in);

/* Nothing came for a while: lets go of what waits for neighbours. */
void snap_ingest_idle(SnapIngest *in);

/* Do the bytes so far end where a stream ends? */
bool snap_ingest_complete(const SnapIngest *in);

/* It is complete; may pages still be under way? Of QEMU's own stream none is.
 */
bool snap_ingest_waits(const SnapIngest *in);

/* The stream has ended: 0 when it is whole, -EPROTO when not. */
int snap_ingest_end(const SnapIngest *in, GError **error);

/* What became of the stream, for the log and the counters. */
struct snap_ingest_result {
	uint64_t ram;	 /* bytes of guest RAM; 0 for one kept verbatim */
	uint64_t stored; /* of them, not zero */
	uint64_t file;	 /* bytes of the snapshot file */
	guint compactions;
	bool repaired; /* its bitmaps were never written */
	char why[256]; /* why it is kept verbatim; "" */
};

/* Makes it a snapshot of the folder: on disk, and named. -errno; then the
 * folder is as it was. */
int snap_ingest_commit(SnapIngest *in, int folder_fd,
		       struct snap_ingest_result *ret_result, GError **error);
