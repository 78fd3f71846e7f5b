/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Folders of the store, and the nodes in them. */
#include "fs/plain/plain-internal.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"

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

int snap_folder_node(SnapPlain *plain, int fd, SnapNode **ret_node)
{
	snap_autofd int own = fd;
	struct stat st;

	if (fstatat(fd, "", &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return snap_ordinary_node(plain, snap_steal_fd(&own), &st,
					  ret_node);
	*ret_node = folder_node(plain, snap_steal_fd(&own), &st);
	return 0;
}

int snap_folder_child(SnapNode *folder, const char *name, SnapNode **ret_node)
{
	int fd = snap_open_below(snap_folder_fd(folder), name, O_PATH, 0);

	return fd < 0 ? fd
		      : snap_folder_node(snap_store_node(folder)->plain, fd,
					 ret_node);
}

int snap_plain_open(SnapNodes *nodes, SnapCatalog *catalog,
		    SnapPlain **ret_plain, GError **error)
{
	snap_autofd int fd = snap_open_below(snap_catalog_fd(catalog), ".",
					     O_PATH | O_DIRECTORY, 0);
	SnapPlain *plain;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return snap_fail_errno(error, fd < 0 ? -fd : errno, "store %s",
				       snap_catalog_path(catalog));
	plain = g_new0(SnapPlain, 1);
	snap_plain_init(plain, nodes, catalog);
	plain->root = folder_node(plain, snap_steal_fd(&fd), &st);
	snap_node_known(snap_node_ref(plain->root));
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

void snap_folder_changed(SnapNode *folder)
{
	for (guint i = 0; snap_catalog_views[i]; i++)
		snap_node_changed(folder, snap_catalog_views[i]);
}

int snap_folder_sync(SnapNode *folder)
{
	snap_autofd int fd = snap_open_folder(snap_folder_fd(folder));

	if (fd < 0)
		return fd;
	return fsync(fd) < 0 ? -errno : 0;
}
