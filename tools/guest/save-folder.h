/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The folder that a guest is saved into. In a mount of snapfs, the new snapshot
 * replaces the old one by itself. Any other folder gets QEMU's stream as it is.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct {
	char *path; /* absolute */
	bool mounted;
	bool replaces;	 /* a snapshot is there */
	char *old_uuid;	 /* of the snapshot that is there, or NULL */
	char *target;	 /* the file that QEMU writes */
	GPtrArray *made; /* paths of folders that were made, outer ones first */
} SnapSaveFolder;

/* Opens the folder `path`, which is made if it is missing and then given to the
 * user `uid`, who runs QEMU. Returns 0; -EEXIST if a snapshot is there and
 * `replace` is false; or -errno, and then no folder was made. */
int snap_save_folder_open(const char *path, bool replace, uid_t uid, gid_t gid,
			  SnapSaveFolder **ret_folder, GError **error);
void snap_save_folder_free(SnapSaveFolder *folder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapSaveFolder, snap_save_folder_free)

/* Makes the URI for QEMU's `migrate`, for this version of QEMU; g_free. */
char *snap_save_folder_uri(const SnapSaveFolder *folder, guint qemu);

/* Waits until the snapshot that QEMU has written is complete and on disk.
 * Returns 0 or -errno. */
int snap_save_folder_commit(SnapSaveFolder *folder, GError **error);

/* Removes what a failed save has left, and the folders that were made. */
void snap_save_folder_undo(SnapSaveFolder *folder);

/* Gets the reason why snapfs refused the save; NULL if not known; g_free. */
char *snap_save_folder_reason(const SnapSaveFolder *folder);

/* Gets the attribute user.snapfs.`name` of a snapshot's folder, made safe; NULL
 * if there is none; g_free. */
char *snap_folder_attribute(const char *path, const char *name);

/* Gets the snapshot's size on disk in bytes. */
uint64_t snap_save_folder_size(const SnapSaveFolder *folder);
