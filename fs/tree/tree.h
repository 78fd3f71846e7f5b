/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree: a store as the mount shows it, and what each name in it stands for.
 *
 * A name in a folder is an ordinary file or folder of the store, a view of the
 * snapshot in the folder, a stream on its way in, or a part that is being
 * copied. fs/fuse, which speaks the kernel's protocol, sees only this header
 * and fs/node.
 *
 * Functions may be called from any thread, return 0 (or a count) or -errno, and
 * have logged what a person should know. Nodes and lists they return are to be
 * given back.
 */
#pragma once

#include <sys/statvfs.h>

#include "fs/catalog/catalog.h"
#include "fs/load/pages.h"
#include "fs/node/node.h"
#include "fs/save/save.h"

typedef struct SnapTree SnapTree;

/* ---- the tree (tree.c) ---- */

struct snap_tree_opts {
	SnapCatalog *catalog; /* all three are borrowed */
	SnapSaver *saver;     /* NULL when the store is read-only */
	SnapLoader *loader;
	const char *point; /* where it is mounted, as its statistics say */
	uid_t uid; /* shown as the owner of every file; -1: the true one */
	gid_t gid;
	mode_t umask; /* permission bits that no file shows */
	/* Opens /proc/PID/NAME, to learn which pages guests need first (see
	 * fs/hot/hot.h); or NULL. */
	int (*open_proc)(pid_t pid, const char *name);
};

/* A tree of the store. -errno. */
int snap_tree_new(const struct snap_tree_opts *opts, SnapTree **ret_tree,
		  GError **error);
/* Handles and nodes that the kernel never gave back go with it. */
void snap_tree_free(SnapTree *tree);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapTree, snap_tree_free)

/* The folder that the mount shows; not a new reference. */
SnapNode *snap_tree_root(SnapTree *tree);

/* The node that the kernel knows by a number: a new reference, or NULL. */
SnapNode *snap_tree_node(SnapTree *tree, uint64_t number);
/* The kernel gives `n` references to it back. */
void snap_tree_forget(SnapTree *tree, uint64_t number, uint64_t n);

/* The path of such a node, or NULL, in the mount, for people; g_free. */
char *snap_tree_path(SnapNode *node);

/* The numbers of statfs. */
int snap_tree_statfs(SnapTree *tree, struct statvfs *ret);

/* The number of the mount's file system, once it is known. */
void snap_tree_mounted(SnapTree *tree, dev_t device);

/* Called when a name stands for another node; see snap_nodes_on_change(). */
void snap_tree_on_change(SnapTree *tree, snap_nodes_changed changed,
			 void *data);

/* Gives the kernel bytes of a node that no process has read yet. -errno when
 * the kernel does not take them. */
typedef int (*snap_tree_push)(void *data, SnapNode *node, uint64_t offset,
			      void *buf, size_t size);
/* Sets that function; NULL: no bytes are given. */
void snap_tree_on_push(SnapTree *tree, snap_tree_push push, void *data);

/* Stops giving bytes, and waits until none are being given. Requests must still
 * be served. */
void snap_tree_end_pushes(SnapTree *tree);

/* Fails the saves that run, and waits a few seconds for their writers to close
 * their files. Requests must still be served. */
void snap_tree_end_saves(SnapTree *tree);

/* Fails the saves that run, and waits until every request was answered. For the
 * end of the mount. */
void snap_tree_drain(SnapTree *tree);

/* ---- names (lookup.c, create.c, remove.c, rename.c) ---- */

/* The node `name` of a folder. -ENOENT. */
int snap_tree_lookup(SnapTree *tree, SnapNode *folder, const char *name,
		     const struct snap_caller *caller, SnapNode **ret_node,
		     struct snap_attr *ret_attr);

/* Makes a folder. */
int snap_tree_mkdir(SnapTree *tree, SnapNode *folder, const char *name,
		    mode_t mode, const struct snap_caller *caller,
		    SnapNode **ret_node, struct snap_attr *ret_attr);
/* Makes a symbolic link to `target`. */
int snap_tree_symlink(SnapTree *tree, SnapNode *folder, const char *name,
		      const char *target, const struct snap_caller *caller,
		      SnapNode **ret_node, struct snap_attr *ret_attr);
/* Makes another name for `node`. */
int snap_tree_link(SnapTree *tree, SnapNode *node, SnapNode *folder,
		   const char *name, SnapNode **ret_node,
		   struct snap_attr *ret_attr);
/* Makes a file, FIFO, socket or device. */
int snap_tree_mknod(SnapTree *tree, SnapNode *folder, const char *name,
		    mode_t mode, dev_t dev, const struct snap_caller *caller,
		    SnapNode **ret_node, struct snap_attr *ret_attr);
/* Makes a file and opens it; `flags` as open(2). */
int snap_tree_create(SnapTree *tree, SnapNode *folder, const char *name,
		     int flags, mode_t mode, const struct snap_caller *caller,
		     SnapNode **ret_node, struct snap_attr *ret_attr,
		     SnapHandle **ret_handle);

/* Opens a node; `flags` as open(2). -ESTALE asks the kernel to look the name up
 * once more and to open what it then stands for. */
int snap_tree_open(SnapTree *tree, SnapNode *node, int flags,
		   const struct snap_caller *caller, SnapHandle **ret_handle);

/* The target of a symbolic link, cut to `size` bytes with its NUL. */
int snap_tree_readlink(SnapTree *tree, SnapNode *node, char *ret, size_t size);

/* Removes a name. */
int snap_tree_unlink(SnapTree *tree, SnapNode *folder, const char *name);
/* Removes an empty folder. */
int snap_tree_rmdir(SnapTree *tree, SnapNode *folder, const char *name);
/* Moves a name; `flags` are those of renameat2(2). The answer is 0 or -errno.
 * It comes later where a save decides it. */
void snap_tree_rename(SnapTree *tree, SnapNode *folder, const char *name,
		      SnapNode *to_folder, const char *to_name, unsigned flags,
		      const struct snap_caller *caller,
		      snap_handle_answer answer, void *data);

/* ---- listing (list.c) ---- */

/* A name as it is listed; type is DT_DIR and the like. */
struct snap_listed {
	const char *name;
	uint64_t ino;
	unsigned type;
};

/* The names in a folder at the moment when it was listed. */
typedef struct SnapList SnapList;

/* Lists a folder. */
int snap_tree_list(SnapTree *tree, SnapNode *folder, SnapList **ret_list);
void snap_list_free(SnapList *list);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapList, snap_list_free)

/* Name number `i`, from 0 on; false at the end. */
bool snap_list_get(const SnapList *list, uint64_t i,
		   struct snap_listed *ret_listed);

/* Makes the names in a folder durable. */
int snap_tree_sync(SnapTree *tree, SnapNode *folder);

/* ---- extended attributes (xattr.c) ---- */

/* As getxattr(2) and its like: with size 0 they return the size needed. */
ssize_t snap_tree_getxattr(SnapTree *tree, SnapNode *node, const char *name,
			   void *ret, size_t size);
/* The names, each with its NUL. */
ssize_t snap_tree_listxattr(SnapTree *tree, SnapNode *node, char *ret,
			    size_t size);
/* Sets one; those of snapfs itself are -EPERM. */
int snap_tree_setxattr(SnapTree *tree, SnapNode *node, const char *name,
		       const void *value, size_t size, int flags);
/* Removes one; those of snapfs itself are -EPERM. */
int snap_tree_removexattr(SnapTree *tree, SnapNode *node, const char *name);
