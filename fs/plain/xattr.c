/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extended attributes of folders and ordinary files: those of the store. */
#include "fs/plain/plain-internal.h"

#include <string.h>
#include <sys/xattr.h>

#include "format/base/cleanup.h"

/* Access control lists are not shown: permissions are checked by the mode. */
static bool is_acl(const char *name)
{
	return g_str_has_prefix(name, "system.posix_acl_");
}

/* Opens the file of a node, whose attributes the kernel then reaches by the
 * path of the descriptor. Views have none of the store's; those of symbolic
 * links cannot be reached. */
static int open_of(SnapNode *node, char ret[SNAP_PROC_PATH])
{
	int fd;

	if (!snap_is_folder(node) && !snap_is_ordinary(node))
		return -EOPNOTSUPP;
	if (S_ISLNK(snap_store_node(node)->type))
		return -EOPNOTSUPP;
	fd = snap_store_open(node);
	if (fd >= 0)
		snap_proc_path(ret, fd);
	return fd;
}

char *snap_store_owner(SnapNode *node)
{
	snap_autofd int fd = -1;
	struct stat st;

	if (!snap_is_folder(node) && !snap_is_ordinary(node))
		return NULL;
	fd = snap_store_open(node);
	if (fd < 0 || fstat(fd, &st) < 0)
		return NULL;
	return g_strdup_printf("%u:%u:%o", st.st_uid, st.st_gid,
			       st.st_mode & 07777);
}

ssize_t snap_store_getxattr(SnapNode *node, const char *name, void *ret,
			    size_t size)
{
	snap_autofd int fd = -1;
	char path[SNAP_PROC_PATH];
	ssize_t n;

	if (is_acl(name))
		return -EOPNOTSUPP;
	if (!snap_is_folder(node) && !snap_is_ordinary(node))
		return -ENODATA;
	fd = open_of(node, path);
	if (fd < 0)
		return fd;
	n = getxattr(path, name, ret, size);
	return n < 0 ? -errno : n;
}

int snap_store_setxattr(SnapNode *node, const char *name, const void *value,
			size_t size, int flags)
{
	char path[SNAP_PROC_PATH];
	snap_autofd int fd = is_acl(name) ? -EOPNOTSUPP : open_of(node, path);

	if (fd < 0)
		return fd;
	return setxattr(path, name, value, size, flags) < 0 ? -errno : 0;
}

int snap_store_removexattr(SnapNode *node, const char *name)
{
	char path[SNAP_PROC_PATH];
	snap_autofd int fd = is_acl(name) ? -EOPNOTSUPP : open_of(node, path);

	if (fd < 0)
		return fd;
	return removexattr(path, name) < 0 ? -errno : 0;
}

/* Removes the names from `from` on that are not shown. */
static void drop_hidden(GString *names, gsize from,
			bool (*hidden)(const char *name))
{
	while (from < names->len) {
		const char *name = names->str + from;
		gsize length = strlen(name) + 1;

		if (is_acl(name) || hidden(name))
			g_string_erase(names, (gssize)from, (gssize)length);
		else
			from += length;
	}
}

int snap_store_listxattr(SnapNode *node, GString *names,
			 bool (*hidden)(const char *name))
{
	char path[SNAP_PROC_PATH];
	snap_autofd int fd = open_of(node, path);
	gsize had = names->len;
	ssize_t n;

	if (fd < 0)
		return 0;
	do {
		n = listxattr(path, NULL, 0);
		if (n <= 0)
			break;
		g_string_set_size(names, had + (gsize)n);
		n = listxattr(path, names->str + had, (size_t)n);
	} while (n < 0 && errno == ERANGE);
	if (n < 0)
		n = errno == EOPNOTSUPP ? 0 : -errno;
	g_string_truncate(names, had + (gsize)MAX(n, 0));
	drop_hidden(names, had, hidden);
	return n < 0 ? (int)n : 0;
}
