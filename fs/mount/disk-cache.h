/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The folder of the disk cache. Inside fs/mount. */
#pragma once

#include "fs/mount/options.h"
#include "fs/near/near.h"

/* Opens the disk cache that the options ask for, for the store at the absolute
 * path `store`. Makes its folder where only that is missing. *ret_fd is the
 * folder, and the cache's. Returns 0, or -errno with a sentence. */
int snap_disk_cache_open(const struct snap_mount_opts *opts, const char *store,
			 int *ret_fd, SnapNear **ret_near, GError **error);
