/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Views: the files that the mount shows of a sealed snapshot, which is one that
 * is on disk, complete and immutable.
 *
 * `ram`, `devstate` and `preamble` are listed. `stream` and `mapped` are two
 * more ways to read the same bytes; they can be opened but are not listed, so
 * that programs which copy a folder copy the guest once. A snapshot without
 * `ram` lists `stream` instead.
 *
 * A new view is a new file in this folder and a line in views.c.
 */
#pragma once

#include "fs/catalog/catalog.h"
#include "fs/hot/hot.h"
#include "fs/load/pages.h"
#include "fs/node/node.h"

/* ---- sealed snapshots (sealed.c) ---- */

/* The snapshots of a mount that are open. One that nobody uses is closed after
 * some seconds. */
typedef struct SnapSnapshots SnapSnapshots;

struct snap_snapshots_opts {
	SnapCatalog *catalog; /* all are borrowed */
	SnapLoader *loader;
	SnapHotPages *hot;
};

/* No snapshot is open yet. */
SnapSnapshots *snap_snapshots_new(const struct snap_snapshots_opts *opts);
/* All its snapshots must be gone. */
void snap_snapshots_free(SnapSnapshots *snapshots);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapSnapshots, snap_snapshots_free)

/* A sealed snapshot. Reference counted; any thread. It stays readable when its
 * file has lost its name. */
typedef struct SnapSealed SnapSealed;

/* The snapshot in a folder: a new reference. A damaged one is returned too.
 * -ENOENT where there is none, -errno. */
int snap_sealed_get(SnapSnapshots *snapshots, SnapNode *folder,
		    SnapSealed **ret_sealed);
SnapSealed *snap_sealed_ref(SnapSealed *sealed);
void snap_sealed_unref(SnapSealed *sealed);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapSealed, snap_sealed_unref)

/* True when the snapshot is damaged. It shows `stream`, empty, so that it can
 * be removed. */
bool snap_sealed_damaged(const SnapSealed *sealed);

/* Tells snapshots apart, by their place and what is in it; compared byte by
 * byte. */
struct snap_sealed_id {
	uint64_t folder_dev;
	uint64_t folder_ino;
	uint64_t dev;
	uint64_t ino;
	uint8_t uuid[16]; /* zeros for a damaged one */
};
struct snap_sealed_id snap_sealed_id(const SnapSealed *sealed);

/* The attributes of the snapshot's file: 0, -errno. */
int snap_sealed_stat(const SnapSealed *sealed, struct stat *ret);

/* ---- views (views.c, view.c) ---- */

typedef struct snap_view SnapView;

extern const SnapView snap_view_stream;

/* View number `i`, from 0 on; NULL behind the last. */
const SnapView *snap_view_get(guint i);

/* The view of that name, or NULL. */
const SnapView *snap_view_find(const char *name);

/* The name of a view; its number, which is below 32 and never changes. */
const char *snap_view_name(const SnapView *view);
guint snap_view_number(const SnapView *view);

/* True when the snapshot has the view. */
bool snap_view_present(const SnapView *view, const SnapSealed *sealed);

/* True when a folder that holds the snapshot lists the view. */
bool snap_view_listed(const SnapView *view, const SnapSealed *sealed);

/* Bytes of the view: 0, -errno. */
int snap_view_size(const SnapView *view, SnapSealed *sealed,
		   uint64_t *ret_size);

/* Reads up to `size` bytes: their count, -errno. */
ssize_t snap_view_read(const SnapView *view, SnapSealed *sealed, void *buf,
		       size_t size, uint64_t offset);

/* The inode number of a view. The same snapshot in the same place always has
 * the same; a copy of it has another. */
uint64_t snap_view_ino(const SnapView *view, const SnapSealed *sealed);

/* The node of a view: a new reference. It is opened to be read only. -errno. */
int snap_view_node(const SnapView *view, SnapSealed *sealed, SnapNode *folder,
		   SnapNode **ret_node);

/* What a node of a view stands for; the folder is borrowed from the node. */
struct snap_view_of {
	const SnapView *view;
	SnapNode *folder;
};

/* Fills *ret_of; false when `node` is no view. */
bool snap_view_of(SnapNode *node, struct snap_view_of *ret_of);

/* The snapshot of a node of a view: a new reference. -ESTALE when it is gone
 * and no process has it open, -errno. */
int snap_view_sealed(SnapNode *node, SnapSealed **ret_sealed);

/* ---- the preamble (preamble.c, edit.c) ---- */

/* Bytes before QEMU's stream in `stream`; 0: none. */
uint64_t snap_preamble_size(const SnapSealed *sealed);

/* Replaces `size` bytes at `offset` of the preamble, all of which lie within
 * it. The names in `folder` then stand for other nodes. -EINVAL where it is too
 * long, -errno, logged.
 */
int snap_preamble_edit(SnapSealed *sealed, SnapNode *folder, const void *buf,
		       size_t size, uint64_t offset);

/* ---- extended attributes (attributes.c) ---- */

/* True for the names of snapfs's own attributes: user.snapfs.*. */
bool snap_attribute_is(const char *name);

/* The value of such an attribute of a snapshot (NULL: there is none) and its
 * folder; g_free. NULL where there is no such attribute. */
char *snap_attribute_get(const SnapSealed *sealed, SnapNode *folder,
			 const char *name);

/* True for an attribute that tells how a snapshot rests here, and not what it
 * holds: a copy of the snapshot has another value. */
bool snap_attribute_is_local(const char *name);

/* Appends the full names of all attributes that have a value, each with its
 * NUL. */
void snap_attribute_list(const SnapSealed *sealed, SnapNode *folder,
			 GString *names);
