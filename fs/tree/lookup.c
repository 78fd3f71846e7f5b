/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which node a name stands for, and how it is opened. */
#include "fs/tree/tree-internal.h"

#include <fcntl.h>
#include <string.h>

#include "format/base/log.h"

/* ---- looking up ---- */

/* The stream on its way in, for a thread that was asked to look `stream` up
 * again; NULL for every other. */
static SnapNode *lookup_ticket(SnapTree *tree, SnapNode *folder,
			       const struct snap_shown *shown,
			       const struct snap_caller *caller)
{
	struct snap_former former;

	if (shown->view != &snap_view_stream ||
	    !snap_tickets_find(tree->tickets, folder, caller->pid, false) ||
	    snap_stream_former(shown->sealed, &former) < 0)
		return NULL;
	return snap_incoming_node(snap_incoming_join(
		tree->incoming, folder, snap_view_name(shown->view), &former));
}

/* The node of a stream of which only the head is there; NULL: there is none. */
static SnapNode *lookup_head(SnapTree *tree, SnapNode *folder, const char *name)
{
	struct snap_former former = { 0 };
	struct stat st;

	if (!snap_incoming_is_name(name) || !snap_head_stat(folder, name, &st))
		return NULL;
	former.owner = (struct snap_catalog_owner){ st.st_uid, st.st_gid,
						    st.st_mode & 07777 };
	return snap_incoming_node(
		snap_incoming_join(tree->incoming, folder, name, &former));
}

/* The node of a view, of a stream on its way in, or of a part. */
static int lookup_shown(SnapTree *tree, SnapNode *folder,
			const struct snap_shown *shown,
			const struct snap_caller *caller, SnapNode **ret_node)
{
	const char *name = snap_view_name(shown->view);
	SnapIncoming *in;

	if (shown->visible) {
		*ret_node = lookup_ticket(tree, folder, shown, caller);
		return *ret_node ? 0
				 : snap_view_node(shown->view, shown->sealed,
						  folder, ret_node);
	}
	in = snap_incoming_find(tree->incoming, folder, name);
	if (in) {
		*ret_node = snap_incoming_node(in);
		return 0;
	}
	*ret_node = lookup_head(tree, folder, name);
	if (*ret_node)
		return 0;
	return shown->may_be_part ? snap_part_lookup(tree->incoming, folder,
						     name, ret_node)
				  : -ENOENT;
}

static int lookup_view(SnapTree *tree, SnapNode *folder, const char *name,
		       const struct snap_caller *caller, SnapNode **ret_node)
{
	struct snap_shown shown;
	int r = snap_shown_get(tree, folder, name, &shown);

	if (r < 0)
		return r;
	r = lookup_shown(tree, folder, &shown, caller, ret_node);
	if (shown.sealed)
		snap_sealed_unref(shown.sealed);
	return r;
}

static int lookup(SnapTree *tree, SnapNode *folder, const char *name,
		  const struct snap_caller *caller, SnapNode **ret_node)
{
	if (snap_is_service_folder(folder))
		return snap_service_lookup(tree, name, ret_node);
	if (!snap_is_folder(folder))
		return -ENOTDIR;
	switch (snap_name_kind(name)) {
	case SNAP_NAME_PRIVATE:
		if (folder != snap_tree_root(tree) ||
		    strcmp(name, SNAP_CATALOG_PRIVATE))
			return -ENOENT;
		*ret_node = snap_service_folder(tree);
		return 0;
	case SNAP_NAME_VIEW:
		return lookup_view(tree, folder, name, caller, ret_node);
	default:
		return snap_folder_child(folder, name, ret_node);
	}
}

int snap_tree_lookup(SnapTree *tree, SnapNode *folder, const char *name,
		     const struct snap_caller *caller, SnapNode **ret_node,
		     struct snap_attr *ret_attr)
{
	SnapNode *node;
	int r;

	snap_nodes_count(tree->nodes, SNAP_COUNT_LOOKUP);
	r = lookup(tree, folder, name, caller, &node);
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

/* ---- opening ---- */

/* Opens a view of a snapshot to be written.
 *
 * Writing must not touch the node of the stream that is there: the kernel would
 * lengthen that file for its readers. So the open is answered with -ESTALE. The
 * kernel then looks the name up again, and the thread finds the stream on its
 * way in. A thread that comes back without a lookup (it opens a file through
 * /proc, for example) is served on the node that it has. */
static int open_to_write(SnapTree *tree, SnapNode *node,
			 const struct snap_view_of *of,
			 const struct snap_caller *caller,
			 SnapHandle **ret_handle)
{
	g_autoptr(SnapSealed) sealed = NULL;
	struct snap_former former;
	int r;

	if (of->view != &snap_view_stream)
		return snap_name_refuse(of->folder, snap_view_name(of->view),
					SNAP_REFUSE_WRITE);
	snap_nodes_count(tree->nodes, SNAP_COUNT_OPEN);
	if (caller->pid &&
	    snap_tickets_issue(tree->tickets, of->folder, caller->pid))
		return -ESTALE;
	r = snap_view_sealed(node, &sealed);
	if (r == 0)
		r = snap_stream_former(sealed, &former);
	if (r < 0)
		return r;
	*ret_handle =
		snap_stream_open(tree, of->folder, snap_view_name(of->view),
				 &former, caller, node, NULL);
	return 0;
}

int snap_tree_open(SnapTree *tree, SnapNode *node, int flags,
		   const struct snap_caller *caller, SnapHandle **ret_handle)
{
	bool writes = (flags & O_ACCMODE) != O_RDONLY;
	SnapIncoming *in = snap_incoming_of(node);
	struct snap_former former;
	struct snap_view_of of;

	if (writes && !tree->read_only && snap_view_of(node, &of))
		return open_to_write(tree, node, &of, caller, ret_handle);
	if (!in)
		return snap_node_open(node, flags, caller, ret_handle);
	snap_nodes_count(tree->nodes, SNAP_COUNT_OPEN);
	snap_tickets_find(tree->tickets, snap_incoming_folder(in), caller->pid,
			  true);
	if (!writes) {
		*ret_handle = snap_stream_open_to_read(tree, node);
		return 0;
	}
	if (tree->read_only)
		return -EROFS;
	former = snap_incoming_former(in);
	*ret_handle = snap_stream_open(tree, snap_incoming_folder(in),
				       snap_incoming_name(in), &former, caller,
				       node, NULL);
	return 0;
}

int snap_tree_readlink(SnapTree *tree, SnapNode *node, char *ret, size_t size)
{
	return snap_ordinary_readlink(node, ret, size);
}
