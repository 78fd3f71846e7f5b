/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The numbers by which the kernel knows nodes.
 *
 * A node's number is never used again, so all have one generation. It tells
 * nothing about the daemon's memory: any user can see it
 * (name_to_handle_at(2)). Each lookup that the kernel counts is one reference;
 * FORGET gives them back.
 *
 * The kernel looks the name of a file up every time: a snapshot may replace
 * another without a request. It believes the name of a folder for a moment, in
 * which a program that goes through a tree asks for the same folders again and
 * again. It may keep the attributes of a sealed view, which never change.
 */
#include "fs/fuse/fuse-internal.h"

#include <errno.h>

#define TIMEOUT_FOLDER 0.1
#define TIMEOUT_SEALED 3600.0
#define TIMEOUT_OTHER 1.0

SnapTree *snap_inode_tree(fuse_req_t req)
{
	const struct snap_session_opts *opts = fuse_req_userdata(req);

	return opts->tree;
}

SnapNode *snap_inode_get(fuse_req_t req, fuse_ino_t ino)
{
	SnapNode *node = snap_tree_node(snap_inode_tree(req), ino);

	if (!node)
		fuse_reply_err(req, ESTALE);
	return node;
}

double snap_inode_attr_timeout(const struct snap_attr *attr)
{
	return attr->sealed ? TIMEOUT_SEALED : TIMEOUT_OTHER;
}

void snap_inode_entry(SnapNode *node, const struct snap_attr *attr,
		      struct fuse_entry_param *ret_entry)
{
	*ret_entry = (struct fuse_entry_param){
		.ino = snap_node_number(node),
		.attr = attr->st,
		.attr_timeout = snap_inode_attr_timeout(attr),
		.entry_timeout = S_ISDIR(attr->st.st_mode) ? TIMEOUT_FOLDER : 0,
	};
}

void snap_inode_reply(fuse_req_t req, SnapNode *node,
		      const struct snap_attr *attr)
{
	SnapTree *tree = snap_inode_tree(req);
	struct fuse_entry_param entry;

	snap_inode_entry(node, attr, &entry);
	/* Before the answer: the kernel may use the number at once. If the
	 * process is gone, the kernel has taken no reference. */
	snap_node_known(node);
	if (fuse_reply_entry(req, &entry) < 0)
		snap_tree_forget(tree, entry.ino, 1);
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
