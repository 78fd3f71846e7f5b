/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is on its way in: streams that are being written, and parts of a
 * snapshot that are being copied.
 *
 * A process that writes `stream` or `mapped` writes a stream. A process that
 * opens it while another one writes joins it, so a second channel is never
 * refused: QEMU would crash its guest. `ram`, `devstate` and `preamble` that
 * are written where there is no snapshot are parts: ordinary files of the
 * store, which become a snapshot when the second of the two that it needs is
 * closed.
 */
#pragma once

#include "fs/node/node.h"
#include "fs/plain/plain.h"
#include "fs/save/save.h"

/* All that is on its way into a mount. */
typedef struct SnapIncomingTable SnapIncomingTable;

struct snap_incoming_opts {
	SnapPlain *plain; /* all are borrowed */
	SnapCatalog *catalog;
	SnapSaver *saver;
};

/* An empty table. */
SnapIncomingTable *
snap_incoming_table_new(const struct snap_incoming_opts *opts);
/* All its nodes and saves must be gone. */
void snap_incoming_table_free(SnapIncomingTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapIncomingTable, snap_incoming_table_free)

/* Fails the saves that run, and waits until their writers have closed their
 * files, for at most 3 seconds: QEMU aborts, and its guest with it, when it
 * cannot close a channel of a mapped-ram save. The kernel's requests must still
 * be served meanwhile. */
void snap_incoming_table_end(SnapIncomingTable *table);

/* Fails the saves that run, and waits until every request that they hold was
 * answered. For the end of the mount. */
void snap_incoming_table_drain(SnapIncomingTable *table);

/* ---- streams (table.c, node.c) ---- */

/* A stream on its way into a folder; it is a node. */
typedef struct SnapIncoming SnapIncoming;

/* The stream that a folder shows as `name`: a new reference, or NULL. */
SnapIncoming *snap_incoming_find(SnapIncomingTable *table, SnapNode *folder,
				 const char *name);

/* What a stream replaces. */
struct snap_former {
	struct snap_catalog_owner owner; /* of the new snapshot */
	bool exists;			 /* there is a snapshot */
	uint64_t size;			 /* of its file of that name */
	uint64_t dev, ino;		 /* of its file in the store */
};

/* The stream that a new writer joins, made if need be: a new reference. */
SnapIncoming *snap_incoming_join(SnapIncomingTable *table, SnapNode *folder,
				 const char *name,
				 const struct snap_former *former);

/* Its node, borrowed; the stream of a node, borrowed, or NULL. */
SnapNode *snap_incoming_node(SnapIncoming *in);
SnapIncoming *snap_incoming_of(SnapNode *node);

/* Its folder, borrowed; the name by which it is written. */
SnapNode *snap_incoming_folder(const SnapIncoming *in);
const char *snap_incoming_name(const SnapIncoming *in);

/* What it replaces, and the owner and mode that its snapshot will have. */
struct snap_former snap_incoming_former(SnapIncoming *in);

/* Its inode number. */
uint64_t snap_incoming_ino(const SnapIncoming *in);

/* Where a stream stands; incoming.c draws the transitions. */
enum snap_incoming_state {
	SNAP_INCOMING_UNTOUCHED, /* it still is the former snapshot */
	SNAP_INCOMING_EMPTY,	 /* it was cut; no byte has come */
	SNAP_INCOMING_HEAD,	 /* bytes have come, but none of a stream */
	SNAP_INCOMING_SAVING,	 /* such have come; the save runs, or is over */
	SNAP_INCOMING_SAVED,	 /* and it has become a snapshot; never kept */
	SNAP_INCOMING_ENDED,	 /* all writers have closed it */
	SNAP_INCOMING_REMOVED,	 /* its name was removed */
};
enum snap_incoming_state snap_incoming_state(SnapIncoming *in);

/* The name was removed: drops what has come. */
void snap_incoming_remove(SnapIncoming *in);

/* Logs why a request was refused, once for as long as the stream is open:
 * returns -code. */
int snap_incoming_refuse(SnapIncoming *in, int code, const char *why);

/* ---- the head of a stream, where none is on its way (head.c) ---- */

/* True for the names by which streams are written. */
bool snap_incoming_is_name(const char *name);

/* Attributes of the file `name` in a folder that no stream has followed yet;
 * false where there is none. */
bool snap_head_stat(SnapNode *folder, const char *name, struct stat *ret);

/* Removes it; false where there is none. */
bool snap_head_remove(SnapNode *folder, const char *name);

/* Moves an ordinary file onto the name of a stream (move.c). The answer is
 * 0 or -errno, and comes when what the file holds is on disk. */
void snap_incoming_move(SnapIncomingTable *table, SnapNode *folder,
			const char *name, SnapNode *to_folder,
			const char *to_name, const struct snap_caller *caller,
			snap_handle_answer answer, void *data);

/* ---- readers of a stream (read.c) ---- */

/* What a process reads that has a stream open. */
enum snap_incoming_read {
	SNAP_INCOMING_SNAPSHOT, /* the snapshot in the folder */
	SNAP_INCOMING_BYTES,	/* what snap_incoming_read() gives */
	SNAP_INCOMING_LATER,	/* nothing before the save is over */
	SNAP_INCOMING_LOST,	/* nothing any more: the save has failed */
	SNAP_INCOMING_GONE,	/* nothing any more: the name was removed */
};

/* What can be read now. `writes`: by a process that writes the stream, which
 * must not get another one's bytes. */
enum snap_incoming_read snap_incoming_reads(SnapIncoming *in, bool writes);

/* True when that file is the snapshot which the stream has become, or, before
 * that, replaces. Another one may be in the folder by now, which the process
 * that has the stream open may not see. */
bool snap_incoming_has(SnapIncoming *in, uint64_t dev, uint64_t ino);

/* Reads up to `size` bytes of the head: their count, -errno. */
ssize_t snap_incoming_read(SnapIncoming *in, void *buf, size_t size,
			   uint64_t offset);

/* Waits until the save is over, as snap_handle_await() and
 * snap_handle_forget(). */
bool snap_incoming_await(SnapIncoming *in, struct snap_waiter *waiter);
bool snap_incoming_forget(SnapIncoming *in, struct snap_waiter *waiter);

/* ---- writers of a stream (incoming.c) ---- */

/* An open file by which a stream is written. Its address tells it from
 * others. */
struct snap_writer {
	uid_t uid; /* of the process that opened it */
	guint era; /* this room's: of the stream when it wrote last; 0: never */
};

/* One more writer; false when nobody may join any more. */
bool snap_incoming_enter(SnapIncoming *in);

/* True when bytes that the writer has written are in the stream, or before it.
 */
bool snap_incoming_is_by(SnapIncoming *in, const struct snap_writer *writer);

/* A writer closes the file. When the last one does, the stream has ended. */
void snap_incoming_leave(SnapIncoming *in, const struct snap_writer *writer);

/* Requests of a writer; as those of handles (fs/node/node.h). A flush answers
 * -EPROTO when the stream is not whole, but 0 to everybody who writes
 * mapped-ram: QEMU aborts when it cannot close a channel. */
void snap_incoming_write(SnapIncoming *in, struct snap_writer *writer,
			 const void *buf, size_t size, uint64_t offset,
			 snap_handle_answer answer, void *data);
void snap_incoming_flush(SnapIncoming *in, const struct snap_writer *writer,
			 snap_handle_answer answer, void *data);
void snap_incoming_sync(SnapIncoming *in, snap_handle_answer answer,
			void *data);
int snap_incoming_truncate(SnapIncoming *in, struct snap_writer *writer,
			   uint64_t size);

/* ---- parts (parts.c, part-file.c) ---- */

/* The part that a snapshot can do without. */
#define SNAP_PART_PREAMBLE_NAME "preamble"

/* True for the names of parts. */
bool snap_part_is_name(const char *name);

/* Attributes of the part `name` in a folder; false where there is none. */
bool snap_part_stat(SnapNode *folder, const char *name, struct stat *ret);

/* The node of a part: a new reference. -ENOENT, -errno. */
int snap_part_lookup(SnapIncomingTable *table, SnapNode *folder,
		     const char *name, SnapNode **ret_node);

/* A handle that writes to a part by `fd`, which is taken over. -ESTALE when a
 * snapshot has replaced the part. */
int snap_part_open(SnapNode *node, int fd, SnapHandle **ret_handle);

/* Waits while a snapshot is made of the parts in a folder. */
void snap_parts_wait(SnapIncomingTable *table, SnapNode *folder);

/* The same, and lets no snapshot be made until snap_parts_let_go(). So a part
 * that was created and has no handle yet is not taken for a closed one. */
struct snap_parts *snap_parts_hold(SnapIncomingTable *table, SnapNode *folder);
void snap_parts_let_go(struct snap_parts *parts);

/* The caller names the parent of the next save into a folder (snapfs save
 * --parent). -EOPNOTSUPP where the store can have none, which is logged. */
int snap_parent_ask(SnapIncomingTable *table, SnapNode *folder,
		    const void *path, size_t size);

/* The attribute of a folder, and its value, by which a caller says so. */
#define SNAP_PARTS_ATTRIBUTE "user.snapfs.parts"
#define SNAP_PARTS_WHOLE "whole"

/* The caller says that the parts in a folder are whole: makes the snapshot of
 * them. -ENOENT where there is none, -EBUSY while a process has one open,
 * -EPROTO where they are no snapshot, which is logged. */
int snap_parts_prove(SnapIncomingTable *table, SnapNode *folder);

/* Removes the parts that lie beside a snapshot, which was just saved by its
 * stream, or left there by a mount that was killed. A part that a process has
 * open is removed when that closes it. */
void snap_parts_replaced(SnapIncomingTable *table, SnapNode *folder,
			 bool saved);
