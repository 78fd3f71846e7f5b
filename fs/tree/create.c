/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names that are made. Making `stream` or `mapped` begins a stream, making
 * another view begins a part. Where a snapshot is there already, only `stream`
 * can be written.
 */
#include "fs/tree/tree-internal.h"

#include <fcntl.h>

#include "format/base/cleanup.h"

/* ---- ordinary names ---- */

int snap_tree_mkdir(SnapTree *tree, SnapNode *folder, const char *name,
		    mode_t mode, const struct snap_caller *caller,
		    SnapNode **ret_node, struct snap_attr *ret_attr)
{
	struct snap_new what = { .mode = S_IFDIR | (mode & 07777) };
	int r = snap_name_check_new(tree, folder, name);

	return r < 0 ? r
		     : snap_folder_make(folder, name, &what, caller, ret_node,
					ret_attr);
}

int snap_tree_symlink(SnapTree *tree, SnapNode *folder, const char *name,
		      const char *target, const struct snap_caller *caller,
		      SnapNode **ret_node, struct snap_attr *ret_attr)
{
	struct snap_new what = { .mode = S_IFLNK, .target = target };
	int r = snap_name_check_new(tree, folder, name);

	return r < 0 ? r
		     : snap_folder_make(folder, name, &what, caller, ret_node,
					ret_attr);
}

int snap_tree_mknod(SnapTree *tree, SnapNode *folder, const char *name,
		    mode_t mode, dev_t dev, const struct snap_caller *caller,
		    SnapNode **ret_node, struct snap_attr *ret_attr)
{
	struct snap_new what = { .mode = mode, .dev = dev };
	SnapHandle *handle;
	int r;

	/* tar makes a file so, to set its attributes before its bytes. */
	if (S_ISREG(mode) && snap_name_kind(name) == SNAP_NAME_VIEW) {
		r = snap_tree_create(tree, folder, name, O_WRONLY | O_EXCL,
				     mode, caller, ret_node, ret_attr, &handle);
		if (r == 0)
			snap_handle_close(handle);
		return r;
	}
	r = snap_name_check_new(tree, folder, name);
	return r < 0 ? r
		     : snap_folder_make(folder, name, &what, caller, ret_node,
					ret_attr);
}

int snap_tree_link(SnapTree *tree, SnapNode *node, SnapNode *folder,
		   const char *name, SnapNode **ret_node,
		   struct snap_attr *ret_attr)
{
	int r = snap_name_check_new(tree, folder, name);

	if (r < 0)
		return r;
	r = snap_ordinary_link(node, folder, name);
	if (r == -EPERM)
		return snap_name_refuse(
			folder, name,
			"a file of a snapshot cannot have two names");
	if (r == 0)
		r = snap_node_getattr(node, NULL, ret_attr);
	if (r == 0)
		*ret_node = snap_node_ref(node);
	return r;
}

/* ---- files that are opened ---- */

/* The attributes of a node that is to stand for a new file; drops it where that
 * has another name by now. */
static int check_made(SnapNode *node, int fd, struct snap_attr *ret_attr)
{
	int r = snap_store_is(node, fd)
			? snap_node_getattr(node, NULL, ret_attr)
			: -ESTALE;

	if (r < 0)
		snap_node_unref(node, 1);
	return r;
}

static int create_plain(SnapNode *folder, const char *name, int flags,
			mode_t mode, const struct snap_caller *caller,
			SnapNode **ret_node, struct snap_attr *ret_attr,
			SnapHandle **ret_handle)
{
	snap_autofd int fd =
		snap_folder_make_file(folder, name, flags, mode, caller);
	int r = fd < 0 ? fd : snap_folder_child(folder, name, ret_node);

	if (r == 0)
		r = check_made(*ret_node, fd, ret_attr);
	if (r == 0)
		*ret_handle =
			snap_ordinary_handle_new(*ret_node, snap_steal_fd(&fd));
	return r;
}

static int create_stream(SnapTree *tree, SnapNode *folder, const char *name,
			 mode_t mode, const struct snap_caller *caller,
			 SnapNode **ret_node, struct snap_attr *ret_attr,
			 SnapHandle **ret_handle)
{
	struct snap_former former = { .owner = snap_folder_owner(folder, mode,
								 caller) };
	SnapHandle *handle = snap_stream_open(tree, folder, name, &former,
					      caller, NULL, ret_node);
	int r = snap_node_getattr(*ret_node, handle, ret_attr);

	if (r < 0) {
		snap_handle_close(handle);
		snap_node_unref(*ret_node, 1);
		return r;
	}
	*ret_handle = handle;
	return 0;
}

/* Makes a part, of which a save sees nothing until it is open. */
static int create_part(SnapTree *tree, SnapNode *folder, const char *name,
		       int flags, mode_t mode, const struct snap_caller *caller,
		       SnapNode **ret_node, struct snap_attr *ret_attr,
		       SnapHandle **ret_handle)
{
	struct snap_parts *parts = snap_parts_hold(tree->incoming, folder);
	snap_autofd int fd = -1;
	int r = snap_shown_check_write(tree, folder, name);

	if (r == 0)
		r = fd = snap_folder_make_file(folder, name, flags, mode,
					       caller);
	if (r >= 0)
		r = snap_part_lookup(tree->incoming, folder, name, ret_node);
	if (r == 0)
		r = check_made(*ret_node, fd, ret_attr);
	if (r == 0) {
		r = snap_part_open(*ret_node, snap_steal_fd(&fd), ret_handle);
		if (r < 0)
			snap_node_unref(*ret_node, 1);
	}
	snap_parts_let_go(parts);
	return r;
}

int snap_tree_create(SnapTree *tree, SnapNode *folder, const char *name,
		     int flags, mode_t mode, const struct snap_caller *caller,
		     SnapNode **ret_node, struct snap_attr *ret_attr,
		     SnapHandle **ret_handle)
{
	int r = snap_name_check_folder(tree, folder);

	if (r < 0)
		return r;
	snap_nodes_count(tree->nodes, SNAP_COUNT_OPEN);
	if (snap_name_kind(name) != SNAP_NAME_VIEW) {
		r = snap_name_check_new(tree, folder, name);
		return r < 0 ? r
			     : create_plain(folder, name, flags, mode, caller,
					    ret_node, ret_attr, ret_handle);
	}
	if (snap_part_is_name(name))
		return create_part(tree, folder, name, flags, mode, caller,
				   ret_node, ret_attr, ret_handle);
	r = snap_shown_check_write(tree, folder, name);
	return r < 0 ? r
		     : create_stream(tree, folder, name, mode, caller, ret_node,
				     ret_attr, ret_handle);
}
