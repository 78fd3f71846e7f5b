/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The numbers by which the kernel knows nodes.
 *
 * A node stays one object while it has references, so its address is its
 * number. Each lookup that the kernel counts is one reference; FORGET gives
 * them back. A node's serial, which is never used again, is the generation.
 *
 * The kernel looks a name up every time: a snapshot may replace another without
 * a request. It may keep the attributes of a sealed view, which never change.
 */
#include "fs/fuse/fuse-internal.h"

#include <errno.h>

#define TIMEOUT_SEALED 3600.0
#define TIMEOUT_OTHER 1.0

SnapTree *snap_inode_tree(fuse_req_t req)
{
	const struct snap_session_opts *opts = fuse_req_userdata(req);

	return opts->tree;
}

SnapNode *snap_inode_node(fuse_req_t req, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? snap_tree_root(snap_inode_tree(req))
				   : (SnapNode *)(uintptr_t)ino;
}

fuse_ino_t snap_inode_number(SnapNode *node)
{
	return (fuse_ino_t)(uintptr_t)node;
}

double snap_inode_attr_timeout(const struct snap_attr *attr)
{
	return attr->sealed ? TIMEOUT_SEALED : TIMEOUT_OTHER;
}

void snap_inode_entry(SnapNode *node, const struct snap_attr *attr,
		      struct fuse_entry_param *ret_entry)
{
	*ret_entry = (struct fuse_entry_param){
		.ino = snap_inode_number(node),
		.generation = snap_node_serial(node),
		.attr = attr->st,
		.attr_timeout = snap_inode_attr_timeout(attr),
	};
}

void snap_inode_reply(fuse_req_t req, SnapNode *node,
		      const struct snap_attr *attr)
{
	struct fuse_entry_param entry;

	snap_inode_entry(node, attr, &entry);
	/* The process may be gone: then the kernel has taken no reference. */
	if (fuse_reply_entry(req, &entry) < 0)
		snap_node_unref(node, 1);
}

struct snap_caller snap_inode_caller(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct snap_caller){ .uid = ctx->uid,
				     .gid = ctx->gid,
				     .pid = ctx->pid };
}

void snap_inode_reply_result(fuse_req_t req, int r)
{
	fuse_reply_err(req, r == -EBADMSG ? EIO : r < 0 ? -r : 0);
}
