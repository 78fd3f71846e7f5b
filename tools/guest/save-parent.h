/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `snapfs save --parent`. */
#pragma once

#include "tools/guest/save-folder.h"

/* Tells the mount that the next save into the folder is to have the snapshot in
 * the folder `parent` of the same mount as its parent. Returns 0, -EINVAL where
 * they are not in one mount, -ENOENT where there is no snapshot, -EOPNOTSUPP
 * where the store can have no increments, -errno. snap_save_folder_undo() takes
 * it back. */
int snap_save_parent_set(SnapSaveFolder *folder, const char *parent,
			 GError **error);
