/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening what lies in a store. A user who can write to it can put symbolic
 * links into it, so none is followed.
 */
#include "fs/catalog/catalog-internal.h"

#include <fcntl.h>

#include "format/base/beneath.h"
#include "format/base/error.h"
#include "format/base/fileio.h"

int snap_catalog_descend(int fd, const char *path)
{
	return snap_open_below(fd, *path ? path : ".", O_PATH | O_DIRECTORY, 0);
}

int snap_catalog_fail_kind(GError **error, const char *name)
{
	return snap_fail(error, EBADMSG,
			 "%s is not a regular file (symbolic links are not "
			 "followed)",
			 name);
}

int snap_catalog_open_file(int folder_fd, const char *name, struct stat *ret_st,
			   GError **error)
{
	int fd = snap_open_regular(folder_fd, name, ret_st);

	if (fd == -EINVAL)
		return snap_catalog_fail_kind(error, name);
	return fd < 0 ? snap_fail_errno(error, -fd, "%s", name) : fd;
}
