/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names that are moved. Moving to or from a view is -EXDEV: mv and rsync then
 * copy instead.
 */
#include "fs/tree/tree-internal.h"

#include <fcntl.h>
#include <stdio.h>

/* May the name be moved, and to that name? */
static int check_move(SnapTree *tree, SnapNode *folder, const char *name,
		      SnapNode *to_folder, const char *to_name)
{
	int r = snap_name_check_folder(tree, folder);
	struct stat st;

	if (r == 0)
		r = snap_name_check_folder(tree, to_folder);
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
	    fstatat(snap_folder_fd(folder), name, &st, AT_SYMLINK_NOFOLLOW) ==
		    0 &&
	    S_ISREG(st.st_mode))
		return -EXDEV;
	return snap_name_check_new(tree, to_folder, to_name);
}

int snap_tree_rename(SnapTree *tree, SnapNode *folder, const char *name,
		     SnapNode *to_folder, const char *to_name, unsigned flags)
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
		if (renameat2(snap_folder_fd(folder), name,
			      snap_folder_fd(to_folder), to_name, flags) == 0)
			return 0;
		r = -errno;
		if ((r != -ENOTEMPTY && r != -EEXIST) || flags ||
		    !snap_name_clear_leftovers(to_folder, to_name))
			break;
	}
	return r;
}
