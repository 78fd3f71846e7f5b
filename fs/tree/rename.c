/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names that are moved. A file that is moved onto `stream` is saved. Moving to
 * or from another view is -EXDEV: mv and rsync then copy instead.
 */
#include "fs/tree/tree-internal.h"

#include <fcntl.h>
#include <stdio.h>

#include "format/base/cleanup.h"

/* May the name be moved, and to that name? */
static int check_move(SnapTree *tree, SnapNode *folder, const char *name,
		      SnapNode *to_folder, const char *to_name)
{
	snap_autofd int at = -1;
	int r = snap_name_check_folder(tree, folder);
	struct stat st;

	if (r == 0)
		r = snap_name_check_folder(tree, to_folder);
	if (r == 0)
		r = at = snap_store_open(folder);
	if (r < 0)
		return r;
	switch (snap_name_kind(name)) {
	case SNAP_NAME_PRIVATE:
		return snap_name_refuse(folder, name, SNAP_REFUSE_PRIVATE);
	case SNAP_NAME_VIEW:
		return -EXDEV;
	default:
		break;
	}
	if (snap_name_kind(to_name) == SNAP_NAME_VIEW &&
	    fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode))
		return -EXDEV;
	return snap_name_check_new(tree, to_folder, to_name);
}

/* What was moved knows its new place from now on. */
static void tell_place(SnapNode *folder, const char *name)
{
	SnapNode *node;

	if (snap_folder_child(folder, name, &node) == 0)
		snap_node_unref(node, 1);
}

static int move(SnapNode *folder, const char *name, SnapNode *to_folder,
		const char *to_name, unsigned flags)
{
	snap_autofd int at = snap_store_open(folder);
	snap_autofd int to = at < 0 ? at : snap_store_open(to_folder);

	if (to < 0)
		return to;
	if (renameat2(at, name, to, to_name, flags) < 0)
		return -errno;
	tell_place(to_folder, to_name);
	if (flags & RENAME_EXCHANGE)
		tell_place(folder, name);
	return 0;
}

/* True for an ordinary file that is to be saved. */
static bool is_stream(SnapNode *folder, const char *name, const char *to_name,
		      unsigned flags)
{
	snap_autofd int at = -1;
	struct stat st;

	return !(flags & ~(unsigned)RENAME_NOREPLACE) &&
	       snap_name_kind(name) == SNAP_NAME_ORDINARY &&
	       snap_incoming_is_name(to_name) && snap_is_folder(folder) &&
	       (at = snap_store_open(folder)) >= 0 &&
	       fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISREG(st.st_mode);
}

/* May a file be saved by that name? */
static int check_stream(SnapTree *tree, SnapNode *folder, const char *name,
			unsigned flags)
{
	int r = snap_name_check_folder(tree, folder);
	struct snap_shown shown;
	struct stat st;
	SnapIncoming *in;
	bool exists;

	if (r == 0)
		r = snap_shown_check_write(tree, folder, name);
	in = r < 0 ? NULL : snap_incoming_find(tree->incoming, folder, name);
	/* It would take the name when its save is over, and the file be lost.
	 */
	if (in) {
		snap_node_unref(snap_incoming_node(in), 1);
		return -EBUSY;
	}
	if (r < 0 || !(flags & RENAME_NOREPLACE))
		return r;
	r = snap_shown_get(tree, folder, name, &shown);
	if (r < 0)
		return r;
	exists = shown.sealed || snap_head_stat(folder, name, &st);
	if (shown.sealed)
		snap_sealed_unref(shown.sealed);
	return exists ? -EEXIST : 0;
}

static int rename_ordinary(SnapTree *tree, SnapNode *folder, const char *name,
			   SnapNode *to_folder, const char *to_name,
			   unsigned flags)
{
	int r = check_move(tree, folder, name, to_folder, to_name);

	if (r < 0)
		return r;
	/* The folder of a save looks empty in the store, and would be replaced.
	 */
	if (!(flags & RENAME_EXCHANGE) &&
	    snap_name_is_written(tree, to_folder, to_name))
		return flags & RENAME_NOREPLACE ? -EEXIST : -ENOTEMPTY;
	for (int tries = 0; tries < 2; tries++) {
		snap_catalog_move_begin(tree->opts.catalog);
		r = move(folder, name, to_folder, to_name, flags);
		snap_catalog_move_end(tree->opts.catalog);
		if ((r != -ENOTEMPTY && r != -EEXIST) || flags ||
		    !snap_name_clear_leftovers(to_folder, to_name))
			break;
	}
	return r;
}

void snap_tree_rename(SnapTree *tree, SnapNode *folder, const char *name,
		      SnapNode *to_folder, const char *to_name, unsigned flags,
		      const struct snap_caller *caller,
		      snap_handle_answer answer, void *data)
{
	bool stream = is_stream(folder, name, to_name, flags);
	int r = stream ? check_stream(tree, to_folder, to_name, flags)
		       : rename_ordinary(tree, folder, name, to_folder, to_name,
					 flags);

	if (stream && r == 0)
		snap_incoming_move(tree->incoming, folder, name, to_folder,
				   to_name, caller, answer, data);
	else
		answer(data, r);
}
