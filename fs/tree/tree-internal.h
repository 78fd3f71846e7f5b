/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of fs/tree share. */
#pragma once

#include <errno.h>

#include "fs/tree/tree.h"

#include "fs/hot/hot.h"
#include "fs/incoming/incoming.h"
#include "fs/node/kind.h"
#include "fs/plain/plain.h"
#include "fs/view/view.h"

typedef struct SnapHidden SnapHidden;
typedef struct SnapTickets SnapTickets;

/* Nothing in it changes after it was made: each room has its own lock. */
struct SnapTree {
	struct snap_tree_opts opts;
	bool read_only;
	struct timespec began;
	SnapNodes *nodes;
	SnapPlain *plain;
	SnapHotPages *hot;
	SnapSnapshots *snapshots;
	SnapIncomingTable *incoming;
	SnapHidden *hidden;
	SnapTickets *tickets;
};

/* ---- names (check.c) ---- */

/* What a name is in every folder. */
enum snap_name {
	SNAP_NAME_ORDINARY,
	SNAP_NAME_PRIVATE, /* snapfs's own: never shown */
	SNAP_NAME_VIEW,	   /* of a snapshot, a stream or a part */
};
enum snap_name snap_name_kind(const char *name);

/* Logs why a name is refused: -EPERM. */
int snap_name_refuse(SnapNode *folder, const char *name, const char *why);

/* Why a private name is refused. */
#define SNAP_REFUSE_PRIVATE "snapfs keeps this name for itself"

/* Why a view cannot be written. */
#define SNAP_REFUSE_WRITE                                                      \
	"a snapshot is already here: remove it first, or write its stream"

/* May anything be changed in this folder? Counts the request. 0, -EROFS,
 * -EPERM. */
int snap_name_check_folder(SnapTree *tree, SnapNode *folder);

/* May an ordinary file or folder get this name? As above, and -EPERM, logged.
 */
int snap_name_check_new(SnapTree *tree, SnapNode *folder, const char *name);

/* True while a stream is on its way into the folder `name`. */
bool snap_name_is_written(SnapTree *tree, SnapNode *parent, const char *name);

/* Removes what snapfs left in a folder that looks empty. False when anything
 * else lies there; a file that the mount does not show is named in the log. */
bool snap_name_clear_leftovers(SnapNode *parent, const char *name);

/* ---- the snapshot in a folder (shown.c) ---- */

/* What a folder shows by the name of a view. */
struct snap_shown {
	const SnapView *view;
	SnapSealed *sealed; /* the snapshot, a reference; NULL: there is none */
	bool visible;	    /* the snapshot shows the view */
	bool may_be_part;   /* a part may lie there by that name */
};

/* The same for a snapshot, which is borrowed; NULL: there is none. */
struct snap_shown snap_shown_of(SnapTree *tree, SnapSealed *sealed,
				const SnapView *view);

/* Fills *ret_shown, whose snapshot is to be given back. -errno. */
int snap_shown_get(SnapTree *tree, SnapNode *folder, const char *name,
		   struct snap_shown *ret_shown);

/* Checks that a view can be written: 0, -EPERM, logged. A snapshot that is
 * there keeps all its names: a program that removed one to write it anew must
 * not lose it. */
int snap_shown_check_write(SnapTree *tree, SnapNode *folder, const char *name);

/* ---- views whose names were removed (hidden.c) ---- */

/* Nothing is hidden. */
SnapHidden *snap_hidden_new(void);
void snap_hidden_free(SnapHidden *hidden);

/* Hides a view of a snapshot. */
void snap_hidden_add(SnapHidden *hidden, const SnapSealed *sealed,
		     const SnapView *view);
/* Shows it again; with NULL, all views of the snapshot. */
void snap_hidden_remove(SnapHidden *hidden, const SnapSealed *sealed,
			const SnapView *view);
/* True for a hidden one. */
bool snap_hidden_has(SnapHidden *hidden, const SnapSealed *sealed,
		     const SnapView *view);

/* ---- streams that are opened to be written (stream.c, tickets.c) ---- */

/* Opens the stream that a writer joins, by `node` or, with NULL, by its own
 * node. *ret_node, unless NULL, is that node: a new reference. */
SnapHandle *snap_stream_open(SnapTree *tree, SnapNode *folder, const char *name,
			     const struct snap_former *former,
			     const struct snap_caller *caller, SnapNode *node,
			     SnapNode **ret_node);

/* Opens a stream on its way in to be read, by its node. */
SnapHandle *snap_stream_open_to_read(SnapTree *tree, SnapNode *node);

/* What a stream replaces: the snapshot's `stream`. -errno. */
int snap_stream_former(SnapSealed *sealed, struct snap_former *ret);

/* No ticket is out. */
SnapTickets *snap_tickets_new(void);
void snap_tickets_free(SnapTickets *tickets);

/* Notes that a thread is asked to look `stream` up again in this folder. False
 * when it was asked already, or when no ticket is left: serve it at once. */
bool snap_tickets_issue(SnapTickets *tickets, const SnapNode *folder,
			pid_t thread);
/* True when the thread was asked to; `done` forgets it. */
bool snap_tickets_find(SnapTickets *tickets, const SnapNode *folder,
		       pid_t thread, bool done);

/* ---- the folder .snapfs (service.c) ---- */

/* Its node; a new reference. */
SnapNode *snap_service_folder(SnapTree *tree);
/* True for it. */
bool snap_is_service_folder(const SnapNode *node);
/* The node `name` in it. -ENOENT. */
int snap_service_lookup(SnapTree *tree, const char *name, SnapNode **ret_node);
/* Name number `i` in it; false at the end. */
bool snap_service_listed(guint i, struct snap_listed *ret_listed);
