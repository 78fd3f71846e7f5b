/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which store, and what in it, is meant by a path that a person typed: the
 * store's folder, a folder or a snapshot's file in it, or the same seen through
 * a mount.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "fs/catalog/catalog.h"

/* A place in a store. */
typedef struct {
	char *store;  /* the store's folder */
	char *within; /* a folder's path within it; "" is the store itself */
	char *mount;  /* where it was seen mounted, or NULL */
	bool sign;    /* something says that it is a store */
} SnapPlace;

/* Finds the place that `path` means. -errno. */
int snap_place_find(const char *path, SnapPlace **ret_place, GError **error);
void snap_place_free(SnapPlace *place);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapPlace, snap_place_free)

/* The path within the store of `name`, seen from the place; g_free. */
char *snap_place_path(const SnapPlace *place, const char *name);

/* Opens the store to be read. -errno. */
int snap_place_open(const SnapPlace *place, SnapCatalog **ret_catalog,
		    GError **error);

/* Opens the folder `path` of a store, name by name, following no links: its
 * descriptor, or -errno with a sentence. */
int snap_place_folder(SnapCatalog *catalog, const char *path, GError **error);

/* Says that there is no snapshot in the folder `path`, and why if that was
 * noted: -ENOENT. */
int snap_place_none(SnapCatalog *catalog, const char *path, GError **error);

/* Calls `visit` (which returns 0) for the snapshots at and below each of
 * `names` (`n` of them; 0: the whole place), in that order. Where there is none
 * of a name, says so. The exit status. */
int snap_place_visit(const SnapPlace *place, SnapCatalog *catalog,
		     char *const *names, guint n, snap_catalog_visit visit,
		     void *data);

/* A snapshot's name for people: its path within the store, or the store's own
 * name for "". */
char *snap_place_title(const SnapPlace *place, const char *path);
