/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A store opened as its mount would show it, for verbs that read or write what
 * the mount does. */
#pragma once

#include "fs/tree/tree.h"
#include "tools/store/place.h"

/* A tree and all that it needs. */
typedef struct {
	SnapCatalog *catalog;
	SnapSaver *saver; /* NULL if read-only */
	SnapLoader *loader;
	SnapTree *tree;
	struct snap_caller caller;
} SnapOpenTree;

/* Opens the store of a place: for reading, or, with `saver`, for writing. Other
 * processes that want to write are then told that `holder` has it. Returns 0 or
 * -errno. */
int snap_open_tree_new(const SnapPlace *place,
		       const struct snap_saver_opts *saver, const char *holder,
		       SnapOpenTree **ret_tree, GError **error);
void snap_open_tree_free(SnapOpenTree *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapOpenTree, snap_open_tree_free)

/* Looks up the folder `path`; *ret_folder is a new reference. Returns 0 or
 * -errno. */
int snap_open_tree_folder(SnapOpenTree *t, const char *path,
			  SnapNode **ret_folder, GError **error);

/* Makes the missing folders of `path`; *ret_made counts them. Returns 0, or
 * -errno; then none was made. */
int snap_open_tree_make(SnapOpenTree *t, const char *path, guint *ret_made,
			GError **error);

/* Removes the last `made` folders of `path`, as far as they are empty. */
void snap_open_tree_unmake(SnapOpenTree *t, const char *path, guint made);
