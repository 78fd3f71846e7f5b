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

/* The head of a stream (head.c). */
struct snap_head {
	int fd;		/* of its file, once it was needed; -1 */
	uint64_t ino;	/* of a file that was there before; 0: none */
	struct stat st; /* of its file, as it was found; st_ino 0: none */
	uint64_t size;	/* bytes so far, with the hole that it was cut to */
	uint64_t begin; /* the stream begins here if its magic stands here;
			 * while the save runs, it does */
	uint64_t reach; /* the end of the last byte of the present writers */
};

struct SnapIncoming {
	SnapNode node;
	SnapIncomingTable *table;
	SnapNode *folder; /* a reference */
	guint name;	  /* a number (table.c) */
	struct timespec began;
	struct snap_former former;

	GMutex lock; /* protects all below, and former */
	enum snap_incoming_state state;
	SnapSave *save;			  /* from SAVING on */
	bool noted;			  /* the snapshot that it became */
	const struct snap_writer *writer; /* that wrote the first byte */
	guint era;			  /* counts, from 1, how often bytes
					   * of it were cut off */
	guint writers;
	struct snap_head head; /* until the save begins */
	GQueue readers;	       /* struct snap_waiter: they wait for the save */
	uint64_t solid;	       /* where the last byte that is not 0 ends */
	uint64_t tail;	       /* zeros from here on were cut off; 0: none */
	bool refused;	       /* the log has a refusal */
};

/* Takes a stream out of the table (table.c); false when it was not in it. */
bool snap_incoming_drop(SnapIncoming *in);

/* True when it is in the table (table.c). */
bool snap_incoming_is_put(SnapIncoming *in);

/* Puts a stream into the table, in place of another (table.c). */
void snap_incoming_put(SnapIncoming *in);

/* The same where there is no other; false where there is one. */
bool snap_incoming_put_first(SnapIncoming *in);

/* The number of a name; -1 where no stream is written by it. The name of a
 * number (table.c). */
int snap_incoming_number(const char *name);
const char *snap_incoming_of_number(guint number);

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

/* Notes what the stream replaces now, and the file of its head, while nobody
 * writes (node.c). */
void snap_incoming_renew_locked(SnapIncoming *in,
				const struct snap_former *former);

/* Changes a file in the store: of a snapshot, or of a head (node.c). The kernel
 * has asked whether the caller may change what belongs to `owner` (-1: any), so
 * nothing else is changed: another file may have that name by now. */
int snap_incoming_set_file(SnapNode *folder, const char *name, uid_t owner,
			   unsigned set, const struct stat *st);

/* Removes `name`, if it is the file of which `st` are attributes (head.c). */
void snap_remove_file(SnapNode *folder, const char *name,
		      const struct stat *st);

/* Notes the snapshot that the stream has become, once, as the one that the next
 * stream replaces (read.c). */
void snap_incoming_note_locked(SnapIncoming *in);

/* A write before a byte of the stream has come (first.c). 0: the save has
 * begun, and takes the write; else what is to be answered. */
ssize_t snap_incoming_first_locked(SnapIncoming *in,
				   const struct snap_writer *writer,
				   const uint8_t *buf, size_t size,
				   uint64_t offset);

/* ---- the head of a stream (head.c); with the lock of the stream held ---- */

/* Finds where the stream begins, in the bytes of a write or right before
 * them. */
bool snap_head_find(SnapIncoming *in, const uint8_t *buf, size_t size,
		    uint64_t offset, uint64_t *ret_begin);

/* Takes a write in which no stream begins. -EINVAL, -EPROTO, -EOPNOTSUPP,
 * -errno, with a sentence. */
int snap_head_write(SnapIncoming *in, const uint8_t *buf, size_t size,
		    uint64_t offset, GError **error);

/* Takes the file that is there for the head, unless others may not do with it
 * all that they may do with the stream. */
void snap_head_take(SnapIncoming *in);

/* Reads up to `size` bytes: their count, -errno. */
ssize_t snap_head_read(SnapIncoming *in, void *buf, size_t size,
		       uint64_t offset);

/* Cuts it to `size`, which says where the stream begins. */
void snap_head_cut(SnapIncoming *in, uint64_t size);

/* The stream begins at `begin`: cuts off what is not of the head. */
void snap_head_end(SnapIncoming *in, uint64_t begin);

/* A descriptor of its file; -ENOENT: it has none, and is zeros. -errno. */
int snap_head_open(SnapIncoming *in);

/* Gives it a file of its size if it has none, and closes that. -errno. */
int snap_head_keep(SnapIncoming *in);

/* Removes its file; closes it. */
void snap_head_drop(SnapIncoming *in);
void snap_head_close(struct snap_head *h);

/* As snap_incoming_refuse, with the lock held (node.c). */
int snap_incoming_refuse_locked(SnapIncoming *in, int code, const char *why);

/* True when the save is over. */
static inline bool snap_incoming_over_locked(const SnapIncoming *in)
{
	return in->save && snap_save_over(in->save);
}
