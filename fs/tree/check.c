/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which names may be made, moved and removed.
 *
 * Ordinary names go to the store as they are. Names that snapfs keeps for
 * itself are refused. Names of views can be made and removed, but only as what
 * they mean: a stream, a part, or a view of the snapshot.
 */
#include "fs/tree/tree-internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/log.h"

enum snap_name snap_name_kind(const char *name)
{
	if (snap_view_find(name))
		return SNAP_NAME_VIEW;
	return snap_catalog_reserved(name) ? SNAP_NAME_PRIVATE
					   : SNAP_NAME_ORDINARY;
}

int snap_name_refuse(SnapNode *folder, const char *name, const char *why)
{
	g_autofree char *path = snap_folder_path(folder, name);

	snap_log(SNAP_LOG_WARNING, "%s: %s", path, why);
	return -EPERM;
}

int snap_name_check_folder(SnapTree *tree, SnapNode *folder)
{
	snap_nodes_count(tree->nodes, SNAP_COUNT_NAME);
	if (tree->read_only)
		return -EROFS;
	return snap_is_folder(folder) ? 0 : -EPERM;
}

int snap_name_check_new(SnapTree *tree, SnapNode *folder, const char *name)
{
	int r = snap_name_check_folder(tree, folder);

	if (r < 0)
		return r;
	switch (snap_name_kind(name)) {
	case SNAP_NAME_PRIVATE:
		return snap_name_refuse(folder, name, SNAP_REFUSE_PRIVATE);
	case SNAP_NAME_VIEW:
		return snap_name_refuse(
			folder, name,
			"snapfs keeps this name for a view of a snapshot");
	default:
		return 0;
	}
}

bool snap_name_is_written(SnapTree *tree, SnapNode *parent, const char *name)
{
	SnapNode *folder;
	bool written = false;
	const SnapView *view;

	if (snap_folder_child(parent, name, &folder) < 0)
		return false;
	for (guint i = 0; snap_is_folder(folder) && (view = snap_view_get(i));
	     i++) {
		SnapIncoming *in = snap_incoming_find(tree->incoming, folder,
						      snap_view_name(view));

		if (!in)
			continue;
		written = true;
		snap_node_unref(snap_incoming_node(in), 1);
	}
	snap_node_unref(folder, 1);
	return written;
}

/* True for what does not keep a folder that the mount shows as empty: what
 * snapfs may have left there, and what is no file but has a name of snapfs's,
 * so that nobody sees it. */
static bool is_leftover(int folder_fd, const char *name)
{
	struct stat st;

	if (!strcmp(name, SNAP_CATALOG_ERROR) ||
	    !strcmp(name, SNAP_CATALOG_PREAMBLE) ||
	    /* Earlier versions wrote their lists of hot pages there. */
	    g_str_has_prefix(name, SNAP_CATALOG_PRIVATE "-hot-"))
		return true;
	return snap_name_kind(name) != SNAP_NAME_ORDINARY &&
	       strcmp(name, SNAP_CATALOG_SNAPSHOT) &&
	       fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       !S_ISREG(st.st_mode);
}

static bool is_dots(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* The first name in a folder that keeps it; NULL: none. */
static char *find_other(DIR *dir)
{
	struct dirent *d;

	while ((d = readdir(dir)) != NULL)
		if (!is_dots(d->d_name) && !is_leftover(dirfd(dir), d->d_name))
			return g_strdup(d->d_name);
	return NULL;
}

/* Removes what does not keep the folder. The name of a folder that is not
 * empty, or NULL. */
static char *remove_leftovers(DIR *dir)
{
	struct dirent *d;

	rewinddir(dir);
	while ((d = readdir(dir)) != NULL)
		if (!is_dots(d->d_name) && is_leftover(dirfd(dir), d->d_name) &&
		    unlinkat(dirfd(dir), d->d_name, 0) < 0 &&
		    unlinkat(dirfd(dir), d->d_name, AT_REMOVEDIR) < 0 &&
		    (errno == ENOTEMPTY || errno == EEXIST))
			return g_strdup(d->d_name);
	return NULL;
}

bool snap_name_clear_leftovers(SnapNode *parent, const char *name)
{
	snap_autofd int at = snap_store_open(parent);
	int fd = at < 0 ? at
			: snap_open_below(at, name, O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	g_autofree char *path = NULL;
	g_autofree char *other = NULL;
	bool hidden;

	if (!dir) {
		snap_close_fd(&fd);
		return false;
	}
	other = find_other(dir);
	hidden = other && snap_name_kind(other) == SNAP_NAME_PRIVATE &&
		 strcmp(other, SNAP_CATALOG_SNAPSHOT);
	if (!other) {
		other = remove_leftovers(dir);
		hidden = other;
	}
	closedir(dir);
	if (hidden) {
		path = snap_folder_path(parent, name);
		snap_log(SNAP_LOG_WARNING,
			 "%s: is not empty: it holds %s, which the "
			 "mount does not show",
			 path, other);
	}
	return !other;
}
