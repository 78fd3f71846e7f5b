/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Removes a snapshot together with the small files that belong to it. */
#include "fs/catalog/catalog.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int snap_catalog_remove(int folder_fd)
{
	if (unlinkat(folder_fd, SNAP_CATALOG_SNAPSHOT, 0) < 0 &&
	    (errno != EISDIR ||
	     unlinkat(folder_fd, SNAP_CATALOG_SNAPSHOT, AT_REMOVEDIR) < 0))
		return -errno;
	snap_catalog_preamble_drop(folder_fd);
	snap_catalog_note(folder_fd, NULL);
	return 0;
}
