/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names that are removed. Removing `stream` removes the snapshot: it is the
 * file that QEMU or libvirt wrote. Removing another view hides it; with the
 * last listed view the snapshot goes.
 */
#include "fs/tree/tree-internal.h"

#include <fcntl.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/log.h"

/* True when the folder still holds this snapshot. */
static bool is_there(SnapNode *folder, const SnapSealed *sealed)
{
	struct snap_sealed_id id = snap_sealed_id(sealed);
	snap_autofd int at = snap_store_open(folder);
	struct stat st;

	return fstatat(at, SNAP_CATALOG_SNAPSHOT, &st, AT_SYMLINK_NOFOLLOW) ==
		       0 &&
	       st.st_dev == id.dev && st.st_ino == id.ino;
}

/* Removes a head of which nobody writes the stream. */
static bool remove_head(SnapTree *tree, SnapNode *folder, const char *name)
{
	SnapIncoming *in = snap_incoming_find(tree->incoming, folder, name);

	if (!in)
		return snap_incoming_is_name(name) &&
		       snap_head_remove(folder, name);
	snap_node_unref(snap_incoming_node(in), 1);
	return false;
}

/* Removes what goes with a snapshot: the head by this name, or a stream that a
 * process has opened, and not written to. It stood for the snapshot. */
static void remove_beside(SnapTree *tree, SnapNode *folder, const char *name)
{
	SnapIncoming *in = snap_incoming_find(tree->incoming, folder, name);

	if (in && snap_incoming_state(in) == SNAP_INCOMING_UNTOUCHED)
		snap_incoming_remove(in);
	else if (!in)
		remove_head(tree, folder, name);
	if (in)
		snap_node_unref(snap_incoming_node(in), 1);
}

static int remove_snapshot(SnapTree *tree, SnapNode *folder,
			   const SnapSealed *sealed)
{
	g_autofree char *path = snap_folder_path(folder, NULL);
	snap_autofd int at = -1;
	const SnapView *view;
	int r;

	snap_hidden_remove(tree->hidden, sealed, NULL);
	if (!is_there(folder, sealed))
		return 0;
	r = at = snap_store_open(folder);
	if (r >= 0)
		r = snap_catalog_remove(tree->opts.catalog, at);
	for (guint i = 0; (view = snap_view_get(i)); i++)
		remove_beside(tree, folder, snap_view_name(view));
	if (r < 0)
		snap_log(SNAP_LOG_ERROR, "%s: cannot be removed: %s", path,
			 g_strerror(-r));
	else
		snap_log(SNAP_LOG_INFO, "%s: removed", path);
	if (r == 0)
		snap_catalog_collect_later(tree->opts.catalog);
	/* The kernel would keep the other names, and with them the space. */
	snap_folder_changed(folder);
	return r;
}

/* True when the folder lists a view of the snapshot. */
static bool lists_any(SnapTree *tree, const SnapSealed *sealed)
{
	const SnapView *view;

	for (guint i = 0; (view = snap_view_get(i)); i++)
		if (snap_view_listed(view, sealed) &&
		    !snap_hidden_has(tree->hidden, sealed, view))
			return true;
	return false;
}

/* Removes a view that the folder shows. */
static int remove_view(SnapTree *tree, SnapNode *folder,
		       const SnapSealed *sealed, const SnapView *view)
{
	if (view != &snap_view_stream) {
		snap_hidden_add(tree->hidden, sealed, view);
		if (lists_any(tree, sealed))
			return 0;
	}
	return remove_snapshot(tree, folder, sealed);
}

/* Ends a stream on its way in; with `begun`, only if bytes of it have come.
 * False when there is none. */
static bool remove_incoming(SnapTree *tree, SnapNode *folder, const char *name,
			    bool begun)
{
	SnapIncoming *in = snap_incoming_find(tree->incoming, folder, name);
	bool is = in &&
		  (!begun || snap_incoming_state(in) >= SNAP_INCOMING_SAVING);

	if (is)
		snap_incoming_remove(in);
	if (in)
		snap_node_unref(snap_incoming_node(in), 1);
	return is;
}

static int unlink_name(SnapNode *folder, const char *name)
{
	snap_autofd int at = snap_store_open(folder);

	if (at < 0)
		return at;
	return unlinkat(at, name, 0) < 0 ? -errno : 0;
}

static int unlink_shown(SnapTree *tree, SnapNode *folder, const char *name,
			const struct snap_shown *shown)
{
	/* The stream on its way in goes first: then the snapshot that it would
	 * have replaced is still there. */
	if (remove_incoming(tree, folder, name, shown->sealed != NULL))
		return 0;
	if (shown->visible)
		return remove_view(tree, folder, shown->sealed, shown->view);
	if (remove_incoming(tree, folder, name, false) ||
	    remove_head(tree, folder, name))
		return 0;
	if (shown->may_be_part && snap_part_stat(folder, name, NULL))
		return unlink_name(folder, name);
	return -ENOENT;
}

static int unlink_view(SnapTree *tree, SnapNode *folder, const char *name)
{
	struct snap_shown shown;
	int r;

	/* Parts that are being saved are a snapshot soon. */
	if (snap_part_is_name(name))
		snap_parts_wait(tree->incoming, folder);
	r = snap_shown_get(tree, folder, name, &shown);
	if (r < 0)
		return r;
	r = unlink_shown(tree, folder, name, &shown);
	if (shown.sealed)
		snap_sealed_unref(shown.sealed);
	return r;
}

int snap_tree_unlink(SnapTree *tree, SnapNode *folder, const char *name)
{
	int r = snap_name_check_folder(tree, folder);

	if (r < 0)
		return r;
	switch (snap_name_kind(name)) {
	case SNAP_NAME_PRIVATE:
		return snap_name_refuse(folder, name, SNAP_REFUSE_PRIVATE);
	case SNAP_NAME_VIEW:
		return unlink_view(tree, folder, name);
	default:
		return unlink_name(folder, name);
	}
}

int snap_tree_rmdir(SnapTree *tree, SnapNode *folder, const char *name)
{
	snap_autofd int at = -1;
	int r = snap_name_check_folder(tree, folder);

	if (r < 0)
		return r;
	if (snap_name_kind(name) != SNAP_NAME_ORDINARY)
		return snap_name_refuse(folder, name, SNAP_REFUSE_PRIVATE);
	if (snap_name_is_written(tree, folder, name))
		return -ENOTEMPTY;
	at = snap_store_open(folder);
	if (at < 0)
		return at;
	/* A save that was ended just now may leave its note between the two. */
	for (int tries = 0; tries < 8; tries++) {
		if (unlinkat(at, name, AT_REMOVEDIR) == 0)
			return 0;
		r = -errno;
		if ((r != -ENOTEMPTY && r != -EEXIST) ||
		    !snap_name_clear_leftovers(folder, name))
			break;
	}
	return r;
}
