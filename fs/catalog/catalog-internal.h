/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of fs/catalog share. */
#pragma once

#include <sys/stat.h>

#include "fs/catalog/catalog.h"

/* A temporary file N has a symbolic link beside it: N with this suffix. The
 * link's target is the folder that the file is meant for. */
#define SNAP_TEMPORARY_FOR ".for"

/* Creates a temporary file, and its link to the folder `path`, in the folder
 * `tmp_fd`. The link is removed when the file is closed. Returns 0 or
 * -errno. */
int snap_temporary_create(int tmp_fd, const char *path,
			  const struct snap_catalog_owner *owner,
			  SnapFile **ret_file);

/* Removes the temporary files that a killed writer left in `tmp_fd`, and leaves
 * a note in each folder below `root_fd` that such a file was meant for. Errors
 * are ignored. */
void snap_temporary_clear(int root_fd, int tmp_fd);

/* Takes the locks of the writer of the store `store`, whose folder and whose
 * folder .snapfs are open. `holder` says who it is. Returns the descriptor that
 * snap_lock_drop() takes, -EBUSY, or -errno. */
int snap_lock_take(const char *store, int store_fd, int private_fd,
		   const char *holder, GError **error);
/* True where a server may give the lock of .snapfs to another host. May wait
 * for more than the lock and the data of the store: CephFS asks a monitor. */
bool snap_lock_may_go(int fd);
/* There: checks that it has not. 0 or -errno. */
int snap_lock_check(int fd);
/* Gives the lock of .snapfs back; closing the store's folder does the same to
 * the other one. */
void snap_lock_drop(int fd);

/* What the files of parents need in memory. */
typedef struct SnapLayers {
	GMutex lock;
	GHashTable *kept;   /* names, with the number of those who keep them */
	GHashTable *recent; /* names released since a collection began */
	guint moving;	    /* moves under way */
	guint moves;	    /* that are over */
	GThread *thread;    /* of a collection in the background, or NULL */
	bool running;
	bool again;
	gint stopping;	   /* atomic */
	GMutex collecting; /* held by the one that collects */
} SnapLayers;

/* Nothing is kept. */
SnapLayers *snap_layers_new(void);
/* Waits for the collection in the background. */
void snap_layers_free(SnapLayers *l);
SnapLayers *snap_catalog_layers(const SnapCatalog *c);

/* Keeps nothing yet, of a snapshot whose file is `fd`, which is taken over;
 * keeps the layer of that uuid. At most SNAP_LAYERS_MAX + 1 are added. */
SnapKept *snap_kept_new(SnapLayers *layers, int fd);
void snap_kept_add(SnapKept *kept, const uint8_t uuid[16]);

/* The file of the snapshot. */
int snap_kept_fd(const SnapKept *kept);

/* True when a layer is not to be removed, though no snapshot lists it. */
bool snap_layers_keeps_locked(const SnapLayers *l, const char *name);

/* Opens the folder of the layers. Returns the descriptor, or -errno. */
int snap_layers_open(SnapCatalog *c);

/* Visits all snapshots of the store, as snap_catalog_list() does, but a folder
 * that this process may not read is an error. */
int snap_catalog_walk(SnapCatalog *c, snap_catalog_visit visit, void *data,
		      GError **error);

/* Is the file of a descriptor still the snapshot of the folder? 0, -ENOENT
 * where there is none, -ESTALE, -errno. */
int snap_catalog_check_present(int folder_fd, int snapshot_fd);

/* Opens the folder `path` below `fd` with O_PATH, name by name, without
 * following links. Returns the descriptor, -EINVAL for "..", or -errno. */
int snap_catalog_descend(int fd, const char *path);

/* Opens the regular file `name` of a folder for reading, and fills in *ret_st
 * unless it is NULL. Returns the descriptor, -EBADMSG where `name` is not a
 * regular file, or -errno. */
int snap_catalog_open_file(int folder_fd, const char *name, struct stat *ret_st,
			   GError **error);

/* Fails for a file `name` that is not a regular one, by its mode: -EBADMSG. */
int snap_catalog_fail_kind(GError **error, const char *name, mode_t mode);
