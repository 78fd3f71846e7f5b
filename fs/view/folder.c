/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lies in the store as it is: folders, and the part of ordinary files that
 * needs no open file.
 *
 * A node holds an O_PATH descriptor, which follows its file through renames.
 * Calls that want a path or an open file go through /proc/self/fd.
 */
#include "fs/view/view-internal.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"

void snap_proc_path(char ret[SNAP_PROC_PATH], int fd)
{
	snprintf(ret, SNAP_PROC_PATH, "/proc/self/fd/%d", fd);
}

int snap_store_node_new(SnapTree *tree, int fd, SnapNode **ret_node)
{
	SnapStoreNode *fresh;
	struct stat st;
	int r;

	if (fstatat(fd, "", &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	fresh = g_new0(SnapStoreNode, 1);
	fresh->node.ops =
		S_ISDIR(st.st_mode) ? &snap_folder_ops : &snap_plain_ops;
	fresh->node.tree = tree;
	fresh->node.key.kind = fresh->node.ops;
	fresh->node.key.dev = st.st_dev;
	fresh->node.key.ino = st.st_ino;
	fresh->fd = fd;
	fresh->type = st.st_mode & S_IFMT;
	*ret_node = snap_node_intern(&fresh->node);
	if (*ret_node != &fresh->node || S_ISDIR(st.st_mode))
		return 0;
	snap_plain_known(*ret_node);
	if (!snap_fd_spare(tree, fd)) {
		snap_node_unref(*ret_node, 1);
		return -ENFILE;
	}
	return 0;
}

int snap_folder_child(SnapNode *folder, const char *name, SnapNode **ret_node)
{
	int fd = openat(snap_store_node(folder)->fd, name,
			O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return snap_store_node_new(folder->tree, fd, ret_node);
}

int snap_store_getattr(SnapNode *node, SnapHandle *handle,
		       struct snap_attr *ret_attr)
{
	return fstatat(snap_store_node(node)->fd, "", &ret_attr->st,
		       AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0
		       ? -errno
		       : 0;
}

int snap_store_setattr(int path_fd, unsigned set, const struct stat *st)
{
	char path[SNAP_PROC_PATH];

	snap_proc_path(path, path_fd);
	if ((set & (SNAP_SET_UID | SNAP_SET_GID)) &&
	    fchownat(path_fd, "", set & SNAP_SET_UID ? st->st_uid : (uid_t)-1,
		     set & SNAP_SET_GID ? st->st_gid : (gid_t)-1,
		     AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if ((set & SNAP_SET_MODE) && chmod(path, st->st_mode & 07777) < 0)
		return -errno;
	if (set & (SNAP_SET_ATIME | SNAP_SET_MTIME)) {
		struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
					     { .tv_nsec = UTIME_OMIT } };

		if (set & SNAP_SET_ATIME)
			times[0] = st->st_atim;
		if (set & SNAP_SET_MTIME)
			times[1] = st->st_mtim;
		if (utimensat(path_fd, "", times, AT_EMPTY_PATH) < 0)
			return -errno;
	}
	return 0;
}

static int folder_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
			  const struct stat *st)
{
	if (set & SNAP_SET_SIZE)
		return -EISDIR;
	return snap_store_setattr(snap_store_node(node)->fd, set, st);
}

static void folder_clear(SnapNode *node)
{
	close(snap_store_node(node)->fd);
}

const struct snap_node_ops snap_folder_ops = {
	.is_store = true,
	.getattr = snap_store_getattr,
	.setattr = folder_setattr,
	.clear = folder_clear,
};

int snap_node_sync(SnapNode *folder)
{
	snap_autofd int fd = -1;

	if (!snap_is_folder(folder))
		return 0;
	fd = openat(snap_store_node(folder)->fd, ".",
		    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int snap_node_readlink(SnapNode *node, char *ret, size_t size)
{
	ssize_t n;

	if (!node->ops->is_store || !S_ISLNK(snap_store_node(node)->type))
		return -EINVAL;
	n = readlinkat(snap_store_node(node)->fd, "", ret, size);
	if (n < 0)
		return -errno;
	if ((size_t)n >= size)
		return -ENAMETOOLONG;
	ret[n] = '\0';
	return 0;
}

/* The absolute path of an O_PATH descriptor as the kernel knows it. */
static bool absolute_path(int fd, char ret[PATH_MAX])
{
	char proc[SNAP_PROC_PATH];
	ssize_t n;

	snap_proc_path(proc, fd);
	n = readlink(proc, ret, PATH_MAX - 1);
	ret[MAX(n, 0)] = '\0';
	return n > 0;
}

char *snap_folder_path(SnapNode *folder, const char *name)
{
	SnapStoreNode *root = snap_store_node(folder->tree->root);
	char top[PATH_MAX], path[PATH_MAX];
	const char *inner = path;
	size_t length;

	if (!absolute_path(root->fd, top) ||
	    !absolute_path(snap_store_node(folder)->fd, path))
		return g_strdup(name ? name : ".");
	length = strlen(top);
	if (!strncmp(path, top, length) &&
	    (path[length] == '/' || !path[length] || length == 1))
		inner = path + length;
	while (*inner == '/')
		inner++;
	if (!name)
		return g_strdup(inner);
	return *inner ? g_strdup_printf("%s/%s", inner, name) : g_strdup(name);
}
