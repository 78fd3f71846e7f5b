/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A store as its mount would show it, for verbs that read or make what the
 * mount does. */
#pragma once

#include "fs/view/view.h"
#include "tools/place.h"

/* A tree and all that it stands on. */
typedef struct {
	SnapCatalog *catalog;
	SnapSaver *saver; /* NULL when read-only */
	SnapLoader *loader;
	SnapTree *tree;
	struct snap_caller caller;
} SnapOpenTree;

/* Opens the store of a place to be read or, with `saver`, to be written; then
 * `holder` is what others are told. -errno. */
int snap_open_tree_new(const SnapPlace *place,
		       const struct snap_saver_opts *saver, const char *holder,
		       SnapOpenTree **ret_tree, GError **error);
void snap_open_tree_free(SnapOpenTree *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapOpenTree, snap_open_tree_free)

/* The node of the folder at `path`: a new reference. -errno. */
int snap_open_tree_folder(SnapOpenTree *t, const char *path,
			  SnapNode **ret_folder, GError **error);

/* Makes the folders of `path` that are not there, *ret_made of them; none where
 * it fails. */
int snap_open_tree_make(SnapOpenTree *t, const char *path, guint *ret_made,
			GError **error);

/* Removes the last `made` folders of `path` again, as far as they are empty. */
void snap_open_tree_unmake(SnapOpenTree *t, const char *path, guint made);
