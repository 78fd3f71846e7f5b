/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tree puts the rooms below it together. */
#include "fs/tree/tree-internal.h"

#include <time.h>

#include "format/base/error.h"

int snap_tree_new(const struct snap_tree_opts *opts, SnapTree **ret_tree,
		  GError **error)
{
	bool read_only = snap_catalog_read_only(opts->catalog);
	struct snap_nodes_opts nodes = { .read_only = read_only,
					 .uid = opts->uid,
					 .gid = opts->gid,
					 .umask = opts->umask };
	struct snap_snapshots_opts snapshots = { .catalog = opts->catalog,
						 .loader = opts->loader };
	struct snap_incoming_opts incoming = { .catalog = opts->catalog,
					       .saver = opts->saver };
	SnapTree *tree = g_new0(SnapTree, 1);
	int r;

	tree->opts = *opts;
	tree->read_only = read_only;
	clock_gettime(CLOCK_REALTIME, &tree->began);
	tree->nodes = snap_nodes_new(&nodes);
	tree->hot = snap_hot_pages_new(snap_catalog_tmp_fd(opts->catalog),
				       opts->open_proc);
	tree->hidden = snap_hidden_new();
	tree->tickets = snap_tickets_new();
	r = snap_plain_open(tree->nodes, opts->catalog, &tree->plain, error);
	snapshots.hot = tree->hot;
	tree->snapshots = snap_snapshots_new(&snapshots);
	incoming.plain = tree->plain;
	tree->incoming = snap_incoming_table_new(&incoming);
	if (r < 0) {
		snap_tree_free(tree);
		return r;
	}
	*ret_tree = tree;
	return 0;
}

void snap_tree_free(SnapTree *tree)
{
	if (!tree)
		return;
	snap_nodes_drop(tree->nodes);
	snap_incoming_table_free(tree->incoming);
	snap_snapshots_free(tree->snapshots);
	snap_plain_free(tree->plain);
	snap_tickets_free(tree->tickets);
	snap_hidden_free(tree->hidden);
	snap_hot_pages_free(tree->hot);
	snap_nodes_free(tree->nodes);
	g_free(tree);
}

SnapNode *snap_tree_root(SnapTree *tree)
{
	return snap_plain_root(tree->plain);
}

SnapNode *snap_tree_node(SnapTree *tree, uint64_t number)
{
	return snap_nodes_get(tree->nodes, number);
}

void snap_tree_forget(SnapTree *tree, uint64_t number, uint64_t n)
{
	snap_nodes_forget(tree->nodes, number, n);
}

char *snap_tree_path(SnapNode *node)
{
	SnapIncoming *in = node ? snap_incoming_of(node) : NULL;
	struct snap_view_of view;

	if (in)
		return snap_folder_path(snap_incoming_folder(in),
					snap_incoming_name(in));
	if (node && snap_view_of(node, &view))
		return snap_folder_path(view.folder, snap_view_name(view.view));
	return node && node->ops->clear == snap_store_clear
		       ? snap_store_path(node)
		       : g_strdup("a file");
}

int snap_tree_statfs(SnapTree *tree, struct statvfs *ret)
{
	int fd = snap_catalog_fd(tree->opts.catalog);

	return fstatvfs(fd, ret) < 0 ? -errno : 0;
}

void snap_tree_mounted(SnapTree *tree, dev_t device)
{
	snap_hot_pages_mounted(tree->hot, device);
}

void snap_tree_on_change(SnapTree *tree, snap_nodes_changed changed, void *data)
{
	snap_nodes_on_change(tree->nodes, changed, data);
}

void snap_tree_on_push(SnapTree *tree, snap_tree_push push, void *data)
{
	snap_hot_pages_on_push(tree->hot, push, data);
}

void snap_tree_end_pushes(SnapTree *tree)
{
	snap_hot_pages_end(tree->hot);
}

void snap_tree_end_saves(SnapTree *tree)
{
	snap_incoming_table_end(tree->incoming);
}

void snap_tree_drain(SnapTree *tree)
{
	snap_incoming_table_drain(tree->incoming);
}
