/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The folder that a guest is saved into. In a mount of snapfs, the new snapshot
 * replaces the old one by itself. Any other folder gets QEMU's stream as it is.
 *
 * The stream is written into a file that is opened here, or by QEMU itself.
 */
#pragma once

#include <stdint.h>

#include "tools/guest/qmp.h"

typedef struct {
	int fd;	    /* of the folder, until the end */
	char *path; /* absolute; for people and for QEMU */
	bool mounted;
	bool replaces;	 /* a snapshot is there */
	bool has_parent; /* the mount was told one */
	char *old_uuid;	 /* of the snapshot that is there, or NULL */
	char *target;	 /* path of the file that the stream is written to */
	bool by_qemu;	 /* QEMU opens it */
	GPtrArray *made; /* folders that were made, outer ones first */
} SnapSaveFolder;

/* Opens the folder `path`. Folders that are made belong to the user who runs
 * QEMU, if the caller may do that. Returns 0; -EEXIST if a snapshot is there
 * and `replace` is false; or -errno, and then no folder was made. */
int snap_save_folder_open(const char *path, bool replace,
			  const struct snap_qmp_peer *qemu,
			  SnapSaveFolder **ret_folder, GError **error);
void snap_save_folder_free(SnapSaveFolder *folder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapSaveFolder, snap_save_folder_free)

/* Opens the file for the stream, which belongs to that user likewise. Returns 0
 * or -errno. */
int snap_save_folder_file(SnapSaveFolder *folder,
			  const struct snap_qmp_peer *qemu, int *ret_file,
			  GError **error);

/* Leaves it to QEMU to open the file, by the URI file:TARGET. Returns 0,
 * -EOPNOTSUPP if this QEMU cannot, or -EINVAL if it would misread the path. */
int snap_save_folder_leave(SnapSaveFolder *folder,
			   const struct snap_qmp_peer *qemu, GError **error);

/* Makes the stream that was written the folder's snapshot, durably. If QEMU has
 * opened the file, waits until the snapshot is on disk; a file that was opened
 * here must be synced and closed. Returns 0 or -errno. */
int snap_save_folder_commit(SnapSaveFolder *folder, GError **error);

/* Removes what a failed save has left, and the folders that were made. */
void snap_save_folder_undo(SnapSaveFolder *folder);

/* Gets the reason why snapfs refused the save; NULL if not known; g_free. */
char *snap_save_folder_reason(const SnapSaveFolder *folder);

/* Gets the attribute user.snapfs.`name` of a snapshot's folder, made safe; NULL
 * if there is none; g_free. */
char *snap_folder_attribute(const char *path, const char *name);
/* The same for the folder that is saved into. */
char *snap_save_folder_attribute(const SnapSaveFolder *folder,
				 const char *name);

/* Gets the snapshot's size on disk in bytes. */
uint64_t snap_save_folder_size(const SnapSaveFolder *folder);
