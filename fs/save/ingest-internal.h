/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The fields of an ingest. ingest.c takes bytes, compact.c removes dead
 * extents, commit.c makes the snapshot. */
#pragma once

#include "format/qemu/parse.h"
#include "fs/save/preamble.h"
#include "fs/save/gather.h"
#include "fs/save/ingest.h"
#include "fs/save/mapped.h"

/* What the page space holds. */
enum space {
	SPACE_UNDECIDED,
	SPACE_SPLIT,	/* RAM blocks, then devstate */
	SPACE_VERBATIM, /* the stream as it came */
};

struct SnapIngest {
	SnapCatalog *catalog;
	char *path;
	struct snap_catalog_owner owner;
	int level;
	bool first;
	SnapParser *parser;
	SnapPool *pool;
	SnapGather *gather;
	SnapLane *lane;
	SnapWriter *writer; /* used only by the thread that appends */
	GMutex lock;
	struct snap_writer_stats stats; /* the writer's; protected by lock */
	struct snap_preamble preamble;
	uint64_t at;	    /* the offset in the file where the parser is */
	SnapMapped *mapped; /* NULL unless the stream is mapped-ram */
	enum space space;
	GByteArray *early; /* state before the space is decided */
	/* where devstate, or the verbatim stream, begins in the page space */
	uint64_t state_base;
	uint64_t state_size;	 /* bytes */
	uint8_t page[SNAP_PAGE]; /* the last page of it, not yet full */
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
