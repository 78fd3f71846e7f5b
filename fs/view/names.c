/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names made, moved and removed in a folder.
 *
 * Ordinary names go to the store as they are. Names of snapfs's own are refused
 * (EPERM, with a line in the log); so are those of views, but for what a user
 * means by them: making `stream` or `mapped` begins a save, making another view
 * a part of a snapshot to be; removing a view hides it, and making it again
 * compares what is written; moving to or from one is EXDEV, upon which mv and
 * rsync copy instead.
 */
#include "fs/view/writing-internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/log.h"

/* Refuses a name, and says so. */
static int refuse(SnapNode *folder, const char *name, const char *why)
{
	g_autofree char *path = snap_folder_path(folder, name);

	snap_log(SNAP_LOG_WARNING, "%s: %s", path, why);
	return -EPERM;
}

/* Whether anything at all may be changed in this folder. */
static int check_folder(SnapNode *folder)
{
	snap_count(folder->tree, SNAP_COUNT_NAME);
	if (folder->tree->read_only)
		return -EROFS;
	return snap_is_folder(folder) ? 0 : -EPERM;
}

/* Whether an ordinary file or folder may be given this name. */
static int check_new(SnapNode *folder, const char *name)
{
	int r = check_folder(folder);

	if (r < 0)
		return r;
	switch (snap_tree_name(name, NULL)) {
	case SNAP_NAME_PRIVATE:
		return refuse(folder, name,
			      "this name is kept by snapfs for itself");
	case SNAP_NAME_VIEW:
		return refuse(folder, name,
			      "this name is kept for a view of a snapshot");
	default:
		return 0;
	}
}

/* Gives what was made to who made it. */
static int give(SnapNode *folder, SnapStoreNode *made, mode_t mode,
		const struct snap_caller *caller)
{
	struct snap_catalog_owner owner;
	struct stat st = { 0 };
	unsigned set = SNAP_SET_UID | SNAP_SET_GID;

	if (!folder->tree->privileged)
		return 0;
	owner = snap_owner_new(folder, mode, caller);
	st.st_uid = owner.uid;
	st.st_gid = owner.gid;
	/* A change of owner takes these bits away. */
	st.st_mode = mode & 07777;
	if (!S_ISDIR(made->type) && !S_ISLNK(made->type) &&
	    (mode & (S_ISUID | S_ISGID)))
		set |= SNAP_SET_MODE;
	return snap_store_setattr(made->fd, set, &st);
}

/* The node of what was just made; it goes again when that fails. */
static int made(SnapNode *folder, const char *name, mode_t mode,
		const struct snap_caller *caller, SnapNode **ret_node,
		struct snap_attr *ret_attr)
{
	SnapNode *node;
	int view, r;

	r = snap_tree_name(name, &view) == SNAP_NAME_VIEW
		    ? snap_part_lookup(folder, snap_views[view], &node)
		    : snap_folder_child(folder, name, &node);
	if (r < 0)
		return r;
	r = give(folder, snap_store_node(node), mode, caller);
	if (r == 0)
		r = snap_node_getattr(node, NULL, ret_attr);
	if (r < 0) {
		unlinkat(snap_store_node(folder)->fd, name,
			 snap_is_folder(node) ? AT_REMOVEDIR : 0);
		snap_node_unref(node, 1);
		return r;
	}
	*ret_node = node;
	return 0;
}

int snap_node_mkdir(SnapNode *folder, const char *name, mode_t mode,
		    const struct snap_caller *caller, SnapNode **ret_node,
		    struct snap_attr *ret_attr)
{
	int r = check_new(folder, name);

	if (r == 0 &&
	    mkdirat(snap_store_node(folder)->fd, name, mode & 07777) < 0)
		r = -errno;
	if (r == 0)
		r = made(folder, name, mode, caller, ret_node, ret_attr);
	if (r == 0)
		snap_makers_folder(*ret_node, caller);
	return r;
}

int snap_node_symlink(SnapNode *folder, const char *name, const char *target,
		      const struct snap_caller *caller, SnapNode **ret_node,
		      struct snap_attr *ret_attr)
{
	int r = check_new(folder, name);

	if (r == 0 && symlinkat(target, snap_store_node(folder)->fd, name) < 0)
		r = -errno;
	return r < 0 ? r : made(folder, name, 0, caller, ret_node, ret_attr);
}

int snap_node_mknod(SnapNode *folder, const char *name, mode_t mode, dev_t dev,
		    const struct snap_caller *caller, SnapNode **ret_node,
		    struct snap_attr *ret_attr)
{
	SnapHandle *handle;
	int r;

	/* Whoever wants its attributes set before its bytes makes it so (tar).
	 */
	if (S_ISREG(mode) && snap_tree_name(name, NULL) == SNAP_NAME_VIEW) {
		r = snap_node_create(folder, name, O_WRONLY | O_EXCL, mode,
				     caller, ret_node, ret_attr, &handle);
		if (r == 0)
			snap_handle_close(handle);
		return r;
	}
	r = check_new(folder, name);
	if (r == 0 && mknodat(snap_store_node(folder)->fd, name, mode, dev) < 0)
		r = -errno;
	return r < 0 ? r : made(folder, name, mode, caller, ret_node, ret_attr);
}

int snap_node_link(SnapNode *node, SnapNode *folder, const char *name,
		   SnapNode **ret_node, struct snap_attr *ret_attr)
{
	char path[SNAP_PROC_PATH];
	int r = check_new(folder, name);

	if (r < 0)
		return r;
	if (!node->ops->is_store)
		return refuse(folder, name,
			      "a view of a snapshot cannot have two names");
	snap_proc_path(path, snap_store_node(node)->fd);
	if (linkat(AT_FDCWD, path, snap_store_node(folder)->fd, name,
		   AT_SYMLINK_FOLLOW) < 0)
		return -errno;
	r = snap_node_getattr(node, NULL, ret_attr);
	if (r == 0)
		*ret_node = snap_node_ref(node);
	return r;
}

/* ---- creating ---- */

/* Opens what a view that is not seen is written by: the snapshot that is there
 * and has it hidden, or a stream. */
static int open_view(SnapNode *folder, guint view, SnapSealed *sealed,
		     mode_t mode, const struct snap_caller *caller,
		     SnapHandle **ret_handle)
{
	struct snap_catalog_owner owner = snap_owner_new(folder, mode, caller);

	if (sealed && snap_views[view] != &snap_view_stream)
		return snap_compare_create(folder, sealed, view, ret_handle);
	*ret_handle = snap_writers_open(folder, snap_views[view], &owner, NULL);
	return 0;
}

static int create_view(SnapNode *folder, guint view, SnapSealed *sealed,
		       mode_t mode, const struct snap_caller *caller,
		       SnapNode **ret_node, struct snap_attr *ret_attr,
		       SnapHandle **ret_handle)
{
	SnapHandle *handle;
	int r = open_view(folder, view, sealed, mode, caller, &handle);

	if (r < 0)
		return r;
	r = snap_node_getattr(handle->node, handle, ret_attr);

	if (r < 0) {
		snap_handle_close(handle);
		return r;
	}
	*ret_node = snap_node_ref(handle->node);
	*ret_handle = handle;
	return 0;
}

static int create_plain(SnapNode *folder, const char *name, int flags,
			mode_t mode, const struct snap_caller *caller,
			SnapNode **ret_node, struct snap_attr *ret_attr,
			SnapHandle **ret_handle)
{
	snap_autofd int fd =
		openat(snap_store_node(folder)->fd, name,
		       (flags & (O_ACCMODE | O_EXCL | O_SYNC | O_DSYNC)) |
			       O_CREAT | O_NOFOLLOW | O_CLOEXEC,
		       mode & 07777);
	int r = fd < 0 ? -errno
		       : made(folder, name, mode, caller, ret_node, ret_attr);

	if (r < 0)
		return r;
	*ret_handle =
		snap_tree_name(name, NULL) == SNAP_NAME_VIEW
			? snap_part_handle(*ret_node, snap_steal_fd(&fd), true)
			: snap_plain_handle(*ret_node, snap_steal_fd(&fd));
	return 0;
}

/* What is done before a view is made: *ret_sealed is the snapshot that is
 * there, or NULL. */
static int begin_view(SnapNode *folder, guint view, int flags,
		      const struct snap_caller *caller, SnapSealed **ret_sealed)
{
	int r;

	if (snap_views[view]->part)
		snap_parts_wait(folder);
	snap_makers_note(folder, view, flags & O_EXCL, caller);
	r = snap_sealed_get(folder, ret_sealed);
	return r == -ENOENT ? 0 : r;
}

int snap_node_create(SnapNode *folder, const char *name, int flags, mode_t mode,
		     const struct snap_caller *caller, SnapNode **ret_node,
		     struct snap_attr *ret_attr, SnapHandle **ret_handle)
{
	g_autoptr(SnapSealed) sealed = NULL;
	int view, r = check_folder(folder);

	if (r < 0)
		return r;
	snap_count(folder->tree, SNAP_COUNT_OPEN);
	if (snap_tree_name(name, &view) == SNAP_NAME_VIEW) {
		r = begin_view(folder, (guint)view, flags, caller, &sealed);
		if (r < 0)
			return r;
		if (sealed || snap_views[view]->saves)
			return create_view(folder, (guint)view, sealed, mode,
					   caller, ret_node, ret_attr,
					   ret_handle);
	} else {
		r = check_new(folder, name);
	}
	return r < 0 ? r
		     : create_plain(folder, name, flags, mode, caller, ret_node,
				    ret_attr, ret_handle);
}

/* ---- removing ---- */

/* Hides a view of the snapshot; with the last one the snapshot goes. */
static int hide(SnapNode *folder, SnapSealed *sealed, guint view)
{
	g_autofree char *path = NULL;
	struct stat st;
	int r;

	snap_hidden_add(sealed, view);
	for (guint i = 0; i < snap_n_views; i++)
		if (snap_sealed_shows(sealed, i))
			return 0;
	snap_hidden_drop(sealed);
	/* A newer one may have taken its place just now. */
	if (fstatat(snap_store_node(folder)->fd, SNAP_CATALOG_SNAPSHOT, &st,
		    AT_SYMLINK_NOFOLLOW) < 0 ||
	    st.st_dev != sealed->key.dev || st.st_ino != sealed->key.ino)
		return 0;
	r = snap_catalog_remove(snap_store_node(folder)->fd);
	path = snap_folder_path(folder, NULL);
	if (r < 0)
		snap_log(SNAP_LOG_ERROR, "%s: cannot be removed: %s", path,
			 g_strerror(-r));
	else
		snap_log(SNAP_LOG_INFO, "%s: removed", path);
	return r;
}

static int unlink_part(SnapNode *folder, guint view)
{
	const struct snap_view *v = snap_views[view];

	if (!snap_part_stat(folder, v, NULL))
		return -ENOENT;
	return unlinkat(snap_store_node(folder)->fd, v->name, 0) < 0 ? -errno
								     : 0;
}

/* Ends a stream on its way, if there is one and, with `begun`, something of it
 * was written. */
static bool remove_incoming(SnapNode *folder, guint view, bool begun)
{
	SnapIncoming *in = snap_views[view]->saves
				   ? snap_writers_find(folder, snap_views[view])
				   : NULL;
	bool is = in && (!begun || snap_incoming_begun(in));

	if (is)
		snap_incoming_remove(in);
	if (in)
		snap_node_unref(&in->node, 1);
	return is;
}

static int unlink_view(SnapNode *folder, guint view)
{
	g_autoptr(SnapSealed) sealed = NULL;
	int r = snap_sealed_get(folder, &sealed);

	if (r < 0 && r != -ENOENT)
		return r;
	/* What comes goes first: then what it was to replace is still there. */
	if (remove_incoming(folder, view, r == 0))
		return 0;
	if (r == 0 && snap_sealed_shows(sealed, view))
		return hide(folder, sealed, view);
	if (remove_incoming(folder, view, false))
		return 0;
	return r == -ENOENT ? unlink_part(folder, view) : -ENOENT;
}

int snap_node_unlink(SnapNode *folder, const char *name)
{
	int view, r = check_folder(folder);

	if (r < 0)
		return r;
	switch (snap_tree_name(name, &view)) {
	case SNAP_NAME_PRIVATE:
		return refuse(folder, name, "is kept by snapfs for itself");
	case SNAP_NAME_VIEW:
		return unlink_view(folder, (guint)view);
	default:
		return unlinkat(snap_store_node(folder)->fd, name, 0) < 0
			       ? -errno
			       : 0;
	}
}

/* Removes what snapfs left in a folder that looks empty: the note of a save
 * that failed, a side file whose snapshot is gone. False when anything else
 * lies there; a file that the mount does not show is named in the log. */
static bool clear_leftovers(SnapNode *parent, const char *name)
{
	int fd = openat(snap_store_node(parent)->fd, name,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	g_autofree char *path = NULL;
	g_autofree char *other = NULL;
	struct dirent *d;

	if (!dir) {
		snap_close_fd(&fd);
		return false;
	}
	while (!other && (d = readdir(dir)) != NULL)
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..") &&
		    strcmp(d->d_name, SNAP_CATALOG_ERROR) &&
		    strcmp(d->d_name, SNAP_CATALOG_PREAMBLE))
			other = g_strdup(d->d_name);
	if (!other) {
		unlinkat(dirfd(dir), SNAP_CATALOG_ERROR, 0);
		snap_catalog_preamble_drop(dirfd(dir));
	}
	closedir(dir);
	if (other && snap_tree_name(other, NULL) != SNAP_NAME_ORDINARY &&
	    strcmp(other, SNAP_CATALOG_SNAPSHOT)) {
		path = snap_folder_path(parent, name);
		snap_log(SNAP_LOG_WARNING,
			 "%s: is not empty: the store has a file %s in it "
			 "which the mount does not show",
			 path, other);
	}
	return !other;
}

/* True when a stream is on its way into the folder. */
static bool is_written(SnapNode *parent, const char *name)
{
	SnapNode *folder;
	bool written = false;

	if (snap_folder_child(parent, name, &folder) < 0)
		return false;
	for (guint i = 0; snap_is_folder(folder) && i < snap_n_views; i++) {
		SnapIncoming *in =
			snap_views[i]->saves
				? snap_writers_find(folder, snap_views[i])
				: NULL;

		if (!in)
			continue;
		written = true;
		snap_node_unref(&in->node, 1);
	}
	snap_node_unref(folder, 1);
	return written;
}

int snap_node_rmdir(SnapNode *folder, const char *name)
{
	int fd, r = check_folder(folder);

	if (r < 0)
		return r;
	if (snap_tree_name(name, NULL) != SNAP_NAME_ORDINARY)
		return refuse(folder, name, "is kept by snapfs for itself");
	if (is_written(folder, name))
		return -ENOTEMPTY;
	fd = snap_store_node(folder)->fd;
	/* A save that was cut off just now may note so between the two. */
	for (int tries = 0; tries < 8; tries++) {
		if (unlinkat(fd, name, AT_REMOVEDIR) == 0)
			return 0;
		r = -errno;
		if ((r != -ENOTEMPTY && r != -EEXIST) ||
		    !clear_leftovers(folder, name))
			break;
	}
	return r;
}

/* ---- moving ---- */

/* Whether a name may be moved, and to that name. */
static int check_move(SnapNode *folder, const char *name, SnapNode *to_folder,
		      const char *to_name)
{
	int r = check_folder(folder);
	struct stat st;

	if (r == 0)
		r = check_folder(to_folder);
	if (r < 0)
		return r;
	switch (snap_tree_name(name, NULL)) {
	case SNAP_NAME_PRIVATE:
		return refuse(folder, name, "is kept by snapfs for itself");
	case SNAP_NAME_VIEW:
		return -EXDEV;
	default:
		break;
	}
	if (snap_tree_name(to_name, NULL) == SNAP_NAME_VIEW &&
	    fstatat(snap_store_node(folder)->fd, name, &st,
		    AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode))
		return -EXDEV;
	return check_new(to_folder, to_name);
}

int snap_node_rename(SnapNode *folder, const char *name, SnapNode *to_folder,
		     const char *to_name, unsigned flags)
{
	int r = check_move(folder, name, to_folder, to_name);

	if (r < 0)
		return r;
	/* The folder of a save would go while it looks empty. */
	if (!(flags & RENAME_EXCHANGE) && is_written(to_folder, to_name))
		return flags & RENAME_NOREPLACE ? -EEXIST : -ENOTEMPTY;
	for (int tries = 0; tries < 2; tries++) {
		if (renameat2(snap_store_node(folder)->fd, name,
			      snap_store_node(to_folder)->fd, to_name,
			      flags) == 0)
			return 0;
		r = -errno;
		if ((r != -ENOTEMPTY && r != -EEXIST) || flags ||
		    !clear_leftovers(to_folder, to_name))
			break;
	}
	return r;
}
