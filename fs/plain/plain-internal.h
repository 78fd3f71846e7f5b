/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of fs/plain share. */
#pragma once

#include "fs/plain/plain.h"

struct SnapPlain {
	SnapNodes *nodes;
	SnapCatalog *catalog;
	SnapNode *root;
	bool privileged; /* may give files to other users */
	int fds_open;	 /* descriptors below this are for open files */
	GMutex lock;	 /* protects what plain.h says */
	SnapIdle *open;	 /* nodes that have a descriptor */
};

/* Fills in a new SnapPlain without its root. */
void snap_plain_init(SnapPlain *plain, SnapNodes *nodes, SnapCatalog *catalog);

/* The node of `name` in a folder, on which `fd` (O_PATH, taken over) is open.
 * -errno. */
int snap_folder_node(SnapNode *folder, const char *name, int fd,
		     SnapNode **ret_node);

/* Begins to keep descriptors, of `limit` that the process may have. */
void snap_descriptors_init(SnapPlain *plain, uint64_t limit);
