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

/* Folders of the way down that are kept open. The others are opened again, as
 * the parent of the one below, when the walk comes back to them. */
#define OPEN_MAX 64u

/* A folder on the way down. */
struct level {
	GPtrArray *names; /* of the folders in it */
	guint next;	  /* of them */
	gsize length;	  /* of its path */
	int fd;		  /* -1: closed */
	dev_t dev;
	ino_t ino;
};

/* A walk through a store. */
struct walk {
	snap_catalog_visit visit;
	void *data;
	bool all;	/* a folder that may not be read is an error */
	GString *path;	/* of the current folder */
	GArray *levels; /* from the top to it */
	int failed;	/* the first failure, or 0 */
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

/* A folder cannot be read. The walk goes on: what lies behind it must not be
 * hidden by it. */
static void fail_folder(struct walk *w, int code, const char *what)
{
	const char *path = *w->path->str ? w->path->str : ".";

	if (w->failed)
		snap_log(SNAP_LOG_WARNING, "folder %s: %s", path, what);
	else
		w->failed =
			snap_fail(w->error, code, "folder %s: %s", path, what);
}

static void level_clear(void *data)
{
	struct level *level = data;

	if (level->names)
		g_ptr_array_unref(level->names);
	snap_close_fd(&level->fd);
}

static struct level *level_at(struct walk *w, guint i)
{
	return &g_array_index(w->levels, struct level, i);
}

/* Goes into the current folder, whose descriptor is taken over. Returns what
 * `visit` does. */
static int go_in(struct walk *w, int fd)
{
	struct level level = { .fd = fd, .length = w->path->len };
	guint depth = w->levels->len;
	struct stat st;
	int r = 0;

	level.names = g_ptr_array_new_with_free_func(g_free);
	if (fstatat(fd, SNAP_CATALOG_SNAPSHOT, &st, AT_SYMLINK_NOFOLLOW) == 0)
		r = w->visit(w->path->str, fd, w->data);
	else if (w->all && errno != ENOENT)
		fail_folder(w, errno, g_strerror(errno));
	if (r == 0) {
		int folder = fstat(fd, &st) < 0 ? -errno : snap_open_folder(fd);

		level.dev = st.st_dev;
		level.ino = st.st_ino;
		folder =
			folder < 0 ? folder : read_folders(folder, level.names);
		if (folder < 0)
			fail_folder(w, -folder, g_strerror(-folder));
	}
	g_array_append_val(w->levels, level);
	if (depth > OPEN_MAX)
		snap_close_fd(&level_at(w, depth - OPEN_MAX)->fd);
	return r;
}

/* Goes into the next folder of the current one. Returns what `visit` does. */
static int go_down(struct walk *w, struct level *level)
{
	const char *name = level->names->pdata[level->next++];
	int fd = snap_open_below(level->fd, name, O_RDONLY | O_DIRECTORY, 0);

	/* It is not a folder, or was removed meanwhile. */
	if (fd == -ENOTDIR || fd == -ENOENT || fd == -ELOOP)
		return 0;
	g_string_append_printf(w->path, "%s%s", level->length ? "/" : "", name);
	if (fd >= 0)
		return go_in(w, fd);
	if (!w->all && (fd == -EACCES || fd == -EPERM))
		snap_log(SNAP_LOG_WARNING, "folder %s is skipped: %s",
			 w->path->str, g_strerror(-fd));
	else
		fail_folder(w, -fd, g_strerror(-fd));
	g_string_truncate(w->path, level->length);
	return 0;
}

/* Opens a folder again, which holds the folder `below`. */
static bool open_again(struct level *level, int below)
{
	snap_autofd int fd = snap_open_above(below, O_RDONLY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_dev != level->dev ||
	    st.st_ino != level->ino)
		return false;
	level->fd = snap_steal_fd(&fd);
	return true;
}

/* Goes back to the folder above the current one. */
static void go_up(struct walk *w)
{
	guint depth = w->levels->len - 1;
	struct level *above = depth ? level_at(w, depth - 1) : NULL;

	if (above)
		g_string_truncate(w->path, above->length);
	if (above && above->fd < 0 &&
	    !open_again(above, level_at(w, depth)->fd)) {
		above->next = above->names->len;
		fail_folder(w, ESTALE, "it was moved while it was listed");
	}
	g_array_set_size(w->levels, depth);
}

/* Walks through a folder, whose descriptor is taken over. */
static int walk(struct walk *w, int fd)
{
	int r = go_in(w, fd);

	while (r == 0 && w->levels->len) {
		struct level *level = level_at(w, w->levels->len - 1);

		if (level->next < level->names->len)
			r = go_down(w, level);
		else
			go_up(w);
	}
	return r ? r : w->failed;
}

/* Walks through the folder `path` of the store. */
static int walk_from(struct walk *w, SnapCatalog *c, const char *path)
{
	int r, fd = snap_catalog_descend(snap_catalog_fd(c), path);

	if (fd < 0)
		return snap_fail_errno(w->error, -fd, "store %s: folder %s",
				       snap_catalog_path(c), path);
	w->levels = g_array_new(FALSE, FALSE, sizeof(struct level));
	g_array_set_clear_func(w->levels, level_clear);
	w->path = g_string_new(path);
	while (w->path->len && w->path->str[w->path->len - 1] == '/')
		g_string_truncate(w->path, w->path->len - 1);
	r = walk(w, fd);
	g_array_unref(w->levels);
	g_string_free(w->path, TRUE);
	return r;
}

int snap_catalog_list(SnapCatalog *c, const char *path,
		      snap_catalog_visit visit, void *data, GError **error)
{
	struct walk w = { .visit = visit, .data = data, .error = error };

	return walk_from(&w, c, path);
}

int snap_catalog_walk(SnapCatalog *c, snap_catalog_visit visit, void *data,
		      GError **error)
{
	struct walk w = {
		.visit = visit, .data = data, .all = true, .error = error
	};

	return walk_from(&w, c, "");
}
