/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of fs/catalog share. */
#pragma once

#include "fs/catalog/catalog.h"

/* What stands behind a file's name in the symbolic link that says which folder
 * it is for. */
#define SNAP_TEMPORARY_FOR ".for"

/* A new file in the folder `tmp_fd` that is meant for the folder `path`, and
 * says so in a symbolic link beside it for as long as it is open. -errno. */
int snap_temporary_create(int tmp_fd, const char *path,
			  const struct snap_catalog_owner *owner,
			  SnapFile **ret_file);

/* Removes the files that a killed writer left in `tmp_fd`, and notes in the
 * folders below `root_fd` that they were for what happened. Best effort. */
void snap_temporary_clear(int root_fd, int tmp_fd);

/* The folder of files on their way in; -1 where the catalog is read-only. */
int snap_catalog_tmp_fd(const SnapCatalog *c);
