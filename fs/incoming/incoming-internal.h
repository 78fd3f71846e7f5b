/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of fs/incoming share.
 *
 * Locks: that of a stream, then that of the table. No request is answered with
 * either held.
 */
#pragma once

#include "fs/incoming/incoming.h"

struct SnapIncomingTable {
	struct snap_incoming_opts opts;
	GMutex lock; /* protects all below */
	GCond changed;
	GHashTable *streams; /* by folder and name; not references */
	GHashTable *saves;   /* that run; references */
	guint writers;	     /* open files by which streams are written */
	GHashTable *parts;   /* struct snap_parts by folder (parts.c) */
	bool ending;	     /* the mount ends: begin no save */
};

struct SnapIncoming {
	SnapNode node;
	SnapIncomingTable *table;
	SnapNode *folder; /* a reference */
	guint name;	  /* a number (table.c) */
	struct timespec began;
	struct snap_former former;

	GMutex lock; /* protects all below, and former.owner */
	enum snap_incoming_state state;
	SnapSave *save;			  /* from SAVING on */
	const struct snap_writer *writer; /* that wrote the first byte */
	guint writers;
	uint64_t hole;	/* zeros that the file begins with */
	uint64_t solid; /* where the last byte that is not 0 ends */
	uint64_t tail;	/* zeros from here on were cut off; 0: none */
	bool refused;	/* the log has a refusal */
	struct snap_pending *spare; /* memory of an answered request */
};

/* Takes a stream out of the table (table.c); false when it was not in it. */
bool snap_incoming_drop(SnapIncoming *in);

/* Puts a stream into the table, in place of another (table.c). */
void snap_incoming_put(SnapIncoming *in);

/* The same where there is no other; false where there is one. */
bool snap_incoming_put_first(SnapIncoming *in);

/* The number of a name; -1 where no stream is written by it (table.c). */
int snap_incoming_number(const char *name);

/* The stream in the table: a new reference, or NULL (table.c). */
SnapIncoming *snap_incoming_lookup(SnapIncomingTable *table, SnapNode *folder,
				   guint name);

/* A save begins, or is over (table.c). -ECANCELED when the mount ends. */
int snap_incoming_begin_save(SnapIncomingTable *table, SnapSave *save);
void snap_incoming_end_save(SnapIncomingTable *table, SnapSave *save);

/* One more, one less open file that writes a stream (table.c). */
void snap_incoming_count_writer(SnapIncomingTable *table, int n);

/* A new node (node.c); a reference. It is not in the table yet. */
SnapIncoming *snap_incoming_new(SnapIncomingTable *table, SnapNode *folder,
				guint name, const struct snap_former *former);

/* A write before any byte that is not 0 has come (first.c). 0: the save has
 * begun, and takes the write without its first *ret_skip bytes; else what is to
 * be answered. */
ssize_t snap_incoming_first_locked(SnapIncoming *in,
				   const struct snap_writer *writer,
				   const uint8_t *buf, size_t size,
				   uint64_t offset, size_t *ret_skip);

/* As snap_incoming_refuse, with the lock held (node.c). */
int snap_incoming_refuse_locked(SnapIncoming *in, int code, const char *why);

/* True when the save is over. */
static inline bool snap_incoming_over_locked(const SnapIncoming *in)
{
	return in->save && snap_save_over(in->save);
}
