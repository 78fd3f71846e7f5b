/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A store is recognized by its lock, which is looked for in the folder and in
 * those above it. So a folder in a store is not taken for a store. A folder
 * without a lock above it can still be read like a store: it may be a copy of
 * one, or of a snapshot.
 */
#include "tools/store/place.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "tools/cli/print.h"
#include "tools/cli/verb.h"

#define MOUNT_TYPE "fuse.snapfs"

void snap_place_free(SnapPlace *place)
{
	if (!place)
		return;
	g_free(place->store);
	g_free(place->within);
	g_free(place->mount);
	g_free(place);
}

/* Returns the part of `path` below `folder`; NULL if it is not below. */
static const char *below(const char *path, const char *folder)
{
	size_t n = strlen(folder);

	if (n && folder[n - 1] == '/')
		n--;
	if (strncmp(path, folder, n) || (path[n] && path[n] != '/'))
		return NULL;
	return path + n + (path[n] == '/');
}

/* ---- in a mount ---- */

/* A line of /proc/self/mountinfo, without its octal escapes. */
struct mount_line {
	char *device; /* "major:minor" */
	char *root;   /* the folder of the file system that is mounted */
	char *point;
	char *type;
	char *source;
};

static void mount_line_clear(struct mount_line *m)
{
	g_free(m->device);
	g_free(m->root);
	g_free(m->point);
	g_free(m->type);
	g_free(m->source);
}

static bool parse_mount(const char *line, struct mount_line *ret_mount)
{
	g_auto(GStrv) words = g_strsplit(line, " ", -1);
	guint n = g_strv_length(words), dash = 6;

	while (dash < n && strcmp(words[dash], "-"))
		dash++;
	if (dash + 2 >= n)
		return false;
	ret_mount->device = g_strdup(words[2]);
	ret_mount->root = g_strcompress(words[3]);
	ret_mount->point = g_strcompress(words[4]);
	ret_mount->type = g_strdup(words[dash + 1]);
	ret_mount->source = g_strcompress(words[dash + 2]);
	return true;
}

/* Finds the place of `path`, which is on `device`; NULL if that is no mount of
 * snapfs. */
static SnapPlace *in_mount(const char *path, dev_t device)
{
	g_autofree char *text = NULL;
	g_autofree char *number =
		g_strdup_printf("%u:%u", major(device), minor(device));
	g_auto(GStrv) lines = NULL;
	SnapPlace *place = NULL;

	if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
		return NULL;
	lines = g_strsplit(text, "\n", -1);
	for (char **line = lines; *line && !place; line++) {
		struct mount_line m = { 0 };
		const char *rest;

		if (!parse_mount(*line, &m))
			continue;
		rest = below(path, m.point);
		if (rest && !strcmp(m.device, number) &&
		    !strcmp(m.type, MOUNT_TYPE)) {
			place = g_new0(SnapPlace, 1);
			place->within =
				g_build_filename(m.root + 1, rest, NULL);
			place->store = g_steal_pointer(&m.source);
			place->mount = g_steal_pointer(&m.point);
			place->is_store = true;
		}
		mount_line_clear(&m);
	}
	return place;
}

/* ---- in a store ---- */

static bool has_lock(const char *folder)
{
	g_autofree char *lock =
		g_build_filename(folder, SNAP_CATALOG_PRIVATE, "lock", NULL);

	return access(lock, F_OK) == 0;
}

static SnapPlace *in_store(const char *folder)
{
	SnapPlace *place = g_new0(SnapPlace, 1);
	g_autofree char *at = g_strdup(folder);

	place->is_store = true;
	while (!has_lock(at)) {
		g_autofree char *up = g_path_get_dirname(at);

		if (!strcmp(up, at)) {
			place->is_store = false;
			break;
		}
		g_free(at);
		at = g_steal_pointer(&up);
	}
	place->store = g_strdup(place->is_store ? at : folder);
	place->within = g_strdup(below(folder, place->store));
	return place;
}

int snap_place_find(const char *path, SnapPlace **ret_place, GError **error)
{
	g_autofree char *real = realpath(path, NULL);
	g_autofree char *folder = NULL, *name = NULL;
	struct stat st;
	bool mounted;

	if (!real || stat(real, &st) < 0)
		return snap_fail_errno(error, errno, "%s", path);
	folder =
		S_ISDIR(st.st_mode) ? g_strdup(real) : g_path_get_dirname(real);
	*ret_place = in_mount(folder, st.st_dev);
	mounted = *ret_place;
	if (!mounted)
		*ret_place = in_store(folder);
	if (S_ISDIR(st.st_mode) || mounted)
		return 0;
	name = g_path_get_basename(real);
	if (!strcmp(name, SNAP_CATALOG_SNAPSHOT))
		return 0;
	g_clear_pointer(ret_place, snap_place_free);
	return snap_fail(error, ENOTDIR,
			 "%s is no store: it is neither a folder nor a "
			 "snapshot's file (" SNAP_CATALOG_SNAPSHOT ")",
			 path);
}

/* ---- names in it ---- */

char *snap_place_path(const SnapPlace *place, const char *name)
{
	g_autofree char *whole =
		g_strconcat(place->within, "/", name ? name : "", NULL);
	g_auto(GStrv) names = g_strsplit(whole, "/", -1);
	GString *path = g_string_new(NULL);

	for (char **at = names; *at; at++)
		if (**at && strcmp(*at, "."))
			g_string_append_printf(path, "%s%s",
					       path->len ? "/" : "", *at);
	return g_string_free(path, FALSE);
}

char *snap_place_title(const SnapPlace *place, const char *path)
{
	return *path ? g_strdup(path) : g_path_get_basename(place->store);
}

int snap_place_open(const SnapPlace *place, SnapCatalog **ret_catalog,
		    GError **error)
{
	return snap_catalog_open(place->store, true, NULL, ret_catalog, error);
}

int snap_place_folder(SnapCatalog *catalog, const char *path, GError **error)
{
	int fd = snap_open_below(snap_catalog_fd(catalog), *path ? path : ".",
				 O_RDONLY | O_DIRECTORY, 0);

	return fd < 0 ? snap_fail_errno(error, -fd, "%s",
					*path ? path
					      : snap_catalog_path(catalog))
		      : fd;
}

int snap_place_no_snapshot(SnapCatalog *catalog, const char *path,
			   GError **error)
{
	snap_autofd int fd = snap_place_folder(catalog, path, NULL);
	g_autofree char *why = fd < 0 ? NULL : snap_catalog_noted(fd);

	if (!*path)
		path = "its top folder; give the NAME of one";
	return snap_fail(error, ENOENT, "store %s: no snapshot in %s%s%s",
			 snap_catalog_path(catalog), path,
			 why ? "; the last save into it failed: " : "",
			 why ? why : "");
}

/* ---- the snapshots of a place ---- */

/* Calls another function and counts the calls. */
struct counted {
	snap_catalog_visit visit;
	void *data;
	guint n;
};

static int count_visit(const char *path, int folder_fd, void *data)
{
	struct counted *c = data;

	c->n++;
	return c->visit(path, folder_fd, c->data);
}

static int visit_name(const SnapPlace *place, SnapCatalog *catalog,
		      const char *name, struct counted *c, GError **error)
{
	g_autofree char *path = snap_place_path(place, name);
	guint old_n = c->n;
	int r = snap_catalog_list(catalog, path, count_visit, c, error);

	if (r < 0 || c->n != old_n)
		return r;
	if (name)
		return snap_place_no_snapshot(catalog, path, error);
	if (!place->is_store)
		return snap_fail(error, ENOENT,
				 "%s is no store and holds no snapshot",
				 place->store);
	return 0;
}

int snap_place_visit(const SnapPlace *place, SnapCatalog *catalog,
		     char *const *names, guint n, snap_catalog_visit visit,
		     void *data)
{
	struct counted c = { .visit = visit, .data = data };
	int status = 0;

	for (guint i = 0; i < MAX(n, 1); i++) {
		g_autoptr(GError) error = NULL;

		if (visit_name(place, catalog, n ? names[i] : NULL, &c,
			       &error) < 0) {
			snap_print_error("%s", error->message);
			status = SNAP_EXIT_FAILED;
		}
	}
	return status;
}
