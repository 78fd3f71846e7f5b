/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The fields of an ingest. ingest.c takes bytes, compact.c removes dead
 * extents, commit.c makes the snapshot. */
#pragma once

#include "format/qemu/parse.h"
#include "fs/save/preamble.h"
#include "fs/save/gather.h"
#include "fs/save/ingest.h"
#include "fs/save/mapped.h"
#include "fs/save/parent.h"

/* What the page space holds. */
enum space {
	SPACE_UNDECIDED,
	SPACE_SPLIT,	/* RAM blocks, then devstate */
	SPACE_VERBATIM, /* the stream as it came */
};

/* The last bytes of device state (state.c). */
struct snap_kept {
	uint64_t at; /* their offset in the device state: that of a page */
	uint8_t *bytes;
	size_t size;
	size_t room;
	bool lost; /* they were too many */
};

struct SnapIngest {
	SnapCatalog *catalog;
	char *path;
	struct snap_catalog_owner owner;
	bool first;
	SnapParser *parser;
	SnapPool *pool;
	SnapGather *gather;
	SnapLane *lane;
	bool increments;
	int folder_fd;		 /* borrowed */
	const char *parent_path; /* borrowed; or NULL */
	bool has_looked;	 /* for a parent */
	SnapParent *parent;	 /* or NULL */
	SnapWriter *writer;	 /* used only by the thread that appends */
	GMutex lock;
	struct snap_writer_stats stats; /* the writer's; protected by lock */
	bool crowded; /* by dead bytes, so that it is to be compacted; atomic */
	struct snap_preamble preamble;
	uint64_t at;	    /* the offset in the file where the parser is */
	SnapMapped *mapped; /* NULL unless the stream is mapped-ram */
	enum space space;
	uint8_t *early; /* state before the space is decided */
	size_t early_size;
	size_t early_room;
	/* where devstate, or the verbatim stream, begins in the page space */
	uint64_t state_base;
	uint64_t state_size;	 /* bytes */
	uint8_t page[SNAP_PAGE]; /* the last page of it, not yet full */
	struct snap_kept kept;
	struct snap_ingest_result result;
};

/* Appends bytes to devstate, or to the stream kept verbatim (state.c); gathers
 * the last of them, when all have come; and frees what was kept of them. */
void snap_state_put(SnapIngest *in, const uint8_t *data, size_t size);
void snap_state_finish(SnapIngest *in);
void snap_state_clear(SnapIngest *in);

/* All bytes have come: decides the page space if that is still open, and
 * gathers the rest of the state. */
void snap_ingest_finish(SnapIngest *in);

/* Takes the writer's counters over, for the thread that appends (compact.c). */
void snap_ingest_note_stats(SnapIngest *in);
