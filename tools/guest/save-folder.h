/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The folder that a guest is saved into: one of a mount of snapfs, where the
 * snapshot replaces the old one by itself, or any other, which gets QEMU's
 * stream as it is.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct {
	char *path; /* absolute */
	bool mounted;
	char *before;	 /* identity of the snapshot that was there, or NULL */
	char *target;	 /* the file that QEMU writes */
	GPtrArray *made; /* folders that were made, the outer first */
} SnapSaveFolder;

/* Makes the folder if it is missing, for the user `uid` to write to if it is
 * ours to give. -EEXIST where a snapshot is there that is not to be
 * replaced. */
int snap_save_folder_open(const char *path, bool replace, uid_t uid, gid_t gid,
			  SnapSaveFolder **ret_folder, GError **error);
void snap_save_folder_free(SnapSaveFolder *folder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapSaveFolder, snap_save_folder_free)

/* Where QEMU of that version migrates to; g_free. */
char *snap_save_folder_uri(const SnapSaveFolder *folder, guint qemu);

/* Waits until the snapshot, which QEMU has written, is there and on disk. */
int snap_save_folder_commit(SnapSaveFolder *folder, GError **error);

/* Takes away what a save that failed has left. */
void snap_save_folder_undo(SnapSaveFolder *folder);

/* Why snapfs refused the save, where it says so; g_free. */
char *snap_save_folder_reason(const SnapSaveFolder *folder);

/* An attribute that snapfs gives a snapshot, or NULL; g_free. */
char *snap_folder_attribute(const char *path, const char *name);

/* Bytes of the snapshot on disk. */
uint64_t snap_save_folder_size(const SnapSaveFolder *folder);
