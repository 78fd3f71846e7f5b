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

/* Bytes that came are all there are: the page space is as it will be, and its
 * state gathered. */
void snap_ingest_settle(SnapIngest *in);

/* While the stream comes: moves what is alive to a fresh file once dead bytes
 * outweigh it. */
int snap_ingest_compact(SnapIngest *in, GError **error);
