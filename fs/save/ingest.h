/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The straight line of a save: the bytes of a stream go through the parser, the
 * gatherer and the workers into the writer. Only this holds them together.
 * Inside fs/save.
 */
#pragma once

#include "fs/catalog/catalog.h"
#include "fs/save/pool.h"

typedef struct SnapIngest SnapIngest;

struct snap_ingest_opts {
	SnapCatalog *catalog; /* borrowed */
	SnapPool *pool;	      /* borrowed */
	const char *path;     /* the folder's path, for a note after a crash */
	struct snap_catalog_owner owner;
	uint64_t begin;	 /* where in the file the stream begins */
	int preamble_fd; /* the file that begins with it; -1: none */
	/* look for a parent, and store only what differs from it */
	bool increments;
	int folder_fd;	     /* of the snapshot; borrowed */
	const char *parent;  /* the folder of the parent; NULL: any will do */
	bool first;	     /* fail with -EEXIST if a snapshot is there */
	uint64_t map_memory; /* bytes of memory that the map may take */
	/* Asked before the snapshot gets its name. */
	bool (*may_publish)(void *data);
	void *data;
};

/* Begins: creates the new file. Returns 0 or -errno. */
int snap_ingest_new(const struct snap_ingest_opts *opts,
		    SnapIngest **ret_ingest, GError **error);
/* Ends it. Without a commit, the new file is removed. */
void snap_ingest_free(SnapIngest *in);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapIngest, snap_ingest_free)

/* True when these bytes may come at this offset. A scattered stream takes bytes
 * at any offset; any other takes them where the stream goes on, or in its
 * preamble. */
bool snap_ingest_takes(const SnapIngest *in, size_t size, uint64_t offset);

/* Takes `size` bytes at `offset` of the stream's file. Returns 0, -EPROTO,
 * -EOPNOTSUPP, -ENOMEM, or -errno of the store. */
int snap_ingest_write(SnapIngest *in, const void *data, size_t size,
		      uint64_t offset, GError **error);

/* When to compact: dead bytes in per cent of the live ones. While the stream
 * comes, a byte is moved at most once for each byte that came. At the end the
 * guest may be waiting, but the file is kept for long. */
#define SNAP_DEAD_WHILE 100
#define SNAP_DEAD_AT_END 15

/* True when snap_ingest_compact() with SNAP_DEAD_WHILE has something to do.
 * From any thread. */
bool snap_ingest_crowded(const SnapIngest *in);

/* Copies the live extents to a new file if the dead bytes are more than
 * `percent` of the live ones (compact.c). Returns 0 or -errno. */
int snap_ingest_compact(SnapIngest *in, unsigned percent, GError **error);

/* True when the next bytes may make it look for a parent, which reads the
 * store. */
bool snap_ingest_looks(const SnapIngest *in);

/* True when a byte of the stream has come. */
bool snap_ingest_begun(const SnapIngest *in);

/* True when the stream is known to come in any order (mapped-ram). */
bool snap_ingest_scattered(const SnapIngest *in);

/* To be called when no byte came for a while: submits the pages that wait for
 * neighbours. */
void snap_ingest_idle(SnapIngest *in);

/* True when the bytes so far are a complete stream. */
bool snap_ingest_complete(const SnapIngest *in);

/* The stream is complete: true when more pages may still come. With QEMU as the
 * writer this is always false. */
bool snap_ingest_waits(const SnapIngest *in);

/* The writer is done. Returns 0 where the stream is complete, else -EPROTO. */
int snap_ingest_end(const SnapIngest *in, GError **error);

/* The result of a save, for the log and the counters. Sizes in bytes. */
struct snap_ingest_result {
	uint64_t ram;	 /* guest RAM; 0 for a verbatim stream */
	uint64_t stored; /* of `ram`, in pages that are not zero */
	uint64_t file;	 /* the snapshot file */
	guint compactions;
	bool increment; /* it uses pages of others */
	bool repaired;	/* QEMU never wrote the bitmaps */
	char why[256];	/* why the stream is kept verbatim; "" */
};

/* Logs the result of the save of the file `what` (report.c). */
void snap_ingest_report(const char *what, const struct snap_ingest_result *res);

/* Makes a snapshot of the bytes, durably, and publishes it in the folder.
 * Returns 0, or -errno; then the folder is as it was. */
int snap_ingest_commit(SnapIngest *in, int folder_fd,
		       struct snap_ingest_result *ret_result, GError **error);
