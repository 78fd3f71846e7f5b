/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The names in a store.
 *
 *	STORE/.snapfs/lock        locked by the process that may write (lock.c)
 *	STORE/.snapfs/tmp/        temporary files; emptied by that process
 *	STORE/.snapfs/layers/     files of parents (layers.c)
 *	STORE/a/b/snapshot.zst    the snapshot of folder a/b
 *	STORE/a/b/snapshot.head   its preamble, if it was rewritten
 *	STORE/a/b/.snapfs-error   why the last save into a/b failed
 *	STORE/a/b/anything        ordinary files, as they are
 *
 * The tree is not kept in memory: it is read from the folders each time. So
 * rename, rm, and a store that rsync copied work without any bookkeeping.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "format/image/image.h"
#include "format/store/store.h"

#define SNAP_CATALOG_SNAPSHOT "snapshot.zst"
/* The rewritten preamble of a snapshot (preamble.c). */
#define SNAP_CATALOG_PREAMBLE "snapshot.head"
#define SNAP_CATALOG_PREAMBLE_MAX (16u << 20) /* bytes */
/* The list of pages that a revert needed first: an ordinary file, but it
 * belongs to the snapshot beside it. */
#define SNAP_CATALOG_HOT "hot"
#define SNAP_CATALOG_ERROR ".snapfs-error"
#define SNAP_CATALOG_PRIVATE ".snapfs"
/* The folder of temporary files. */
#define SNAP_CATALOG_TMP SNAP_CATALOG_PRIVATE "/tmp"

/* The folder of the files of parents. */
#define SNAP_CATALOG_LAYERS SNAP_CATALOG_PRIVATE "/layers"

typedef struct SnapCatalog SnapCatalog;

/* Opens the store at `path`. For writing, it creates .snapfs if needed, takes
 * the lock (-EBUSY, with the name of the holder), and removes what a killed
 * writer left, with a note in the folder of each such file. `holder` is the
 * text that other processes see ("mounted at /snaps"). Read-only, it changes
 * nothing. Returns 0 or -errno. */
int snap_catalog_open(const char *path, bool read_only, const char *holder,
		      SnapCatalog **ret_catalog, GError **error);
void snap_catalog_free(SnapCatalog *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapCatalog, snap_catalog_free)

/* Checks that the store, which was opened for writing, still is this process's:
 * a server of NFS gives the lock of a host that was cut off to another one.
 * Returns 0 or -errno. */
int snap_catalog_check_lock(const SnapCatalog *c, GError **error);

/* A descriptor of the store's folder (borrowed); its path as it was given;
 * whether the store was opened read-only. */
int snap_catalog_fd(const SnapCatalog *c);
const char *snap_catalog_path(const SnapCatalog *c);
bool snap_catalog_read_only(const SnapCatalog *c);

/* A descriptor of the folder of temporary files (borrowed); -1 where the store
 * was opened read-only. It stands for that folder also when .snapfs was moved
 * or removed; in a removed one nothing can be made (-ENOENT). */
int snap_catalog_tmp_fd(const SnapCatalog *c);

/* Opens the folder `path` of the store with O_PATH. Returns the descriptor, or
 * -errno. */
int snap_catalog_folder(const SnapCatalog *c, const char *path);

/* The names by which a mount shows a snapshot; NULL behind the last. */
extern const char *const snap_catalog_views[];

/* True for the names in a store's folders that snapfs keeps to itself. */
bool snap_catalog_reserved(const char *name);

/* Opens the snapshot of a folder; without its parents. Returns 0, -ENOENT where
 * there is none, or an error of snap_reader_open. */
int snap_catalog_find(int folder_fd, SnapReader **ret_reader, GError **error);

/* Opens the snapshot of a folder with its parents. The same errors, and those
 * of snap_catalog_set_parents(). */
int snap_catalog_find_whole(SnapCatalog *c, int folder_fd,
			    SnapReader **ret_reader, GError **error);

/* The same for the snapshot whose file is `snapshot_fd`, which stays the
 * caller's; O_PATH will do. A parent may be missing because the snapshot was
 * replaced or removed a moment ago: then -ESTALE or -ENOENT. */
int snap_catalog_read(SnapCatalog *c, int folder_fd, int snapshot_fd,
		      SnapReader **ret_reader, GError **error);

/* Hands the files of its parents over to a reader of a snapshot of this store.
 * Returns 0; -ENOLINK where one is missing, -EBADMSG where one is damaged or
 * another file, with its uuid; or -errno. */
int snap_catalog_set_parents(SnapCatalog *c, SnapReader *reader,
			     GError **error);

/* Removes the snapshot of a folder, its rewritten preamble and its note. A
 * process that has the snapshot open can still read it, and the folder can be
 * removed even so. Returns 0, -ENOENT or -errno. */
int snap_catalog_remove(const SnapCatalog *c, int folder_fd);

/* ---- the files of parents (layers.c, collect.c) ---- */

#define SNAP_CATALOG_LAYER_NAME (SNAP_UUID_TEXT + 4)

/* The name of the file of a parent in the folder of layers. */
void snap_catalog_layer_name(const uint8_t uuid[16],
			     char ret[SNAP_CATALOG_LAYER_NAME]);

/* True for a name of that form. */
bool snap_catalog_is_layer_name(const char *name);

/* Prepares a store for increments. Returns 0, -EOPNOTSUPP where its file system
 * has no hard links, or -errno. */
int snap_catalog_can_link(SnapCatalog *c, GError **error);

/* Files that are kept for a snapshot which is being saved. */
typedef struct SnapKept SnapKept;

/* Opens the snapshot of a folder, with its parents, that may become the parent
 * of another one. What lies among the layers of its files is kept until
 * snap_kept_free(); by then the snapshot that needs them has been published, or
 * never will be. Only a file of the user `uid` will do; (uid_t)-1: of any.
 * Returns 0, -EPERM, or an error of snap_catalog_find() and
 * snap_catalog_set_parents(). */
int snap_catalog_keep(SnapCatalog *c, int folder_fd, uid_t uid,
		      SnapReader **ret_reader, SnapKept **ret_kept,
		      GError **error);
void snap_kept_free(SnapKept *kept);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapKept, snap_kept_free)

/* Links the file of that snapshot among the layers, so that it stays when the
 * snapshot is removed. Where a copy of the file lies there already, *reader is
 * replaced by a reader of that copy, since that is what the child will read.
 * Returns 0, -ENOENT where the snapshot was removed already, -EEXIST where
 * another file has its uuid, or -errno. */
int snap_catalog_link(SnapCatalog *c, const SnapKept *kept, SnapReader **reader,
		      GError **error);

/* Makes all links durable; before the snapshot that needs them is published.
 * Returns 0 or -errno. */
int snap_catalog_sync_links(SnapCatalog *c);

/* Removes the layers that no snapshot uses; for the process that may write.
 * Returns 0, or -errno where something cannot be read; then all stays. */
int snap_catalog_collect(SnapCatalog *c, GError **error);

/* The same in the background, to be called after a removal and at the
 * beginning. Costs nothing in a store without increments. */
void snap_catalog_collect_later(SnapCatalog *c);

/* Ends the collection in the background soon, and refuses others (-ECANCELED):
 * the store is about to be closed. What is left is removed at the next
 * beginning. */
void snap_catalog_collect_stop(SnapCatalog *c);

/* To be called before and after a folder is moved within the store. */
void snap_catalog_move_begin(SnapCatalog *c);
void snap_catalog_move_end(SnapCatalog *c);

/* ---- the rewritten preamble of a sealed snapshot (preamble.c) ---- */

/* Reads the rewritten preamble of a folder. *ret_preamble becomes NULL where
 * there is none, or where it belongs to a snapshot other than `uuid`. Returns
 * 0, -EBADMSG where it is damaged, or -errno. */
int snap_catalog_preamble_read(int folder_fd, const uint8_t uuid[16],
			       GBytes **ret_preamble, GError **error);

/* Replaces the preamble of the snapshot `uuid`, whose file is `snapshot_fd`
 * (O_PATH will do), durably. `data` is the whole preamble, so `size` is that of
 * the preamble in the snapshot, in bytes. The new file gets the snapshot's
 * owner and mode. Returns 0; -ENOENT or -ESTALE where the folder holds no
 * snapshot, or another one; or -errno; then the old preamble is still there. */
int snap_catalog_preamble_write(SnapCatalog *c, int folder_fd, int snapshot_fd,
				const uint8_t uuid[16], const void *data,
				size_t size, GError **error);

/* True when the snapshot in a folder has a preamble. */
bool snap_catalog_preamble_exists(int folder_fd);

/* Gives the snapshot in a folder a preamble of `size` bytes, durably. Does
 * nothing where it has one, or where `size` is 0. Errors of
 * snap_catalog_find(), -EINVAL where it is too long, -errno. */
int snap_catalog_preamble_adopt(SnapCatalog *c, int folder_fd, const void *data,
				size_t size, GError **error);

/* Removes the rewritten preamble, after another snapshot was published. */
void snap_catalog_preamble_drop(int folder_fd);

/* The owner and mode of a new snapshot. uid or gid -1: that of this process. */
struct snap_catalog_owner {
	uid_t uid;
	gid_t gid;
	mode_t mode;
};

/* Creates the file of a new snapshot and, unless ret_scratch is NULL, a scratch
 * file for the part of the map that does not fit in memory. `path` is the
 * snapshot's folder within the store; if this process is killed, the note goes
 * there. Returns 0 or -errno. */
int snap_catalog_create(SnapCatalog *c, const char *path,
			const struct snap_catalog_owner *owner,
			SnapFile **ret_file, SnapFile **ret_scratch,
			GError **error);

/* Writes into a folder why the last save into it failed; NULL removes the note.
 * Errors are ignored. */
void snap_catalog_note(int folder_fd, const char *sentence);

/* Reads the note; NULL where there is none. The caller frees it with g_free. */
char *snap_catalog_noted(int folder_fd);

/* Calls `visit` for each snapshot below the folder `path` ("" is the store), in
 * the order of their names. A path is within the store. Stops when `visit`
 * returns non-zero, and returns that. A folder that this process may not read
 * is skipped, with a line in the log; one that fails otherwise is left out, and
 * the first of them is the error when all others have been visited. Returns 0
 * or -errno. */
typedef int (*snap_catalog_visit)(const char *path, int folder_fd, void *data);
int snap_catalog_list(SnapCatalog *c, const char *path,
		      snap_catalog_visit visit, void *data, GError **error);
