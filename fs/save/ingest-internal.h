/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The inside of the straight line: ingest.c takes bytes, commit.c makes a
 * snapshot of them. */
#pragma once

#include "format/qemu/parse.h"
#include "fs/save/preamble.h"
#include "fs/save/gather.h"
#include "fs/save/ingest.h"
#include "fs/save/mapped.h"

enum space {
	SPACE_UNDECIDED,
	SPACE_SPLIT,
	SPACE_VERBATIM,
};

struct SnapIngest {
	SnapCatalog *catalog;
	char *path;
	struct snap_catalog_owner owner;
	int level;
	bool classic;
	bool first;
	SnapParser *parser;
	SnapPool *pool;
	SnapGather *gather;
	SnapLane *lane;
	SnapWriter *writer; /* whoever appends has it to himself */
	GMutex lock;
	struct snap_writer_stats stats; /* of it; protected by lock */
	struct snap_preamble before;
	uint64_t at;	    /* where in the file the parser stands */
	SnapMapped *mapped; /* NULL unless it is mapped-ram */
	enum space space;
	GByteArray *head;
	uint64_t state_base; /* where devstate, or the stream, begins */
	uint64_t state_size;
	uint8_t page[SNAP_PAGE]; /* its last page, not yet full */
	struct snap_ingest_result result;
};

/* All bytes have come: decides the page space if that is still open, and
 * gathers the rest of the state. */
void snap_ingest_finish(SnapIngest *in);

/* When to compact: dead bytes in per cent of the live ones. While the stream
 * comes, a byte is moved at most once for each byte that came. At the end the
 * guest may be waiting, but the file is kept for long. */
#define SNAP_DEAD_WHILE 100
#define SNAP_DEAD_AT_END 15

/* Copies the live extents to a new file if the dead bytes are more than
 * `percent` of the live ones (compact.c). Returns 0 or -errno. */
int snap_ingest_compact(SnapIngest *in, unsigned percent, GError **error);
