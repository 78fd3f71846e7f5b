/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extended attributes. Those of ordinary files and folders are the store's.
 * user.snapfs.* are snapfs's own; views, streams on their way in, and folders
 * have them, and nobody can set them.
 */
#include "fs/tree/tree-internal.h"

#include <string.h>

/* Who owns an ordinary file or a folder in the store. The options uid=, gid=
 * and umask= change what the mount shows, but not this. It is not listed, so
 * that no copy takes it along. */
#define OWNER "user.snapfs.owner"

/* The folder whose snapshot the attributes of a node are about, or NULL.
 * *ret_sealed is the snapshot, a reference, or NULL. */
static SnapNode *find_folder(SnapTree *tree, SnapNode *node,
			     SnapSealed **ret_sealed)
{
	SnapIncoming *in = snap_incoming_of(node);
	struct snap_view_of of;

	*ret_sealed = NULL;
	if (snap_view_of(node, &of)) {
		*ret_sealed = snap_sealed_ref(of.sealed);
		return of.folder;
	}
	if (in)
		return snap_incoming_folder(in);
	if (!snap_is_folder(node))
		return NULL;
	if (snap_sealed_get(tree->snapshots, node, ret_sealed) < 0)
		*ret_sealed = NULL;
	return node;
}

/* The value of one of snapfs's own, or NULL. */
static char *get_own(SnapTree *tree, SnapNode *node, const char *name)
{
	g_autoptr(SnapSealed) sealed = NULL;
	SnapNode *folder;

	if (!strcmp(name, OWNER))
		return snap_store_owner(node);
	folder = find_folder(tree, node, &sealed);
	return folder ? snap_attribute_get(sealed, folder, name) : NULL;
}

/* Copies a value as getxattr(2) does. */
static ssize_t give(const void *value, size_t length, void *ret, size_t size)
{
	if (size && length > size)
		return -ERANGE;
	if (size)
		memcpy(ret, value, length);
	return (ssize_t)length;
}

ssize_t snap_tree_getxattr(SnapTree *tree, SnapNode *node, const char *name,
			   void *ret, size_t size)
{
	g_autofree char *value = NULL;

	snap_nodes_count(tree->nodes, SNAP_COUNT_XATTR);
	if (snap_attribute_is(name)) {
		value = get_own(tree, node, name);
		return value ? give(value, strlen(value), ret, size) : -ENODATA;
	}
	return snap_store_getxattr(node, name, ret, size);
}

ssize_t snap_tree_listxattr(SnapTree *tree, SnapNode *node, char *ret,
			    size_t size)
{
	g_autoptr(SnapSealed) sealed = NULL;
	SnapNode *folder = find_folder(tree, node, &sealed);
	GString *names = g_string_new(NULL);
	ssize_t n;

	snap_nodes_count(tree->nodes, SNAP_COUNT_XATTR);
	n = snap_store_listxattr(node, names);
	if (n == 0) {
		if (folder)
			snap_attribute_list(sealed, folder, names);
		n = give(names->str, names->len, ret, size);
	}
	g_string_free(names, TRUE);
	return n;
}

/* True when the attribute has the value already: a copy sets them all. */
static bool has_value(SnapTree *tree, SnapNode *node, const char *name,
		      const void *value, size_t size)
{
	g_autofree char *has = get_own(tree, node, name);

	return has && strlen(has) == size && !memcmp(has, value, size);
}

/* May an attribute be changed? */
static int check_change(SnapTree *tree, const char *name)
{
	snap_nodes_count(tree->nodes, SNAP_COUNT_XATTR);
	if (tree->read_only)
		return -EROFS;
	return snap_attribute_is(name) ? -EPERM : 0;
}

int snap_tree_setxattr(SnapTree *tree, SnapNode *node, const char *name,
		       const void *value, size_t size, int flags)
{
	int r = check_change(tree, name);

	if (r == -EPERM && has_value(tree, node, name, value, size))
		return 0;
	return r < 0 ? r : snap_store_setxattr(node, name, value, size, flags);
}

int snap_tree_removexattr(SnapTree *tree, SnapNode *node, const char *name)
{
	int r = check_change(tree, name);

	return r < 0 ? r : snap_store_removexattr(node, name);
}
