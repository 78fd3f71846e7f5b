/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the mount shows as it lies in the store: folders and ordinary files.
 *
 * A node knows the folder that its file lies in, and its name there, and opens
 * it again when it is needed (descriptor.c). Files that a process has open
 * leave the last descriptors that this process may have to folders, snapshots
 * and saves.
 */
#pragma once

#include "format/base/beneath.h"
#include "fs/catalog/catalog.h"
#include "fs/node/idle.h"
#include "fs/node/kind.h"

typedef struct SnapPlain SnapPlain;

/* The store of `catalog`, which is borrowed, as nodes of `nodes`. -errno. */
int snap_plain_open(SnapNodes *nodes, SnapCatalog *catalog,
		    SnapPlain **ret_plain, GError **error);
/* All its nodes must be gone. */
void snap_plain_free(SnapPlain *plain);

/* The top folder of the store; not a new reference. */
SnapNode *snap_plain_root(SnapPlain *plain);

/* True when this process may give files to other users. */
bool snap_plain_privileged(const SnapPlain *plain);

/* A node of the store; kinds of ordinary files embed it. */
typedef struct {
	SnapNode node;
	SnapPlain *plain;
	mode_t type;
	SnapNode *parent; /* a reference; NULL: the top folder. Protected by the
			     lock of `plain`, as the rest */
	char *name;	  /* in it */
	int fd;		  /* O_PATH; -1: none */
	struct snap_idle_place place;
} SnapStoreNode;

/* A node of the store, seen as one. */
static inline SnapStoreNode *snap_store_node(SnapNode *node)
{
	return (SnapStoreNode *)node;
}

/* ---- what tells files apart, and descriptors (descriptor.c) ---- */

/* What lies in the store at a moment. */
struct snap_store_look {
	uint64_t dev;
	uint64_t ino;
	uint64_t birth; /* 0: not known */
	mode_t mode;
	uint64_t size;
	int64_t mtime_sec;
	int64_t mtime_nsec;
};

/* Looks at `name` in the folder `fd`, or at `fd` itself with "". -errno. */
int snap_store_look(int fd, const char *name, struct snap_store_look *ret);

/* The key of the node of a file or folder, which fills this many words. Kinds
 * of ordinary files fill these words likewise. */
#define SNAP_STORE_WORDS 4
struct snap_node_key snap_store_key(const struct snap_store_look *look);

/* A new descriptor of the file of a node, O_PATH unless a process has the file
 * open. -ESTALE where the file is gone or was moved without this mount, -errno.
 */
int snap_store_open(SnapNode *node);

/* Makes a node of `fresh`, whose key, operations and type are set, and whose
 * descriptor `fd` is taken over: a new reference to it or to the node that
 * there is already. */
SnapNode *snap_store_intern(SnapPlain *plain, SnapStoreNode *fresh, int fd,
			    SnapNode *folder, const char *name);

/* The path of a node within the store, for people; g_free. */
char *snap_store_path(SnapNode *node);

/* The clear operation of nodes of the store, and of those that embed it. */
SnapNode *snap_store_clear(SnapNode *node);

/* ---- nodes of the store (plain.c) ---- */

/* getattr of a node of the store. */
int snap_store_getattr(SnapNode *node, SnapHandle *handle,
		       struct snap_attr *ret_attr);

/* True when the file of a node is that of the descriptor. */
bool snap_store_is(SnapNode *node, int fd);

/* Changes all attributes but the size of the file of an O_PATH descriptor. */
int snap_store_setattr(int path_fd, unsigned set, const struct stat *st);

/* Descriptors that the process may have. */
uint64_t snap_plain_descriptors(void);

/* False when so many files are open that `fd`, of a file that a process opens,
 * must be closed again: -ENFILE. */
bool snap_plain_fd_fits(const SnapPlain *plain, int fd);

/* ---- folders (folder.c) ---- */

extern const struct snap_node_ops snap_folder_ops;

/* True for a folder of the store. */
static inline bool snap_is_folder(const SnapNode *node)
{
	return node->ops == &snap_folder_ops;
}

/* The node `name` of a folder: a new reference. -ENOENT, -ENFILE, -errno. */
int snap_folder_child(SnapNode *folder, const char *name, SnapNode **ret_node);

/* The path of `name` (or, with NULL, of the folder) within the store, for
 * people; g_free. */
char *snap_folder_path(SnapNode *folder, const char *name);

/* Who owns what `caller` makes in a folder. */
struct snap_catalog_owner snap_folder_owner(SnapNode *folder, mode_t mode,
					    const struct snap_caller *caller);

/* Tells the kernel that the names of a snapshot in a folder stand for other
 * nodes. */
void snap_folder_changed(SnapNode *folder);

/* Makes the names in a folder durable. */
int snap_folder_sync(SnapNode *folder);

/* ---- what is made in a folder (make.c) ---- */

/* Makes anything but a file that is opened; owner and group of `what` do not
 * count. -ESTALE where the name stands for something else already. */
int snap_folder_make(SnapNode *folder, const char *name,
		     const struct snap_new *what,
		     const struct snap_caller *caller, SnapNode **ret_node,
		     struct snap_attr *ret_attr);

/* Makes a file and opens it, `flags` as open(2): its descriptor. -EEXIST, or
 * -ESTALE without O_EXCL, where the name exists. */
int snap_folder_make_file(SnapNode *folder, const char *name, int flags,
			  mode_t mode, const struct snap_caller *caller);

/* ---- ordinary files (ordinary.c) ---- */

/* True for an ordinary file, symbolic link or the like. */
bool snap_is_ordinary(const SnapNode *node);

/* The operations of its nodes. */
extern const struct snap_node_ops snap_ordinary_ops;

/* Another name in `folder` for the file of `node`. -EPERM when that is no file
 * of the store. */
int snap_ordinary_link(SnapNode *node, SnapNode *folder, const char *name);

/* The target of a symbolic link, cut to `size` bytes with its NUL. -EINVAL for
 * any other node. */
int snap_ordinary_readlink(SnapNode *node, char *ret, size_t size);

/* An open ordinary file, and its operations. */
struct snap_ordinary_handle {
	SnapHandle handle;
	int fd;
};
static inline int snap_ordinary_fd(SnapHandle *handle)
{
	return ((struct snap_ordinary_handle *)handle)->fd;
}
ssize_t snap_ordinary_read(SnapHandle *handle, void *buf, size_t size,
			   uint64_t offset);
void snap_ordinary_write(SnapHandle *handle, const void *buf, size_t size,
			 uint64_t offset, snap_handle_answer answer,
			 void *data);
int snap_ordinary_truncate(SnapHandle *handle, uint64_t size);
void snap_ordinary_sync(SnapHandle *handle, bool data_only,
			snap_handle_answer answer, void *data);
int64_t snap_ordinary_seek(SnapHandle *handle, int64_t offset, int whence);
int snap_ordinary_allocate(SnapHandle *handle, int mode, int64_t offset,
			   int64_t length);

/* Opens the file of a node anew: a descriptor, or -errno. */
int snap_ordinary_reopen(SnapNode *node, int flags);

/* setattr of an ordinary file. */
int snap_ordinary_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
			  const struct stat *st);

/* A handle on `fd`, which is taken over. */
SnapHandle *snap_ordinary_handle_new(SnapNode *node, int fd);

/* ---- extended attributes of the store's files (xattr.c) ---- */

/* As getxattr(2) and its like, without access control lists: snapfs checks
 * permissions by the mode alone. -ENODATA, -EOPNOTSUPP where a node has none.
 */
ssize_t snap_store_getxattr(SnapNode *node, const char *name, void *ret,
			    size_t size);
int snap_store_setxattr(SnapNode *node, const char *name, const void *value,
			size_t size, int flags);
int snap_store_removexattr(SnapNode *node, const char *name);

/* Who owns a folder or an ordinary file in the store, and its mode, as
 * UID:GID:MODE; NULL for any other node; g_free. */
char *snap_store_owner(SnapNode *node);

/* Appends the names, each with its NUL, but for those that are `hidden`. */
int snap_store_listxattr(SnapNode *node, GString *names,
			 bool (*hidden)(const char *name));
