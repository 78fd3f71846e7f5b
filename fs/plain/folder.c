/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Folders of the store, and the nodes in them. */
#include "fs/plain/plain-internal.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"

static int folder_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
			  const struct stat *st)
{
	if (set & SNAP_SET_SIZE)
		return -EISDIR;
	return snap_store_setattr(snap_folder_fd(node), set, st);
}

static void folder_clear(SnapNode *node)
{
	close(snap_folder_fd(node));
}

const struct snap_node_ops snap_folder_ops = {
	.outlives = true,
	.getattr = snap_store_getattr,
	.setattr = folder_setattr,
	.clear = folder_clear,
};

/* The node of a folder whose descriptor is `fd`, which is taken over. */
static SnapNode *folder_node(SnapPlain *plain, int fd, const struct stat *st)
{
	SnapStoreNode *fresh = g_new0(SnapStoreNode, 1);

	fresh->node.ops = &snap_folder_ops;
	fresh->node.nodes = plain->nodes;
	fresh->node.key = snap_store_key(st);
	fresh->plain = plain;
	fresh->fd = fd;
	fresh->type = S_IFDIR;
	return snap_node_intern(&fresh->node);
}

int snap_folder_child(SnapNode *folder, const char *name, SnapNode **ret_node)
{
	SnapPlain *plain = snap_store_node(folder)->plain;
	snap_autofd int fd = openat(snap_folder_fd(folder), name,
				    O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 ||
	    fstatat(fd, "", &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return snap_ordinary_node(plain, snap_steal_fd(&fd), &st,
					  ret_node);
	*ret_node = folder_node(plain, snap_steal_fd(&fd), &st);
	return 0;
}

int snap_plain_open(SnapNodes *nodes, SnapCatalog *catalog,
		    SnapPlain **ret_plain, GError **error)
{
	snap_autofd int fd = openat(snap_catalog_fd(catalog), ".",
				    O_PATH | O_DIRECTORY | O_CLOEXEC);
	SnapPlain *plain;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return snap_fail_errno(error, errno, "store %s",
				       snap_catalog_path(catalog));
	plain = g_new0(SnapPlain, 1);
	snap_plain_init(plain, nodes, catalog);
	plain->root = folder_node(plain, snap_steal_fd(&fd), &st);
	*ret_plain = plain;
	return 0;
}

char *snap_folder_path(SnapNode *folder, const char *name)
{
	SnapNode *root = snap_store_node(folder)->plain->root;
	char top[PATH_MAX], path[PATH_MAX];
	const char *inner = path;
	size_t length;

	if (!snap_plain_path(snap_folder_fd(root), top, sizeof(top)) ||
	    !snap_plain_path(snap_folder_fd(folder), path, sizeof(path)))
		return g_strdup(name ? name : ".");
	length = strlen(top);
	if (!strncmp(path, top, length) &&
	    (path[length] == '/' || !path[length] || length == 1))
		inner = path + length;
	while (*inner == '/')
		inner++;
	if (!name)
		return g_strdup(inner);
	return *inner ? g_strdup_printf("%s/%s", inner, name) : g_strdup(name);
}

struct snap_catalog_owner snap_folder_owner(SnapNode *folder, mode_t mode,
					    const struct snap_caller *caller)
{
	struct snap_catalog_owner owner = { .uid = caller->uid,
					    .gid = caller->gid,
					    .mode = mode & 0777 };
	struct snap_attr attr = { 0 };

	/* A folder with the set-group-ID bit hands its group on. */
	if (snap_store_getattr(folder, NULL, &attr) == 0 &&
	    (attr.st.st_mode & S_ISGID))
		owner.gid = attr.st.st_gid;
	return owner;
}

/* Sets the owner of a node that was just made. */
static int set_owner(SnapNode *folder, mode_t mode,
		     const struct snap_caller *caller, SnapStoreNode *made)
{
	struct snap_catalog_owner owner =
		snap_folder_owner(folder, mode, caller);
	struct stat st = { .st_uid = owner.uid,
			   .st_gid = owner.gid,
			   .st_mode = mode & 07777 };
	unsigned set = SNAP_SET_UID | SNAP_SET_GID;

	if (!made->plain->privileged)
		return 0;
	/* The kernel clears these bits when the owner changes. */
	if (!S_ISDIR(made->type) && !S_ISLNK(made->type) &&
	    (mode & (S_ISUID | S_ISGID)))
		set |= SNAP_SET_MODE;
	return snap_store_setattr(made->fd, set, &st);
}

int snap_folder_give(SnapNode *folder, const char *name, mode_t mode,
		     const struct snap_caller *caller, SnapNode *node,
		     struct snap_attr *ret_attr)
{
	int r = set_owner(folder, mode, caller, snap_store_node(node));

	if (r == 0)
		r = snap_node_getattr(node, NULL, ret_attr);
	if (r < 0) {
		unlinkat(snap_folder_fd(folder), name,
			 snap_is_folder(node) ? AT_REMOVEDIR : 0);
		snap_node_unref(node, 1);
	}
	return r;
}

void snap_folder_changed(SnapNode *folder)
{
	for (guint i = 0; snap_catalog_views[i]; i++)
		snap_node_changed(folder, snap_catalog_views[i]);
}

int snap_folder_sync(SnapNode *folder)
{
	snap_autofd int fd = openat(snap_folder_fd(folder), ".",
				    O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}
