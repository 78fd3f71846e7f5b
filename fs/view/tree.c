/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree: which views there are, what names mean, how a name is looked up.
 *
 * A new kind of view is a file in this folder and a line in snap_views.
 */
#include "fs/view/writing-internal.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"

/* Open files that ordinary files leave to folders, views and saves. */
#define FDS_KEPT 256u

const struct snap_view *const snap_views[] = {
	&snap_view_stream,
	&snap_view_mapped,
	&snap_view_ram,
	&snap_view_devstate,
};
const guint snap_n_views = G_N_ELEMENTS(snap_views);
G_STATIC_ASSERT(G_N_ELEMENTS(snap_views) <= SNAP_VIEWS_MAX);

enum snap_name snap_tree_name(const char *name, int *ret_view)
{
	int ignored;

	if (!ret_view)
		ret_view = &ignored;
	*ret_view = -1;
	for (guint i = 0; i < snap_n_views; i++) {
		if (!strcmp(name, snap_views[i]->name)) {
			*ret_view = (int)i;
			return SNAP_NAME_VIEW;
		}
	}
	return snap_catalog_reserved(name) ? SNAP_NAME_PRIVATE
					   : SNAP_NAME_ORDINARY;
}

/* ---- hash tables whose keys are structs ---- */

static guint hash_bytes(const void *data, size_t size)
{
	const uint8_t *p = data;
	guint hash = 2166136261u;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ p[i]) * 16777619u;
	return hash;
}

static guint node_hash(gconstpointer key)
{
	return hash_bytes(key, sizeof(struct snap_node_key));
}

static gboolean node_equal(gconstpointer a, gconstpointer b)
{
	return !memcmp(a, b, sizeof(struct snap_node_key));
}

static guint sealed_hash(gconstpointer key)
{
	return hash_bytes(key, sizeof(struct snap_sealed_key));
}

static gboolean sealed_equal(gconstpointer a, gconstpointer b)
{
	return !memcmp(a, b, sizeof(struct snap_sealed_key));
}

/* ---- the tree ---- */

/* Files that may be open for ordinary files; the rest is for what snapfs is
 * there for. */
static int fds_ordinary(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT_MAX)
		return INT_MAX;
	return (int)(limit.rlim_cur - MIN(limit.rlim_cur / 4, FDS_KEPT));
}

bool snap_fd_spare(const SnapTree *tree, int fd)
{
	/* The kernel gives the lowest number that is free. */
	return fd < tree->fds_ordinary;
}

int snap_tree_new(const struct snap_tree_opts *opts, SnapTree **ret_tree,
		  GError **error)
{
	SnapTree *tree = g_new0(SnapTree, 1);
	int fd, r;

	tree->opts = *opts;
	tree->read_only = snap_catalog_read_only(opts->catalog);
	tree->privileged = geteuid() == 0;
	tree->fds_ordinary = fds_ordinary();
	clock_gettime(CLOCK_REALTIME, &tree->began);
	g_mutex_init(&tree->lock);
	g_cond_init(&tree->idle);
	tree->handles = g_hash_table_new(NULL, NULL);
	tree->nodes = g_hash_table_new(node_hash, node_equal);
	tree->sealed = g_hash_table_new(sealed_hash, sealed_equal);
	tree->writers = g_hash_table_new(NULL, NULL);
	tree->settling = g_hash_table_new(NULL, NULL);
	tree->hidden =
		g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	tree->tickets = g_hash_table_new_full(NULL, NULL, NULL, g_free);
	tree->saves = g_hash_table_new_full(
		NULL, NULL, (GDestroyNotify)snap_save_unref, NULL);
	fd = openat(snap_catalog_fd(opts->catalog), ".",
		    O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? -errno : snap_store_node_new(tree, fd, &tree->root);
	if (r < 0) {
		snap_tree_free(tree);
		return snap_fail_errno(error, -r, "store %s",
				       snap_catalog_path(opts->catalog));
	}
	*ret_tree = tree;
	return 0;
}

/* Lets go of all nodes that are the store's, or of all that are not. */
static void drop_nodes(SnapTree *tree, bool store)
{
	g_autoptr(GPtrArray) nodes = g_ptr_array_new();
	GHashTableIter iter;
	gpointer node;

	g_hash_table_iter_init(&iter, tree->nodes);
	while (g_hash_table_iter_next(&iter, NULL, &node))
		if (((SnapNode *)node)->ops->is_store == store)
			g_ptr_array_add(nodes, node);
	for (guint i = 0; i < nodes->len; i++)
		snap_node_unref(nodes->pdata[i],
				((SnapNode *)nodes->pdata[i])->refs);
}

/* Drops what the kernel never gave back: it does not when it is unmounted while
 * files are open. */
static void drop_all(SnapTree *tree)
{
	GHashTableIter iter;
	gpointer handle;

	for (;;) {
		g_hash_table_iter_init(&iter, tree->handles);
		if (!g_hash_table_iter_next(&iter, &handle, NULL))
			break;
		snap_handle_close(handle);
	}
	/* Nodes of the store refer to no others. */
	drop_nodes(tree, false);
	drop_nodes(tree, true);
}

void snap_tree_free(SnapTree *tree)
{
	if (!tree)
		return;
	drop_all(tree);
	g_queue_clear_full(&tree->makers, g_free);
	g_queue_clear_full(&tree->told, g_free);
	g_hash_table_destroy(tree->saves);
	g_hash_table_destroy(tree->tickets);
	g_hash_table_destroy(tree->hidden);
	g_hash_table_destroy(tree->settling);
	g_hash_table_destroy(tree->writers);
	g_hash_table_destroy(tree->sealed);
	g_hash_table_destroy(tree->handles);
	g_hash_table_destroy(tree->nodes);
	g_cond_clear(&tree->idle);
	g_mutex_clear(&tree->lock);
	g_free(tree);
}

SnapNode *snap_tree_root(SnapTree *tree)
{
	return tree->root;
}

void snap_tree_on_change(SnapTree *tree, snap_tree_changed changed, void *data)
{
	tree->changed = changed;
	tree->changed_data = data;
}

void snap_tree_mounted(SnapTree *tree, dev_t device)
{
	SNAP_LOCKED(&tree->lock);

	tree->device = device;
}

void snap_tree_on_push(SnapTree *tree, snap_tree_push push, void *data)
{
	tree->push = push;
	tree->push_data = data;
}

int snap_tree_statfs(SnapTree *tree, struct statvfs *ret)
{
	int fd = snap_catalog_fd(tree->opts.catalog);

	return fstatvfs(fd, ret) < 0 ? -errno : 0;
}

/* ---- looking up ---- */

/* The stream that `caller` was sent to look up again, in place of the snapshot
 * that it is going to replace. */
static SnapNode *lookup_ticket(SnapNode *folder, SnapSealed *sealed,
			       const struct snap_caller *caller)
{
	struct snap_catalog_owner owner;
	struct stat st;

	if (!snap_ticket_find(folder, caller->pid, false) ||
	    fstat(sealed->fd, &st) < 0)
		return NULL;
	owner.uid = st.st_uid;
	owner.gid = st.st_gid;
	owner.mode = st.st_mode & 07777;
	return &snap_writers_join(folder, &snap_view_stream, &owner)->node;
}

static int lookup_view(SnapNode *folder, guint view,
		       const struct snap_caller *caller, SnapNode **ret_node)
{
	bool stream = snap_views[view] == &snap_view_stream;
	g_autoptr(SnapSealed) sealed = NULL;
	SnapIncoming *in;
	int r;

	snap_writers_reap(folder);
	r = snap_sealed_get(folder, &sealed);
	if (r < 0 && r != -ENOENT)
		return r;
	*ret_node = NULL;
	if (r == 0 && snap_sealed_shows(sealed, view)) {
		if (snap_makers_expect(folder, view, caller))
			return -ENOENT;
		if (stream)
			*ret_node = lookup_ticket(folder, sealed, caller);
		if (!*ret_node)
			*ret_node = snap_view_node(folder, sealed, view);
		return 0;
	}
	in = snap_views[view]->saves
		     ? snap_writers_find(folder, snap_views[view])
		     : NULL;
	if (!in)
		return r == -ENOENT ? snap_part_lookup(folder, snap_views[view],
						       ret_node)
				    : -ENOENT;
	*ret_node = &in->node;
	return 0;
}

static int lookup(SnapNode *folder, const char *name,
		  const struct snap_caller *caller, SnapNode **ret_node)
{
	SnapTree *tree = folder->tree;
	int view;

	if (snap_is_service_folder(folder))
		return snap_service_lookup(tree, name, ret_node);
	if (!snap_is_folder(folder))
		return -ENOTDIR;
	switch (snap_tree_name(name, &view)) {
	case SNAP_NAME_PRIVATE:
		if (folder != tree->root || strcmp(name, SNAP_CATALOG_PRIVATE))
			return -ENOENT;
		*ret_node = snap_service_folder(tree);
		return 0;
	case SNAP_NAME_VIEW:
		return view < 0 ? -ENOENT
				: lookup_view(folder, (guint)view, caller,
					      ret_node);
	default:
		return snap_folder_child(folder, name, ret_node);
	}
}

int snap_node_lookup(SnapNode *folder, const char *name,
		     const struct snap_caller *caller, SnapNode **ret_node,
		     struct snap_attr *ret_attr)
{
	SnapNode *node;
	int r;

	snap_count(folder->tree, SNAP_COUNT_LOOKUP);
	r = lookup(folder, name, caller, &node);
	if (r < 0)
		return r;
	r = snap_node_getattr(node, NULL, ret_attr);
	if (r < 0) {
		snap_node_unref(node, 1);
		return r;
	}
	*ret_node = node;
	return 0;
}
