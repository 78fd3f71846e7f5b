/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Visits all snapshots of a store, folder by folder. */
#include "fs/catalog/catalog-internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "format/base/log.h"

/* A walk through a store. */
struct walk {
	snap_catalog_visit visit;
	void *data;
	GString *path; /* of the current folder */
	GError **error;
};

static gint compare_names(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Adds the names of the folders in `fd`, sorted. Closes `fd`. */
static int read_folders(int fd, GPtrArray *names)
{
	DIR *dir = fdopendir(fd);
	struct dirent *d;
	int r;

	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	while ((errno = 0, d = readdir(dir)) != NULL) {
		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") ||
		    snap_catalog_reserved(d->d_name))
			continue;
		if (d->d_type == DT_DIR || d->d_type == DT_UNKNOWN)
			g_ptr_array_add(names, g_strdup(d->d_name));
	}
	r = -errno;
	closedir(dir);
	g_ptr_array_sort(names, compare_names);
	return r;
}

static int walk_folder(struct walk *w, int fd);

/* Walks the folder `name` of the folder `fd`. */
static int walk_into(struct walk *w, int fd, const char *name)
{
	gsize length = w->path->len;
	snap_autofd int child =
		snap_open_below(fd, name, O_RDONLY | O_DIRECTORY, 0);
	int r = 0;

	/* It is not a folder, or was removed meanwhile. */
	if (child == -ENOTDIR || child == -ENOENT || child == -ELOOP)
		return 0;
	g_string_append_printf(w->path, "%s%s", length ? "/" : "", name);
	if (child == -EACCES || child == -EPERM)
		snap_log(SNAP_LOG_WARNING, "folder %s is skipped: %s",
			 w->path->str, g_strerror(-child));
	else if (child < 0)
		r = snap_fail_errno(w->error, -child, "folder %s",
				    w->path->str);
	else
		r = walk_folder(w, child);
	g_string_truncate(w->path, length);
	return r;
}

static int walk_folder(struct walk *w, int fd)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	struct stat st;
	int r = 0;

	if (fstatat(fd, SNAP_CATALOG_SNAPSHOT, &st, AT_SYMLINK_NOFOLLOW) == 0)
		r = w->visit(w->path->str, fd, w->data);
	if (r != 0)
		return r;
	r = snap_open_folder(fd);
	r = r < 0 ? r : read_folders(r, names);
	if (r < 0)
		return snap_fail_errno(w->error, -r, "folder %s",
				       *w->path->str ? w->path->str : ".");
	for (guint i = 0; i < names->len && r == 0; i++)
		r = walk_into(w, fd, names->pdata[i]);
	return r;
}

int snap_catalog_list(SnapCatalog *c, const char *path,
		      snap_catalog_visit visit, void *data, GError **error)
{
	snap_autofd int fd = snap_catalog_descend(snap_catalog_fd(c), path);
	struct walk w = { .visit = visit, .data = data, .error = error };
	int r;

	if (fd < 0)
		return snap_fail_errno(error, -fd, "store %s: folder %s",
				       snap_catalog_path(c), path);
	w.path = g_string_new(path);
	while (w.path->len && w.path->str[w.path->len - 1] == '/')
		g_string_truncate(w.path, w.path->len - 1);
	r = walk_folder(&w, fd);
	g_string_free(w.path, TRUE);
	return r;
}
