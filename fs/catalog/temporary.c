/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Temporary files: snapshots that are being written.
 *
 * Such a file lies in STORE/.snapfs/tmp under a random name N until it is
 * published. Beside it is a symbolic link N.for, whose target is the folder
 * that the file is meant for. No program follows the link; it is only read. If
 * the writer is killed, the next process that opens the store for writing
 * removes both, and leaves a note in that folder. In all other cases the link
 * is removed when the file is closed.
 */
#include "fs/catalog/catalog-internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/fileio.h"

#define CUT_OFF "the save was cut off: the process that wrote it ended"

int snap_temporary_create(int tmp_fd, const char *path,
			  const struct snap_catalog_owner *owner,
			  SnapFile **ret_file)
{
	g_autofree char *name = g_uuid_string_random();
	g_autofree char *link = g_strconcat(name, SNAP_TEMPORARY_FOR, NULL);
	g_autoptr(SnapFile) file = NULL;
	int r;

	/* Where the file system has no links, or the path is too long for one,
	 * only the note is lost. */
	if (symlinkat(*path ? path : ".", tmp_fd, link) < 0 &&
	    (errno == EIO || errno == ENOSPC || errno == EDQUOT ||
	     errno == EROFS))
		return -errno;
	r = snap_file_create(tmp_fd, name, 0600, link, SNAP_FILE_AUTO, &file);
	if (r < 0)
		unlinkat(tmp_fd, link, 0);
	else
		r = snap_file_give(file, owner->uid, owner->gid,
				   owner->mode & 0777);
	if (r == 0)
		*ret_file = g_steal_pointer(&file);
	return r;
}

/* Leaves the note in the folder that the link names. */
static void note_cut_off(int root_fd, int tmp_fd, const char *link)
{
	char path[PATH_MAX];
	ssize_t n = readlinkat(tmp_fd, link, path, sizeof(path) - 1);
	snap_autofd int fd = -1;

	if (n <= 0)
		return;
	path[n] = '\0';
	fd = snap_catalog_descend(root_fd, path);
	if (fd >= 0)
		snap_catalog_note(fd, CUT_OFF);
}

/* Removes a link and its file. The link counts only if its file exists. */
static void clear_link(int root_fd, int tmp_fd, const char *link)
{
	g_autofree char *file =
		g_strndup(link, strlen(link) - strlen(SNAP_TEMPORARY_FOR));
	struct stat st;

	if (fstatat(tmp_fd, file, &st, AT_SYMLINK_NOFOLLOW) == 0)
		note_cut_off(root_fd, tmp_fd, link);
	unlinkat(tmp_fd, file, 0);
	unlinkat(tmp_fd, link, 0);
}

void snap_temporary_clear(int root_fd, int tmp_fd)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	int fd = snap_open_folder(tmp_fd);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;

	if (!dir) {
		snap_close_fd(&fd);
		return;
	}
	while ((d = readdir(dir)) != NULL)
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
			g_ptr_array_add(names, g_strdup(d->d_name));
	closedir(dir);
	for (guint i = 0; i < names->len; i++)
		if (g_str_has_suffix(names->pdata[i], SNAP_TEMPORARY_FOR))
			clear_link(root_fd, tmp_fd, names->pdata[i]);
	/* What is left had no link, or is a folder. */
	for (guint i = 0; i < names->len; i++)
		if (unlinkat(tmp_fd, names->pdata[i], 0) < 0 && errno == EISDIR)
			unlinkat(tmp_fd, names->pdata[i], AT_REMOVEDIR);
}
