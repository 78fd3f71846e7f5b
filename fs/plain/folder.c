/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Folders of the store, and the nodes in them. */
#include "fs/plain/plain-internal.h"

#include <fcntl.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"

static int folder_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
			  const struct stat *st)
{
	snap_autofd int fd = -1;

	if (set & SNAP_SET_SIZE)
		return -EISDIR;
	fd = snap_store_open(node);
	return fd < 0 ? fd : snap_store_setattr(fd, set, st);
}

const struct snap_node_ops snap_folder_ops = {
	.getattr = snap_store_getattr,
	.setattr = folder_setattr,
	.clear = snap_store_clear,
};

/* The node of a file or folder whose descriptor is `fd`, which is taken over.
 */
static SnapNode *store_node(SnapPlain *plain, int fd,
			    const struct snap_store_look *look,
			    SnapNode *folder, const char *name)
{
	SnapStoreNode *fresh = g_new0(SnapStoreNode, 1);

	fresh->node.ops =
		S_ISDIR(look->mode) ? &snap_folder_ops : &snap_ordinary_ops;
	fresh->node.key = snap_store_key(look);
	fresh->type = look->mode & S_IFMT;
	return snap_store_intern(plain, fresh, fd, folder, name);
}

int snap_folder_node(SnapNode *folder, const char *name, int fd,
		     SnapNode **ret_node)
{
	snap_autofd int own = fd;
	struct snap_store_look look;
	int r = snap_store_look(fd, "", &look);

	if (r < 0)
		return r;
	*ret_node = store_node(snap_store_node(folder)->plain,
			       snap_steal_fd(&own), &look, folder, name);
	return 0;
}

int snap_folder_child(SnapNode *folder, const char *name, SnapNode **ret_node)
{
	snap_autofd int at = snap_store_open(folder);
	int fd = at < 0 ? at : snap_open_below(at, name, O_PATH, 0);

	return fd < 0 ? fd : snap_folder_node(folder, name, fd, ret_node);
}

int snap_plain_open(SnapNodes *nodes, SnapCatalog *catalog,
		    SnapPlain **ret_plain, GError **error)
{
	snap_autofd int fd = snap_open_below(snap_catalog_fd(catalog), ".",
					     O_PATH | O_DIRECTORY, 0);
	struct snap_store_look look;
	SnapPlain *plain;
	int r = fd < 0 ? fd : snap_store_look(fd, "", &look);

	if (r < 0)
		return snap_fail_errno(error, -r, "store %s",
				       snap_catalog_path(catalog));
	plain = g_new0(SnapPlain, 1);
	snap_plain_init(plain, nodes, catalog);
	plain->root = store_node(plain, snap_steal_fd(&fd), &look, NULL, NULL);
	snap_node_known(snap_node_ref(plain->root));
	*ret_plain = plain;
	return 0;
}

char *snap_folder_path(SnapNode *folder, const char *name)
{
	g_autofree char *path = snap_store_path(folder);

	if (!name)
		return g_steal_pointer(&path);
	return *path ? g_strdup_printf("%s/%s", path, name) : g_strdup(name);
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
	snap_autofd int at = snap_store_open(folder);
	snap_autofd int fd = at < 0 ? at : snap_open_folder(at);

	if (fd < 0)
		return fd;
	return fsync(fd) < 0 ? -errno : 0;
}
