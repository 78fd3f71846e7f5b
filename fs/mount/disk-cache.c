/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The folder of the disk cache holds memory of guests, without the modes that
 * protect it in the store. So it must be closed to all other users, and what
 * lies in it is the mount's alone.
 */
#include "fs/mount/disk-cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"

/* Makes the folder, unless it is there. */
static int make_folder(const char *path)
{
	g_autofree char *above = g_path_get_dirname(path);
	g_autofree char *name = g_path_get_basename(path);
	snap_autofd int fd = snap_open_named(above, O_PATH | O_DIRECTORY, 0);

	if (fd < 0)
		return fd;
	return mkdirat(fd, name, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* True when the folder `path` is `other`, or lies below it. */
static bool is_within(const char *path, const char *other)
{
	size_t length = strlen(other);

	return !strncmp(path, other, length) &&
	       (path[length] == '/' || path[length] == '\0' ||
		(length && other[length - 1] == '/'));
}

/* Copies must lie neither in what they are copies of, nor behind the mount. */
static int check_place(const struct snap_mount_opts *opts, const char *store,
		       GError **error)
{
	g_autofree char *above = g_path_get_dirname(opts->disk_cache);
	char *real = realpath(opts->disk_cache, NULL);
	char *point = realpath(opts->point, NULL);
	const char *why = NULL;

	if (!real) /* it is to be made */
		real = realpath(above, NULL);
	if (real && is_within(real, store))
		why = "it lies within the store";
	else if (real && point && is_within(real, point))
		why = "the mount would hide it";
	free(real);
	free(point);
	return why ? snap_fail(error, EINVAL, "disk cache %s: %s",
			       opts->disk_cache, why)
		   : 0;
}

static int check_owner(int fd, const char *path, GError **error)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return snap_fail_errno(error, errno, "disk cache %s", path);
	if (st.st_uid != geteuid())
		return snap_fail(error, EPERM,
				 "disk cache %s: the folder belongs to another "
				 "user",
				 path);
	if (st.st_mode & (S_IRWXG | S_IRWXO))
		return snap_fail(error, EPERM,
				 "disk cache %s: other users may enter the "
				 "folder; name one of mode 0700",
				 path);
	return 0;
}

int snap_disk_cache_open(const struct snap_mount_opts *opts, const char *store,
			 int *ret_fd, SnapNear **ret_near, GError **error)
{
	const char *path = opts->disk_cache;
	int r = check_place(opts, store, error), fd;

	if (r < 0)
		return r;
	fd = make_folder(path);
	if (fd == 0)
		fd = snap_open_named(path, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return snap_fail_errno(error, -fd,
				       "disk cache %s cannot be opened", path);
	r = check_owner(fd, path, error);
	if (r < 0) {
		close(fd);
		return r;
	}
	r = snap_near_new(fd, path, opts->disk_cache_size, ret_near, error);
	if (r == 0)
		*ret_fd = fd;
	return r;
}
