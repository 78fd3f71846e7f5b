/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extended attributes. Those of ordinary files and folders are the store's.
 * user.snapfs.* are snapfs's own; views, streams on their way in, and folders
 * have them, and nobody can change them.
 *
 * Programs that bring a copy back also set the attributes that its original
 * had, some before the snapshot is there and some after it: this succeeds and
 * changes nothing, as long as it agrees with what the snapshot holds.
 */
#include "fs/tree/tree-internal.h"

#include <string.h>

#include "format/base/asked.h"

/* Who owns an ordinary file or a folder in the store. The options uid=, gid=
 * and umask= change what the mount shows, but not this. It is not listed, so
 * that no copy takes it along. */
#define OWNER "user.snapfs.owner"

/* Is this what a caller asks for the next save? That lies in the store, is gone
 * once the save has begun, and is not listed either. */
static bool is_parent(const SnapNode *node, const char *name)
{
	return snap_is_folder(node) && !strcmp(name, SNAP_PARENT_ATTRIBUTE);
}

/* The folder whose snapshot the attributes of a node are about, or NULL.
 * *ret_sealed is the snapshot, a reference, or NULL. */
static SnapNode *find_folder(SnapTree *tree, SnapNode *node,
			     SnapSealed **ret_sealed)
{
	SnapIncoming *in = snap_incoming_of(node);
	struct snap_view_of of;

	*ret_sealed = NULL;
	if (snap_view_of(node, &of)) {
		if (snap_view_sealed(node, ret_sealed) < 0)
			*ret_sealed = NULL;
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
	if (snap_attribute_is(name) && !is_parent(node, name)) {
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
	n = snap_store_listxattr(node, names, snap_attribute_is);
	if (n == 0) {
		if (folder)
			snap_attribute_list(sealed, folder, names);
		n = give(names->str, names->len, ret, size);
	}
	g_string_free(names, TRUE);
	return n;
}

/* Accepts a value for one of snapfs's own, which does not change: 0, -EPERM. */
static int accept_own(SnapTree *tree, SnapNode *node, const char *name,
		      const void *value, size_t size)
{
	g_autoptr(SnapSealed) sealed = NULL;
	SnapNode *folder = find_folder(tree, node, &sealed);
	g_autofree char *has = NULL;

	if (!sealed || snap_attribute_is_local(name))
		return 0;
	has = snap_attribute_get(sealed, folder, name);
	if (has && strlen(has) == size && !memcmp(has, value, size))
		return 0;
	return snap_name_refuse(folder, name,
				"not set: the snapshot here has another value");
}

/* Nobody takes one of snapfs's own away: -EPERM, -ENODATA. */
static int refuse_removal(SnapTree *tree, SnapNode *node, const char *name)
{
	g_autofree char *has = get_own(tree, node, name);

	return has ? -EPERM : -ENODATA;
}

/* May anything be changed? */
static int check_change(SnapTree *tree)
{
	snap_nodes_count(tree->nodes, SNAP_COUNT_XATTR);
	return tree->read_only ? -EROFS : 0;
}

/* True when a caller says that the parts in a folder are whole (snapfs import
 * --parts). */
static bool proves_parts(const SnapNode *node, const char *name,
			 const void *value, size_t size)
{
	static const char whole[] = SNAP_PARTS_WHOLE;

	return snap_is_folder(node) && !strcmp(name, SNAP_PARTS_ATTRIBUTE) &&
	       size == strlen(whole) && !memcmp(value, whole, size);
}

int snap_tree_setxattr(SnapTree *tree, SnapNode *node, const char *name,
		       const void *value, size_t size, int flags)
{
	int r = check_change(tree);

	if (r == 0 && proves_parts(node, name, value, size))
		return snap_parts_prove(tree->incoming, node);
	if (r == 0 && is_parent(node, name))
		return snap_parent_ask(tree->incoming, node, value, size);
	if (r == 0 && snap_attribute_is(name))
		return accept_own(tree, node, name, value, size);
	return r < 0 ? r : snap_store_setxattr(node, name, value, size, flags);
}

int snap_tree_removexattr(SnapTree *tree, SnapNode *node, const char *name)
{
	int r = check_change(tree);

	if (r == 0 && snap_attribute_is(name) && !is_parent(node, name))
		return refuse_removal(tree, node, name);
	return r < 0 ? r : snap_store_removexattr(node, name);
}
