/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A place in a store. The user may name it by a path in the store's folder or
 * in a mount of the store: a folder, or a snapshot's file.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "fs/catalog/catalog.h"

typedef struct {
	char *store;  /* the store's folder */
	char *within; /* the folder's path in the store; "" is the store */
	char *mount;  /* the mount point, if the path was in a mount; or NULL */
	bool is_store; /* the store has a lock, or is mounted */
} SnapPlace;

/* Finds the place that `path` means. Returns 0 or -errno. */
int snap_place_find(const char *path, SnapPlace **ret_place, GError **error);
void snap_place_free(SnapPlace *place);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapPlace, snap_place_free)

/* Makes the path within the store of `name` (NULL: the place itself), which is
 * relative to the place; g_free. */
char *snap_place_path(const SnapPlace *place, const char *name);

/* Opens the store for reading. Returns 0 or -errno. */
int snap_place_open(const SnapPlace *place, SnapCatalog **ret_catalog,
		    GError **error);

/* Opens the folder `path` of a store without following symbolic links. Returns
 * its descriptor or -errno. */
int snap_place_folder(SnapCatalog *catalog, const char *path, GError **error);

/* Sets the error that the folder `path` holds no snapshot, with the error of
 * the last save into it, if there was one. Returns -ENOENT. */
int snap_place_no_snapshot(SnapCatalog *catalog, const char *path,
			   GError **error);

/* Calls `visit`, which returns 0, for the snapshots at and below each of `n`
 * names, in their order; with no name, for those of the whole place. Reports
 * names without any. Returns the exit status. */
int snap_place_visit(const SnapPlace *place, SnapCatalog *catalog,
		     char *const *names, guint n, snap_catalog_visit visit,
		     void *data);

/* Makes a snapshot's name for people: its path within the store; for "", the
 * name of the store's folder; g_free. */
char *snap_place_title(const SnapPlace *place, const char *path);
