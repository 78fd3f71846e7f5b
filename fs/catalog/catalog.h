/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names: what lies in STORE.
 *
 *	STORE/.snapfs/lock        held by who may write
 *	STORE/.snapfs/tmp/        files on their way in; emptied with the lock
 *	STORE/a/b/snapshot.zst    a snapshot: folder a/b
 *	STORE/a/b/snapshot.head   what now stands before its stream
 *	STORE/a/b/.snapfs-error   why the last save into a/b failed
 *	STORE/a/b/anything        ordinary files, as they are
 *
 * Nothing of the tree is kept in memory: the folders are the catalog, so
 * rename, rm and a store copied by rsync need no help from us.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "format/image/image.h"
#include "format/store/store.h"

#define SNAP_CATALOG_SNAPSHOT "snapshot.zst"
/* What stands before QEMU's stream, since it was written again (preamble.c). */
#define SNAP_CATALOG_PREAMBLE "snapshot.head"
#define SNAP_CATALOG_PREAMBLE_MAX (16u << 20)
/* The pages that a revert needed first: an ordinary file, but one that is
 * about the snapshot beside it. */
#define SNAP_CATALOG_HOT "hot"
#define SNAP_CATALOG_ERROR ".snapfs-error"
#define SNAP_CATALOG_PRIVATE ".snapfs"
/* The folder of files on their way in. */
#define SNAP_CATALOG_TMP SNAP_CATALOG_PRIVATE "/tmp"

typedef struct SnapCatalog SnapCatalog;

/* Opens the store at `path`. To write: makes .snapfs where there is none, takes
 * the lock (-EBUSY naming who holds it), and clears away what a killed writer
 * left, noting why in the folders it was for. `holder` is what others are told
 * ("mounted at /snaps"). Read-only: takes and touches nothing. */
int snap_catalog_open(const char *path, bool read_only, const char *holder,
		      SnapCatalog **ret_catalog, GError **error);
void snap_catalog_free(SnapCatalog *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapCatalog, snap_catalog_free)

/* The folder of the store (borrowed); its path as it was given; whether it may
 * not be written. */
int snap_catalog_fd(const SnapCatalog *c);
const char *snap_catalog_path(const SnapCatalog *c);
bool snap_catalog_read_only(const SnapCatalog *c);

/* True for the names that snapfs keeps to itself in a store's folders. */
bool snap_catalog_reserved(const char *name);

/* Opens the snapshot of a folder: -ENOENT where there is none, else as
 * snap_reader_open. */
int snap_catalog_find(int folder_fd, SnapReader **ret_reader, GError **error);

/* Removes the snapshot of a folder (readers that have it open keep it), what
 * was written before its stream since, and the note of an error. -ENOENT,
 * -errno. */
int snap_catalog_remove(int folder_fd);

/* ---- what stands before the stream of a sealed snapshot (preamble.c) ---- */

/* Reads the side file of a folder: *ret_head is NULL where there is none, or
 * one of another snapshot than that of `uuid`. -EBADMSG damaged, -errno. */
int snap_catalog_preamble_read(int folder_fd, const uint8_t uuid[16],
			       GBytes **ret_head, GError **error);

/* Writes the side file anew, durably, for the snapshot of `uuid`, to which its
 * owner and mode are alike. `size` is that of the block "before", all of which
 * it stands for. -errno; then the old one is still there. */
int snap_catalog_preamble_write(SnapCatalog *c, int folder_fd,
				const uint8_t uuid[16], const void *data,
				size_t size, GError **error);

/* Removes it: another snapshot has come. */
void snap_catalog_preamble_drop(int folder_fd);

/* Who a new snapshot belongs to; uid and gid -1: to this process. */
struct snap_catalog_owner {
	uid_t uid;
	gid_t gid;
	mode_t mode;
};

/* The files of a new snapshot: the file itself and, unless ret_scratch is NULL,
 * the map's overflow. `path` (for the note after a crash) is the folder's
 * within the store. */
int snap_catalog_create(SnapCatalog *c, const char *path,
			const struct snap_catalog_owner *owner,
			SnapFile **ret_file, SnapFile **ret_scratch,
			GError **error);

/* Notes in a folder why the last save into it failed (NULL: forget it). Best
 * effort. */
void snap_catalog_note(int folder_fd, const char *sentence);

/* The note, or NULL; g_free. */
char *snap_catalog_noted(int folder_fd);

/* Calls `visit` for each snapshot below `path` ("" is all), in the order of
 * their names; stops when it returns non-zero, and returns that. The paths are
 * within the store. A folder that we may not read is left out, with a line in
 * the log. */
typedef int (*snap_catalog_visit)(const char *path, int folder_fd, void *data);
int snap_catalog_list(SnapCatalog *c, const char *path,
		      snap_catalog_visit visit, void *data, GError **error);
