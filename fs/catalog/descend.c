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

static const char *name_kind(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a folder";
	case S_IFLNK:
		return "a symbolic link, which is not followed";
	case S_IFIFO:
		return "a FIFO";
	case S_IFSOCK:
		return "a socket";
	default:
		return "a device";
	}
}

int snap_catalog_fail_kind(GError **error, const char *name, mode_t mode)
{
	return snap_fail(error, EBADMSG, "%s is not a regular file: it is %s",
			 name, name_kind(mode));
}

static mode_t kind_at(int folder_fd, const char *name)
{
	struct stat st;

	/* What was there a moment ago was no regular file. */
	return fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0
		       ? S_IFLNK
		       : st.st_mode;
}

int snap_catalog_open_file(int folder_fd, const char *name, struct stat *ret_st,
			   GError **error)
{
	int fd = snap_open_regular(folder_fd, name, ret_st);

	if (fd == -EINVAL)
		return snap_catalog_fail_kind(error, name,
					      kind_at(folder_fd, name));
	return fd < 0 ? snap_fail_errno(error, -fd, "%s", name) : fd;
}
