/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Removes a snapshot together with the small files that belong to it. */
#include "fs/catalog/catalog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* Removes the file of a snapshot, by way of the store's folder for temporary
 * files: NFS and sshfs keep a file that is removed while it is open under
 * another name where it was, and the folder of the snapshot could not be
 * removed. */
static int remove_file(int tmp_fd, int folder_fd)
{
	g_autofree char *name = g_uuid_string_random();
	int r = 0;

	/* The folder may be on another file system. */
	if (renameat(folder_fd, SNAP_CATALOG_SNAPSHOT, tmp_fd, name) < 0)
		return unlinkat(folder_fd, SNAP_CATALOG_SNAPSHOT, 0) < 0
			       ? -errno
			       : 0;
	if (unlinkat(tmp_fd, name, 0) < 0) {
		r = -errno;
		/* Unless another one was saved just now. */
		(void)renameat2(tmp_fd, name, folder_fd, SNAP_CATALOG_SNAPSHOT,
				RENAME_NOREPLACE);
	}
	return r;
}

int snap_catalog_remove(const SnapCatalog *c, int folder_fd)
{
	int r = 0;

	/* An empty folder may have that name. */
	if (unlinkat(folder_fd, SNAP_CATALOG_SNAPSHOT, AT_REMOVEDIR) < 0)
		r = errno == ENOTDIR
			    ? remove_file(snap_catalog_tmp_fd(c), folder_fd)
			    : -errno;
	if (r < 0)
		return r;
	snap_catalog_preamble_drop(folder_fd);
	snap_catalog_note(folder_fd, NULL);
	return 0;
}
