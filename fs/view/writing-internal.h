/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of fs/view share about writing: streams on their way, parts of
 * a snapshot to be, and views that are written while their snapshot is there.
 */
#pragma once

#include "fs/view/view-internal.h"

/* ---- writing what is there already (compare.c) ---- */

/* Compares bytes, or zeros up to `end`, with what a view of a sealed snapshot
 * has at `offset`, within its size: 0 when they are the same, 1 when not, with
 * the first place where they differ, -errno. */
int snap_compare_bytes(SnapSealed *sealed, const struct snap_view *view,
		       const void *data, size_t size, uint64_t offset,
		       uint64_t *ret_at);
int snap_compare_zero(SnapSealed *sealed, const struct snap_view *view,
		      uint64_t offset, uint64_t end, uint64_t *ret_at);

/* Opens a view to have what is written compared with it: the open_to_write of
 * views that are no stream. */
int snap_compare_open(SnapNode *node, const struct snap_caller *caller,
		      SnapHandle **ret_handle);

/* The same for one that is made anew, after its name was removed. -EPERM where
 * the snapshot has no such view. */
int snap_compare_create(SnapNode *folder, SnapSealed *sealed, guint view,
			SnapHandle **ret_handle);

/* A view is cut to a size without a handle, as open(2) does with O_TRUNC: tells
 * those who have it open to be compared. False when there are none. */
bool snap_compare_cut(SnapNode *node, uint64_t size);

/* ---- parts of a snapshot to be (parts.c, settle.c, assemble.c) ---- */

/* `ram` or `devstate` in a folder that holds no snapshot: an ordinary file,
 * until both are whole. */
typedef struct {
	SnapStoreNode store;
	SnapNode *folder; /* a reference */
	const struct snap_view *view;
} SnapPartNode;

/* True when a part lies in the folder; `ret` may be NULL. */
bool snap_part_stat(SnapNode *folder, const struct snap_view *view,
		    struct stat *ret);
/* Its node, a new reference. -ENOENT. */
int snap_part_lookup(SnapNode *folder, const struct snap_view *view,
		     SnapNode **ret_node);
/* A handle on `fd`, which is taken over. */
SnapHandle *snap_part_handle(SnapNode *node, int fd, bool writes);
/* True when someone has a part of the folder (or, with NULL, any) open and may
 * not be done with writing it. */
bool snap_parts_unfinished(SnapNode *folder, const struct snap_view *view);

/* Lets nobody write the parts of a folder who has them open, or does again. */
void snap_parts_take(SnapNode *folder, bool take);

/* Looks at the parts of a folder in a thread of its own: makes a snapshot of
 * them when they are whole, or compares them with the one that came otherwise.
 * `answer` (may be NULL) is told what is to be said of `closing`. */
void snap_parts_settle(SnapNode *folder, const struct snap_view *closing,
		       snap_handle_answer answer, void *data);
/* The same where there is a part at all and nobody waits for the outcome. */
void snap_parts_check(SnapNode *folder);
/* Waits while that goes on. */
void snap_parts_wait(SnapNode *folder);

/* Makes a snapshot of the parts of a folder when both are whole: 1 when it did,
 * 0 when one is missing; -errno, logged, when `closing` is not whole, or the
 * saving fails; -EEXIST, not logged, when a snapshot came meanwhile. */
int snap_parts_assemble(SnapNode *folder, const struct snap_view *closing);

/* ---- streams being written (incoming*.c, writers.c) ---- */

/* A stream on its way into a folder, and its handles. */
typedef struct {
	SnapNode node;
	SnapNode *folder;	      /* a reference */
	const struct snap_view *view; /* that it is written as */
	struct snap_catalog_owner owner;
	struct timespec began;

	GMutex lock;	    /* protects all below */
	SnapSave *save;	    /* NULL before the first byte that is not 0 */
	SnapHandle *writer; /* who wrote that */
	uint64_t hole;	    /* zeros that the file begins with */
	uint64_t solid;	    /* where the last byte that is not 0 ends */
	uint64_t tail;	    /* zeros from here on were cut off; 0: none */
	guint handles;
	bool cut;     /* it was cut to a size: what was there is void */
	bool zeros;   /* the hole, or a part of it, was written */
	bool ended;   /* no new handle may join */
	bool removed; /* its name; nothing more is taken */

	gint told; /* the log knows that a write was refused; atomic */
} SnapIncoming;

extern const struct snap_node_ops snap_incoming_ops;

/* Makes one for a folder; a reference. It is not in the table yet. */
SnapIncoming *snap_incoming_new(SnapNode *folder, const struct snap_view *view,
				const struct snap_catalog_owner *owner);

/* Logs a refusal with the name of the stream: -code. */
int snap_incoming_refuse(SnapIncoming *in, int code, const char *why);

/* The same, but once for as long as anybody has it open: who writes on in
 * spite of a refusal does not fill the log. */
int snap_incoming_refuse_once(SnapIncoming *in, int code, const char *why);

/* A write when there is no save yet. 0: it has begun, and takes what is behind
 * the first *ret_skip bytes; else what is to be answered. */
ssize_t snap_incoming_first_locked(SnapIncoming *in, SnapHandle *handle,
				   const uint8_t *buf, size_t size,
				   uint64_t offset, size_t *ret_skip);

/* True while a writer that comes to the folder joins this one. */
bool snap_incoming_open_for(SnapIncoming *in);

/* Its inode number. */
uint64_t snap_incoming_ino(const SnapNode *node);

/* True while it is seen in its folder. */
bool snap_incoming_shown(SnapIncoming *in);

/* True when its save has begun. */
bool snap_incoming_begun(SnapIncoming *in);

/* Opens it to be written, by whichever node; NULL when nobody may join. */
SnapHandle *snap_incoming_handle(SnapIncoming *in, SnapNode *node);

/* True for such a handle. */
bool snap_incoming_is_handle(const SnapHandle *handle);

/* Cuts it to a size, asked for without a handle: what open(2) does with O_TRUNC
 * once it has the file open. */
int snap_incoming_cut(SnapIncoming *in, uint64_t size);

/* Its name was removed: what was received is dropped. */
void snap_incoming_remove(SnapIncoming *in);

/* If its save is over, takes it out of the table and tells that names mean
 * something else now. */
void snap_incoming_reap(SnapIncoming *in);

/* The snapshot that it stands for while nobody has cut it or written to it: a
 * reference, or NULL. With its lock held. */
SnapSealed *snap_incoming_base_locked(SnapIncoming *in);

/* Writes before QEMU's stream of the snapshot that is there (edit.c), with the
 * lock held: 0 when that is not what is meant, else what is to be answered. */
ssize_t snap_incoming_edit_locked(SnapIncoming *in, const void *buf,
				  size_t size, uint64_t offset);

/* The same for those in a folder. */
void snap_writers_reap(SnapNode *folder);

/* The one that is shown in a folder as `view`, a reference, or NULL. */
SnapIncoming *snap_writers_find(SnapNode *folder, const struct snap_view *view);

/* The one that a new writer joins, made if need be; a reference. */
SnapIncoming *snap_writers_join(SnapNode *folder, const struct snap_view *view,
				const struct snap_catalog_owner *owner);

/* Opens the one that a new writer joins, by `node`, or by its own if that is
 * NULL. */
SnapHandle *snap_writers_open(SnapNode *folder, const struct snap_view *view,
			      const struct snap_catalog_owner *owner,
			      SnapNode *node);

/* What must be over before the tree may go: one more, one less. The second may
 * be the last that is done with the tree. */
void snap_writers_begin(SnapTree *tree);
void snap_writers_over(SnapTree *tree);

/* True once the mount goes: what takes long and can be left is. */
bool snap_tree_ending(SnapTree *tree);

/* Tells that the names of the views in a folder mean something else now. */
void snap_writers_tell(SnapNode *folder);

/* Takes one out of the table; false when it was not in it. */
bool snap_writers_drop(SnapIncoming *in);

/* Puts one into the table, in the place of another. */
void snap_writers_put(SnapIncoming *in);

/* Remembers a save that was begun, until it is over; forgets those that are. */
void snap_writers_watch(SnapTree *tree, SnapSave *save);

/* Remembers that a thread was sent to look `stream` up again; true when it had
 * been sent before, which is forgotten by that. */
bool snap_ticket_issue(SnapNode *folder, pid_t thread);

/* True when the thread was sent to look `stream` up again in this folder;
 * `done` forgets it. */
bool snap_ticket_find(SnapNode *folder, pid_t thread, bool done);

/* Remembers that a thread has made a folder (makers.c). */
void snap_makers_folder(SnapNode *folder, const struct snap_caller *caller);

/* Remembers that it has made a view in it, `exclusive`: one that must not have
 * been there. */
void snap_makers_note(SnapNode *folder, guint view, bool exclusive,
		      const struct snap_caller *caller);

/* True when the thread is going to make this one too, and expects it not to be
 * there. */
bool snap_makers_expect(SnapNode *folder, guint view,
			const struct snap_caller *caller);

/* Who a stream that `caller` makes in the folder belongs to. */
struct snap_catalog_owner snap_owner_new(SnapNode *folder, mode_t mode,
					 const struct snap_caller *caller);
