/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/store/tree.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/error.h"
#include "tools/cli/log.h"

/* Small, for each page is read once, in order. */
#define CACHE (64 * SNAP_MIB)

void snap_open_tree_free(SnapOpenTree *t)
{
	if (!t)
		return;
	snap_tree_free(t->tree);
	snap_saver_free(t->saver);
	snap_loader_free(t->loader);
	snap_catalog_free(t->catalog);
	g_free(t);
}

int snap_open_tree_new(const SnapPlace *place,
		       const struct snap_saver_opts *saver, const char *holder,
		       SnapOpenTree **ret_tree, GError **error)
{
	g_autoptr(SnapOpenTree) t = g_new0(SnapOpenTree, 1);
	struct snap_loader_opts loader = { .cache = CACHE };
	struct snap_tree_opts opts = { .point = "",
				       .uid = (uid_t)-1,
				       .gid = (gid_t)-1 };
	int r = snap_catalog_open(place->store, !saver, holder, &t->catalog,
				  error);

	if (r < 0)
		return r;
	if (saver) {
		struct snap_saver_opts with = *saver;

		with.catalog = t->catalog;
		t->saver = snap_saver_new(&with);
	}
	t->loader = snap_loader_new(&loader);
	t->caller = (struct snap_caller){ .uid = geteuid(), .gid = getegid() };
	opts.catalog = t->catalog;
	opts.saver = t->saver;
	opts.loader = t->loader;
	r = snap_tree_new(&opts, &t->tree, error);
	if (r < 0)
		return r;
	*ret_tree = g_steal_pointer(&t);
	return 0;
}

/* Sets an error about `path`: the line that was logged, if there is one. */
static int fail(GError **error, int r, const char *path)
{
	g_autofree char *logged = snap_log_take();

	if (logged)
		return snap_fail(error, -r, "%s", logged);
	return snap_fail_errno(error, -r, "%s", path);
}

/* Goes from *folder into `name`. If that is missing and `made` is not NULL,
 * makes it and counts it in *made. */
static int enter(SnapOpenTree *t, SnapNode **folder, const char *name,
		 guint *made)
{
	struct snap_attr attr;
	SnapNode *child;
	int r = snap_tree_lookup(t->tree, *folder, name, &t->caller, &child,
				 &attr);

	if (r == -ENOENT && made) {
		mode_t mask = umask(0);

		umask(mask);
		r = snap_tree_mkdir(t->tree, *folder, name, 0777 & ~mask,
				    &t->caller, &child, &attr);
		*made += r == 0;
	}
	if (r < 0)
		return r;
	snap_node_unref(*folder, 1);
	*folder = child;
	return S_ISDIR(attr.st.st_mode) ? 0 : -ENOTDIR;
}

/* Goes down the first *n of `names`; for `made` see enter(). If it fails, *n
 * counts the names that worked. */
static int walk(SnapOpenTree *t, char **names, guint *n, guint *made,
		SnapNode **ret_folder)
{
	SnapNode *folder = snap_node_ref(snap_tree_root(t->tree));

	for (guint i = 0; i < *n; i++) {
		int r = strcmp(names[i], "..")
				? enter(t, &folder, names[i], made)
				: -EINVAL;

		if (r < 0) {
			snap_node_unref(folder, 1);
			*n = i;
			return r;
		}
	}
	*ret_folder = folder;
	return 0;
}

/* Removes the last `made` of the first `n` folders. */
static void unmake(SnapOpenTree *t, char **names, guint n, guint made)
{
	for (; made; made--) {
		guint above = --n;
		SnapNode *folder;
		int r;

		if (walk(t, names, &above, NULL, &folder) < 0)
			return;
		r = snap_tree_rmdir(t->tree, folder, names[n]);
		snap_node_unref(folder, 1);
		if (r < 0)
			return;
	}
}

int snap_open_tree_folder(SnapOpenTree *t, const char *path,
			  SnapNode **ret_folder, GError **error)
{
	g_auto(GStrv) names = g_strsplit(path, "/", -1);
	guint n = g_strv_length(names);
	int r = walk(t, names, &n, NULL, ret_folder);

	return r < 0 ? fail(error, r, path) : 0;
}

int snap_open_tree_make(SnapOpenTree *t, const char *path, guint *ret_made,
			GError **error)
{
	g_auto(GStrv) names = g_strsplit(path, "/", -1);
	guint n = g_strv_length(names), made = 0;
	SnapNode *folder;
	int r;

	/* .snapfs exists, so that looking it up would not fail. */
	for (guint i = 0; i < n; i++)
		if (snap_catalog_reserved(names[i]))
			return snap_fail(error, EPERM,
					 "%s: this name is reserved", path);
	r = walk(t, names, &n, &made, &folder);
	if (r < 0) {
		unmake(t, names, n, made);
		return fail(error, r, path);
	}
	snap_node_unref(folder, 1);
	*ret_made = made;
	return 0;
}

void snap_open_tree_unmake(SnapOpenTree *t, const char *path, guint made)
{
	g_auto(GStrv) names = g_strsplit(path, "/", -1);

	unmake(t, names, g_strv_length(names), made);
}
