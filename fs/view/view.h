/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a file shows.
 *
 * A tree is a store as the mount shows it: folders and ordinary files as they
 * are, and in a folder that holds a snapshot its views (`stream`, `ram`,
 * `devstate`) in place of the snapshot's file. Nodes are files and folders,
 * handles are open files. Who speaks a protocol (fs/fuse) knows nothing deeper
 * than this header.
 *
 * A node is one object for as long as anyone refers to it, however often and
 * under whatever name it is looked up: its address can serve as its number.
 * Calls come from any thread, return 0 (or a count) or -errno, and have logged
 * what a person should know.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "fs/catalog/catalog.h"
#include "fs/load/pages.h"
#include "fs/save/save.h"

typedef struct SnapTree SnapTree;
typedef struct SnapNode SnapNode;
typedef struct SnapHandle SnapHandle;

/* ---- the tree (tree.c) ---- */

struct snap_tree_opts {
	SnapCatalog *catalog; /* all three are borrowed */
	SnapSaver *saver;     /* NULL when the store is read-only */
	SnapLoader *loader;
	uid_t uid; /* shown as the owner of all; -1: the true one */
	gid_t gid;
	mode_t umask; /* bits that no file shows */
};

/* A tree of the store. -errno. */
int snap_tree_new(const struct snap_tree_opts *opts, SnapTree **ret_tree,
		  GError **error);
/* Handles and nodes that the kernel never gave back go with it. */
void snap_tree_free(SnapTree *tree);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapTree, snap_tree_free)

/* The folder that the mount shows; not a new reference. */
SnapNode *snap_tree_root(SnapTree *tree);

/* The numbers of statfs. */
int snap_tree_statfs(SnapTree *tree, struct statvfs *ret);

/* The number of the file system that the mount is; those who map its files are
 * known by it. */
void snap_tree_mounted(SnapTree *tree, dev_t device);

/* Gives the kernel no more pages before they are asked for, and waits until
 * none is being given: requests must still be served meanwhile. */
void snap_tree_end_pushes(SnapTree *tree);

/* Fails the saves that still run, and waits until their writers have closed
 * their files, a few seconds at most: QEMU aborts, guest and all, when a
 * channel of a mapped-ram save cannot be closed. Requests must still be served.
 */
void snap_tree_end_saves(SnapTree *tree);

/* Ends the saves that still run, each as if its writer had gone, and waits
 * until every write was answered. For the end of the mount. */
void snap_tree_quiesce(SnapTree *tree);

/* Called when `name` in `folder` may stand for another node than before, and
 * not because of a call that told so. From any thread; must not wait for one
 * that calls into the tree. */
typedef void (*snap_tree_changed)(void *data, SnapNode *folder,
				  const char *name);
void snap_tree_on_change(SnapTree *tree, snap_tree_changed changed, void *data);

/* Gives the kernel bytes of a node that it has not asked for yet. -errno when
 * it does not want them. */
typedef int (*snap_tree_push)(void *data, SnapNode *node, uint64_t offset,
			      void *buf, size_t size);
/* Says how that is done; NULL: not at all. */
void snap_tree_on_push(SnapTree *tree, snap_tree_push push, void *data);

/* ---- nodes ---- */

/* Who asks: what is made belongs to them. */
struct snap_caller {
	uid_t uid;
	gid_t gid;
	pid_t pid; /* the thread; 0 where it is not known */
};

/* What there is to know of a node. */
struct snap_attr {
	struct stat st;
	bool sealed; /* will not change behind the kernel's back */
};

/* Another reference to a node; `n` fewer. */
SnapNode *snap_node_ref(SnapNode *node);
void snap_node_unref(SnapNode *node, uint64_t n);

/* A number that no other node of this tree ever has. */
uint64_t snap_node_serial(const SnapNode *node);

/* The node `name` of a folder: a new reference. -ENOENT. */
int snap_node_lookup(SnapNode *folder, const char *name,
		     const struct snap_caller *caller, SnapNode **ret_node,
		     struct snap_attr *ret_attr);

/* What there is to know of a node; `handle`, if not NULL, is an open one of
 * it. */
int snap_node_getattr(SnapNode *node, SnapHandle *handle,
		      struct snap_attr *ret_attr);

/* What to change. */
enum snap_set {
	SNAP_SET_MODE = 1 << 0,
	SNAP_SET_UID = 1 << 1,
	SNAP_SET_GID = 1 << 2,
	SNAP_SET_SIZE = 1 << 3,
	SNAP_SET_ATIME = 1 << 4, /* UTIME_NOW counts */
	SNAP_SET_MTIME = 1 << 5,
};

/* Changes what `set` names to what `st` says. */
int snap_node_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
		      const struct stat *st, struct snap_attr *ret_attr);

/* The target of a symbolic link, cut to `size` bytes with its NUL. */
int snap_node_readlink(SnapNode *node, char *ret, size_t size);

/* ---- names in a folder (names.c) ---- */

/* Makes a folder, a symbolic link to `target`, another name for `node`, or any
 * other node (mknod); the result is a new reference. */
int snap_node_mkdir(SnapNode *folder, const char *name, mode_t mode,
		    const struct snap_caller *caller, SnapNode **ret_node,
		    struct snap_attr *ret_attr);
/* A symbolic link to `target`. */
int snap_node_symlink(SnapNode *folder, const char *name, const char *target,
		      const struct snap_caller *caller, SnapNode **ret_node,
		      struct snap_attr *ret_attr);
/* Another name for `node`. */
int snap_node_link(SnapNode *node, SnapNode *folder, const char *name,
		   SnapNode **ret_node, struct snap_attr *ret_attr);
/* A file, fifo, socket or device. */
int snap_node_mknod(SnapNode *folder, const char *name, mode_t mode, dev_t dev,
		    const struct snap_caller *caller, SnapNode **ret_node,
		    struct snap_attr *ret_attr);

/* Makes a file and opens it; `flags` as open(2). */
int snap_node_create(SnapNode *folder, const char *name, int flags, mode_t mode,
		     const struct snap_caller *caller, SnapNode **ret_node,
		     struct snap_attr *ret_attr, SnapHandle **ret_handle);

/* Removes a name, an empty folder, or moves a name (renameat2's flags). */
int snap_node_unlink(SnapNode *folder, const char *name);
/* Removes an empty folder. */
int snap_node_rmdir(SnapNode *folder, const char *name);
/* Moves a name; `flags` are those of renameat2(2). */
int snap_node_rename(SnapNode *folder, const char *name, SnapNode *to_folder,
		     const char *to_name, unsigned flags);

/* ---- listing (list.c) ---- */

/* A name as it is listed; type is DT_DIR and the like. */
struct snap_listed {
	const char *name;
	uint64_t ino;
	unsigned type;
};

/* The names of a folder as they were when it was listed. */
typedef struct SnapList SnapList;

/* Lists a folder. */
int snap_node_list(SnapNode *folder, SnapList **ret_list);
void snap_list_free(SnapList *list);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapList, snap_list_free)

/* Name number `i` from 0 on; false at the end. */
bool snap_list_get(const SnapList *list, uint64_t i,
		   struct snap_listed *ret_listed);

/* Makes the names of a folder durable. */
int snap_node_sync(SnapNode *folder);

/* ---- extended attributes (xattr.c) ---- */

/* As getxattr(2) and its like: with size 0, the size there would be. */
ssize_t snap_node_getxattr(SnapNode *node, const char *name, void *ret,
			   size_t size);
/* The names, each with its NUL. */
ssize_t snap_node_listxattr(SnapNode *node, char *ret, size_t size);
/* Sets one; those of snapfs itself are -EPERM. */
int snap_node_setxattr(SnapNode *node, const char *name, const void *value,
		       size_t size, int flags);
/* Removes one; those of snapfs itself are -EPERM. */
int snap_node_removexattr(SnapNode *node, const char *name);

/* ---- open files ---- */

/* Opens a node; `flags` as open(2). -ESTALE asks the caller to look the name up
 * once more and open what it then is. */
int snap_node_open(SnapNode *node, int flags, const struct snap_caller *caller,
		   SnapHandle **ret_handle);

/* What the kernel may keep of an open file. */
enum snap_handle_mode {
	SNAP_HANDLE_CACHED, /* pages, until the file is opened again */
	SNAP_HANDLE_KEPT,   /* pages, for good */
	SNAP_HANDLE_DIRECT, /* nothing */
};
enum snap_handle_mode snap_handle_mode(const SnapHandle *handle);

/* Reads up to `size` bytes: their count, less only at the end. */
ssize_t snap_handle_read(SnapHandle *handle, void *buf, size_t size,
			 uint64_t offset);

/* Told the outcome of a write; from any thread, also from within the call. */
typedef void (*snap_handle_answer)(void *data, ssize_t result);

/* Writes `size` bytes, which are copied before it returns. */
void snap_handle_write(SnapHandle *handle, const void *buf, size_t size,
		       uint64_t offset, snap_handle_answer answer, void *data);

/* Says who is going to write: a number that tells a process from others, also
 * from a child that it forked; 0 where that is not known. */
void snap_handle_writer(SnapHandle *handle, uint64_t process);

/* close(2) of one of the handle's descriptors by a process: answers 0, -EPROTO
 * when what was written of a stream is not a whole one, or -EPERM when it is
 * not what the snapshot has. A process that has not written is told 0, and so
 * is whoever writes mapped-ram: QEMU aborts when a channel cannot be closed. */
void snap_handle_flush(SnapHandle *handle, uint64_t process,
		       snap_handle_answer answer, void *data);

/* fsync or, with `data_only`, fdatasync. */
void snap_handle_sync(SnapHandle *handle, bool data_only,
		      snap_handle_answer answer, void *data);

/* lseek with SEEK_DATA or SEEK_HOLE. */
int64_t snap_handle_seek(SnapHandle *handle, int64_t offset, int whence);

/* fallocate(2). */
int snap_handle_allocate(SnapHandle *handle, int mode, int64_t offset,
			 int64_t length);

/* Closes it. Never waits for a save; that of a `ram` whose reads taught
 * something writes a small file. */
void snap_handle_close(SnapHandle *handle);
