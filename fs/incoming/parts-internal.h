/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What parts.c, parts-table.c and part-file.c share. */
#pragma once

#include "fs/calls/call.h"
#include "fs/incoming/incoming-internal.h"

enum snap_part {
	SNAP_PART_RAM,
	SNAP_PART_DEVSTATE,
	SNAP_PART_PREAMBLE,
	SNAP_PARTS,
	SNAP_PART_NONE = SNAP_PARTS,
};

/* What is known of a part's data (part-proof.c). */
enum snap_part_proof {
	SNAP_PART_GROWN,       /* it has grown with its data */
	SNAP_PART_AHEAD = '0', /* its length was set before its data */
	SNAP_PART_WHOLE = '1', /* it is whole, whatever it looks like */
};

/* A close that waits for the outcome. */
struct snap_closing {
	snap_handle_answer answer;
	void *data;
};

/* The parts of a folder, while a process has one open or they are considered.
 * All of it is protected by the lock of the table. */
struct snap_parts {
	SnapIncomingTable *table;
	SnapNode *folder; /* a reference */
	guint users;
	GQueue handles;		    /* struct snap_part_handle */
	guint holds;		    /* parts that are being created */
	bool busy;		    /* they are considered, or saved */
	bool again;		    /* consider them again after that */
	enum snap_part last_closed; /* since they were considered */
	GArray *closings;	    /* struct snap_closing; likewise */
	/* Of parts that a process has open: */
	uint64_t size[SNAP_PARTS];
	enum snap_part_proof proof[SNAP_PARTS];
	/* Of the consideration that is under way; its thread's alone: */
	GArray *answerable; /* struct snap_closing */
	struct stat st[SNAP_PARTS];
	enum snap_part times; /* the part whose times the snapshot gets */
};

/* An open file by which a part is written. */
struct snap_part_handle {
	struct snap_ordinary_handle plain;
	struct snap_parts *parts; /* a user */
	enum snap_part part;
	GList link;
	/* Protected by the lock of the table: */
	bool later; /* the part had bytes when it was opened */
	bool wrote;
	bool closed;   /* since it wrote */
	bool replaced; /* the part is gone: a snapshot has replaced it */
};

/* The names of parts. */
extern const char *const snap_part_names[SNAP_PARTS];

/* The part of a name; SNAP_PART_NONE. */
enum snap_part snap_part_of(const char *name);

/* One more user of the parts of a folder, and one less. */
struct snap_parts *snap_parts_use(SnapIncomingTable *table, SnapNode *folder);
void snap_parts_release(struct snap_parts *p);

/* What is known of the data of a part: to be asked when it is opened, before a
 * write at `offset`, a change of its size and an allocation. -errno, logged,
 * where it cannot be noted. */
void snap_part_proof_open(struct snap_part_handle *h);
int snap_part_proof_write(struct snap_part_handle *h, uint64_t offset);
int snap_part_proof_truncate(struct snap_part_handle *h, uint64_t size);
int snap_part_proof_allocate(struct snap_part_handle *h, int mode,
			     uint64_t offset, uint64_t length);

/* Reads it from the file, and notes it there. */
enum snap_part_proof snap_part_proof_get(int fd);
int snap_part_proof_set(int fd, enum snap_part_proof proof);

/* Why a part is not taken for whole, and what to do about it; NULL where
 * nothing speaks against it. g_free. */
char *snap_part_doubt(int fd, enum snap_part part);

/* Considers what becomes of the parts, unless one is open: makes a snapshot of
 * them when they are whole, and answers the closes. The caller is a user. */
void snap_parts_consider(struct snap_parts *p);
