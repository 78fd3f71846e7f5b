/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening what lies in a store.
 *
 * A user who can write to a store can put symbolic links into it. So a path is
 * opened name by name, and no link is followed.
 */
#include "fs/catalog/catalog-internal.h"

#include <fcntl.h>
#include <string.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"

int snap_catalog_descend(int fd, const char *path)
{
	g_auto(GStrv) names = g_strsplit(path, "/", -1);
	snap_autofd int at = openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	for (char **name = names; *name && at >= 0; name++) {
		int next;

		if (!**name || !strcmp(*name, "."))
			continue;
		if (!strcmp(*name, ".."))
			return -EINVAL;
		next = openat(at, *name,
			      O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return -errno;
		close(at);
		at = next;
	}
	return at < 0 ? -errno : snap_steal_fd(&at);
}

int snap_catalog_open_file(int folder_fd, const char *name, struct stat *ret_st,
			   GError **error)
{
	int fd = snap_open_regular(folder_fd, name, ret_st);

	if (fd == -EINVAL)
		return snap_fail(error, EBADMSG,
				 "%s is not a regular file (symbolic links are "
				 "not followed)",
				 name);
	return fd < 0 ? snap_fail_errno(error, -fd, "%s", name) : fd;
}
