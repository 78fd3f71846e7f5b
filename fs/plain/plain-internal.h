/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of fs/plain share. */
#pragma once

#include "fs/plain/plain.h"

struct SnapPlain {
	SnapNodes *nodes;
	SnapCatalog *catalog;
	SnapNode *root;
	bool privileged;  /* may give files to other users */
	int fds_ordinary; /* descriptors below this are for ordinary files */
	GMutex lock;
	GQueue files; /* that can be forgotten; protected by lock */
};

/* Fills in a new SnapPlain without its root. */
void snap_plain_init(SnapPlain *plain, SnapNodes *nodes, SnapCatalog *catalog);

/* The node of what `fd` (O_PATH, taken over) is open on. -ENFILE, -errno. */
int snap_folder_node(SnapPlain *plain, int fd, SnapNode **ret_node);

/* The path of the file of an O_PATH descriptor, as the kernel knows it. */
bool snap_plain_path(int fd, char *ret, size_t size);

/* Registers a new node of an ordinary file. When descriptors run short, asks
 * the kernel to forget other files (forget.c). */
void snap_forget_add(SnapStoreNode *s);

/* The node is being freed. */
void snap_forget_remove(SnapStoreNode *s);
