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
	uint64_t map_memory; /* bytes the map may hold */
	int level;	     /* of zstd, where extents are made anew */
};

/* Begins: makes the new file. -errno. */
int snap_ingest_new(const struct snap_ingest_opts *opts,
		    SnapIngest **ret_ingest, GError **error);
/* Without a commit, nothing remains. */
void snap_ingest_free(SnapIngest *in);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapIngest, snap_ingest_free)

/* The next bytes of the stream. -EPROTO, -EOPNOTSUPP, -errno of the store. */
int snap_ingest_feed(SnapIngest *in, const void *data, size_t size,
		     GError **error);

/* Nothing came for a while: lets go of what waits for neighbours. */
void snap_ingest_idle(SnapIngest *in);

/* Do the bytes so far end where a stream ends? */
bool snap_ingest_complete(const SnapIngest *in);

/* The stream has ended: 0 when it is whole, -EPROTO when not. */
int snap_ingest_end(const SnapIngest *in, GError **error);

/* What became of the stream, for the log and the counters. */
struct snap_ingest_result {
	uint64_t ram;	 /* bytes of guest RAM; 0 for one kept verbatim */
	uint64_t stored; /* of them, not zero */
	uint64_t file;	 /* bytes of the snapshot file */
	guint compactions;
	char why[256]; /* why it is kept verbatim; "" */
};

/* Makes it a snapshot of the folder: on disk, and named. -errno; then the
 * folder is as it was. */
int snap_ingest_commit(SnapIngest *in, int folder_fd,
		       struct snap_ingest_result *ret_result, GError **error);
