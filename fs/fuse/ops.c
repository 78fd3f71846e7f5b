/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's requests. Each finds its node, makes one call, and answers.
 *
 * Not there, and meant so: poll (a file is always ready), locks (the kernel
 * keeps them), access (default_permissions).
 */
#include "fs/fuse/fuse-internal.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	const struct snap_session_opts *opts = userdata;

	conn->max_write = SNAP_REQUEST_MAX;
	/* libfuse refuses any value but that of the option. */
	conn->max_read = opts->max_read;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->want |= conn->capable &
		      (FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
		       FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_AUTO_INVAL_DATA);
	/* A write must reach us before it is answered. And a process that opens
	 * a file with O_TRUNC must not take its size from its readers. */
	conn->want &=
		~(unsigned)(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_ATOMIC_O_TRUNC |
			    FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
			    FUSE_CAP_SPLICE_MOVE);
}

/* Answers a request for a node. */
static void reply_node(fuse_req_t req, int r, SnapNode *node,
		       const struct snap_attr *attr)
{
	if (r < 0)
		snap_inode_reply_result(req, r);
	else
		snap_inode_reply(req, node, attr);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	g_autoptr(SnapNode) folder = snap_inode_get(req, parent);
	struct snap_caller caller = snap_inode_caller(req);
	struct snap_attr attr;
	SnapNode *node = NULL;
	int r;

	if (!folder)
		return;
	r = snap_tree_lookup(snap_inode_tree(req), folder, name, &caller, &node,
			     &attr);
	reply_node(req, r, node, &attr);
}

static void forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	/* The kernel keeps the root without a reference. */
	if (ino != FUSE_ROOT_ID)
		snap_tree_forget(snap_inode_tree(req), ino, n);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	forget(req, ino, nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count,
			    struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		forget(req, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static SnapHandle *handle_of(struct fuse_file_info *fi)
{
	return fi ? (SnapHandle *)(uintptr_t)fi->fh : NULL;
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	g_autoptr(SnapNode) node = snap_inode_get(req, ino);
	struct snap_attr attr;
	int r;

	if (!node)
		return;
	r = snap_node_getattr(node, handle_of(fi), &attr);
	if (r < 0)
		snap_inode_reply_result(req, r);
	else
		fuse_reply_attr(req, &attr.st, snap_inode_attr_timeout(&attr));
	if (r == 0 && ino == FUSE_ROOT_ID)
		snap_request_note_top(&attr.st);
}

/* Translates the attributes to set; times that are now become UTIME_NOW. */
static unsigned translate_set(int to_set, struct stat *st)
{
	unsigned set = 0;

	if (to_set & FUSE_SET_ATTR_MODE)
		set |= SNAP_SET_MODE;
	if (to_set & FUSE_SET_ATTR_UID)
		set |= SNAP_SET_UID;
	if (to_set & FUSE_SET_ATTR_GID)
		set |= SNAP_SET_GID;
	if (to_set & FUSE_SET_ATTR_SIZE)
		set |= SNAP_SET_SIZE;
	if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW))
		set |= SNAP_SET_ATIME;
	if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW))
		set |= SNAP_SET_MTIME;
	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		st->st_atim.tv_nsec = UTIME_NOW;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		st->st_mtim.tv_nsec = UTIME_NOW;
	return set;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st,
		       int to_set, struct fuse_file_info *fi)
{
	g_autoptr(SnapNode) node = snap_inode_get(req, ino);
	struct stat want = *st;
	unsigned set = translate_set(to_set, &want);
	struct snap_attr attr;
	int r;

	if (!node)
		return;
	r = snap_node_setattr(node, handle_of(fi), set, &want, &attr);
	if (r < 0)
		snap_inode_reply_result(req, r);
	else
		fuse_reply_attr(req, &attr.st, snap_inode_attr_timeout(&attr));
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	g_autoptr(SnapNode) node = snap_inode_get(req, ino);
	char target[PATH_MAX];
	int r;

	if (!node)
		return;
	r = snap_tree_readlink(snap_inode_tree(req), node, target,
			       sizeof(target));
	if (r < 0)
		snap_inode_reply_result(req, r);
	else
		fuse_reply_readlink(req, target);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
		     mode_t mode, dev_t rdev)
{
	g_autoptr(SnapNode) folder = snap_inode_get(req, parent);
	struct snap_caller caller = snap_inode_caller(req);
	struct snap_attr attr;
	SnapNode *node = NULL;
	int r;

	if (!folder)
		return;
	r = snap_tree_mknod(snap_inode_tree(req), folder, name, mode, rdev,
			    &caller, &node, &attr);
	reply_node(req, r, node, &attr);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
		     mode_t mode)
{
	g_autoptr(SnapNode) folder = snap_inode_get(req, parent);
	struct snap_caller caller = snap_inode_caller(req);
	struct snap_attr attr;
	SnapNode *node = NULL;
	int r;

	if (!folder)
		return;
	r = snap_tree_mkdir(snap_inode_tree(req), folder, name, mode, &caller,
			    &node, &attr);
	reply_node(req, r, node, &attr);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		       const char *name)
{
	g_autoptr(SnapNode) folder = snap_inode_get(req, parent);
	struct snap_caller caller = snap_inode_caller(req);
	struct snap_attr attr;
	SnapNode *node = NULL;
	int r;

	if (!folder)
		return;
	r = snap_tree_symlink(snap_inode_tree(req), folder, name, target,
			      &caller, &node, &attr);
	reply_node(req, r, node, &attr);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent,
		    const char *name)
{
	g_autoptr(SnapNode) old = snap_inode_get(req, ino);
	g_autoptr(SnapNode) folder = old ? snap_inode_get(req, parent) : NULL;
	struct snap_attr attr;
	SnapNode *node = NULL;
	int r;

	if (!folder)
		return;
	r = snap_tree_link(snap_inode_tree(req), old, folder, name, &node,
			   &attr);
	reply_node(req, r, node, &attr);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	g_autoptr(SnapNode) folder = snap_inode_get(req, parent);

	if (!folder)
		return;
	snap_inode_reply_result(
		req, snap_tree_unlink(snap_inode_tree(req), folder, name));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	g_autoptr(SnapNode) folder = snap_inode_get(req, parent);

	if (!folder)
		return;
	snap_inode_reply_result(
		req, snap_tree_rmdir(snap_inode_tree(req), folder, name));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
		      fuse_ino_t newparent, const char *newname, unsigned flags)
{
	g_autoptr(SnapNode) folder = snap_inode_get(req, parent);
	g_autoptr(SnapNode) to_folder =
		folder ? snap_inode_get(req, newparent) : NULL;
	struct snap_caller caller = snap_inode_caller(req);

	if (!to_folder)
		return;
	snap_tree_rename(snap_inode_tree(req), folder, name, to_folder, newname,
			 flags, &caller, snap_answer_result,
			 snap_request_keep(req));
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;
	int r = snap_tree_statfs(snap_inode_tree(req), &st);

	if (r < 0)
		snap_inode_reply_result(req, r);
	else
		fuse_reply_statfs(req, &st);
	if (r == 0)
		snap_request_note_fs(&st);
}

/* Answers getxattr and listxattr with a size or with the bytes. */
static void reply_xattr(fuse_req_t req, ssize_t n, const void *buf, size_t size)
{
	if (n < 0)
		snap_inode_reply_result(req, (int)n);
	else if (size == 0)
		fuse_reply_xattr(req, (size_t)n);
	else
		fuse_reply_buf(req, buf, (size_t)n);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			size_t size)
{
	g_autoptr(SnapNode) node = snap_inode_get(req, ino);
	g_autofree char *buf = size ? g_malloc(size) : NULL;

	if (!node)
		return;
	reply_xattr(
		req,
		snap_tree_getxattr(snap_inode_tree(req), node, name, buf, size),
		buf, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	g_autoptr(SnapNode) node = snap_inode_get(req, ino);
	g_autofree char *buf = size ? g_malloc(size) : NULL;

	if (!node)
		return;
	reply_xattr(req,
		    snap_tree_listxattr(snap_inode_tree(req), node, buf, size),
		    buf, size);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			const char *value, size_t size, int flags)
{
	g_autoptr(SnapNode) node = snap_inode_get(req, ino);

	if (!node)
		return;
	snap_inode_reply_result(req,
				snap_tree_setxattr(snap_inode_tree(req), node,
						   name, value, size, flags));
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	g_autoptr(SnapNode) node = snap_inode_get(req, ino);

	if (!node)
		return;
	snap_inode_reply_result(
		req, snap_tree_removexattr(snap_inode_tree(req), node, name));
}

const struct fuse_lowlevel_ops snap_fuse_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.symlink = op_symlink,
	.link = op_link,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.statfs = op_statfs,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.setxattr = op_setxattr,
	.removexattr = op_removexattr,
	.create = snap_op_create,
	.open = snap_op_open,
	.read = snap_op_read,
	.write = snap_op_write,
	.release = snap_op_release,
	.flush = snap_op_flush,
	.fsync = snap_op_fsync,
	.lseek = snap_op_lseek,
	.fallocate = snap_op_fallocate,
	.opendir = snap_op_opendir,
	.readdir = snap_op_readdir,
	.releasedir = snap_op_releasedir,
	.fsyncdir = snap_op_fsyncdir,
};
