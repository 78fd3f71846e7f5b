/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel's requests on open files and folders. */
#include "fs/fuse/fuse-internal.h"

#include <errno.h>
#include <string.h>

static SnapHandle *handle_of(const struct fuse_file_info *fi)
{
	return (SnapHandle *)(uintptr_t)fi->fh;
}

/* Tells the kernel how it may cache an open file. */
static void fill_info(SnapHandle *handle, struct fuse_file_info *fi)
{
	enum snap_handle_mode mode = snap_handle_mode(handle);

	fi->fh = (uint64_t)(uintptr_t)handle;
	fi->keep_cache = mode == SNAP_HANDLE_KEPT;
	fi->direct_io = mode == SNAP_HANDLE_DIRECT;
}

void snap_op_create(fuse_req_t req, fuse_ino_t parent, const char *name,
		    mode_t mode, struct fuse_file_info *fi)
{
	g_autoptr(SnapNode) folder = snap_inode_get(req, parent);
	struct snap_caller caller = snap_inode_caller(req);
	SnapTree *tree = snap_inode_tree(req);
	struct fuse_entry_param entry;
	struct snap_attr attr;
	SnapHandle *handle;
	SnapNode *node;
	int r;

	if (!folder)
		return;
	r = snap_tree_create(snap_inode_tree(req), folder, name, fi->flags,
			     mode, &caller, &node, &attr, &handle);
	if (r < 0) {
		snap_inode_reply_result(req, r);
		return;
	}
	snap_inode_entry(node, &attr, &entry);
	fill_info(handle, fi);
	snap_handle_known(handle);
	snap_node_known(node);
	if (fuse_reply_create(req, &entry, fi) < 0) {
		snap_handle_close(handle);
		snap_tree_forget(tree, entry.ino, 1);
	}
}

void snap_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	g_autoptr(SnapNode) node = snap_inode_get(req, ino);
	struct snap_caller caller = snap_inode_caller(req);
	SnapHandle *handle;
	int r;

	if (!node)
		return;
	r = snap_tree_open(snap_inode_tree(req), node, fi->flags, &caller,
			   &handle);
	if (r < 0) {
		snap_inode_reply_result(req, r);
		return;
	}
	fill_info(handle, fi);
	snap_handle_known(handle);
	if (fuse_reply_open(req, fi) < 0)
		snap_handle_close(handle);
}

static void answer_write(void *data, ssize_t result)
{
	fuse_req_t req = snap_request_req(data);

	if (result < 0)
		snap_inode_reply_result(req, (int)result);
	else
		fuse_reply_write(req, (size_t)result);
	snap_request_done(data);
}

void snap_op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size,
		   off_t off, struct fuse_file_info *fi)
{
	if (fi->lock_owner)
		snap_handle_note_writer(handle_of(fi), fi->lock_owner);
	snap_handle_write(handle_of(fi), buf, size, (uint64_t)off, answer_write,
			  snap_request_keep(req));
}

void snap_answer_result(void *data, ssize_t result)
{
	snap_inode_reply_result(snap_request_req(data), (int)result);
	snap_request_done(data);
}

void snap_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	snap_handle_flush(handle_of(fi), fi->lock_owner, snap_answer_result,
			  snap_request_keep(req));
}

void snap_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	snap_handle_close(handle_of(fi));
	fuse_reply_err(req, 0);
}

void snap_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		   struct fuse_file_info *fi)
{
	snap_handle_sync(handle_of(fi), datasync, snap_answer_result,
			 snap_request_keep(req));
}

void snap_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		   struct fuse_file_info *fi)
{
	int64_t at = snap_handle_seek(handle_of(fi), off, whence);

	if (at < 0)
		snap_inode_reply_result(req, (int)at);
	else
		fuse_reply_lseek(req, at);
}

void snap_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset,
		       off_t length, struct fuse_file_info *fi)
{
	snap_inode_reply_result(
		req, snap_handle_allocate(handle_of(fi), mode, offset, length));
}

/* ---- folders ---- */

/* An open folder, with its names at the moment when its reader began. */
struct folder_handle {
	SnapList *list;
	gboolean read;
};

static struct folder_handle *folder_of(const struct fuse_file_info *fi)
{
	return (struct folder_handle *)(uintptr_t)fi->fh;
}

static void folder_free(struct folder_handle *f)
{
	snap_list_free(f->list);
	g_free(f);
}

void snap_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	g_autoptr(SnapNode) node = snap_inode_get(req, ino);
	struct folder_handle *f;
	int r;

	if (!node)
		return;
	f = g_new0(struct folder_handle, 1);
	r = snap_tree_list(snap_inode_tree(req), node, &f->list);
	if (r < 0) {
		g_free(f);
		snap_inode_reply_result(req, r);
		return;
	}
	fi->fh = (uint64_t)(uintptr_t)f;
	if (fuse_reply_open(req, fi) < 0)
		folder_free(f);
}

/* Lists the folder again when its reader begins again. */
static int folder_rewind(fuse_req_t req, struct folder_handle *f,
			 SnapNode *node)
{
	SnapList *list;
	int r;

	if (!f->read) {
		f->read = TRUE;
		return 0;
	}
	r = snap_tree_list(snap_inode_tree(req), node, &list);
	if (r < 0)
		return r;
	snap_list_free(f->list);
	f->list = list;
	return 0;
}

void snap_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	g_autoptr(SnapNode) node = snap_inode_get(req, ino);
	struct folder_handle *f = folder_of(fi);
	SnapVec *vec = snap_thread_vec();
	struct snap_listed listed;
	char *buf;
	size_t used = 0;
	int r = 0;

	if (!node)
		return;
	snap_vec_begin(vec, size);
	buf = snap_vec_room(vec, size);
	if (off == 0)
		r = folder_rewind(req, f, node);
	if (r == 0 && !buf)
		r = -ENOMEM;
	if (r < 0) {
		snap_inode_reply_result(req, r);
		return;
	}
	while (snap_list_get(f->list, (uint64_t)off, &listed)) {
		struct stat st = { .st_ino = listed.ino,
				   .st_mode = (mode_t)listed.type << 12 };
		size_t n = fuse_add_direntry(req, buf + used, size - used,
					     listed.name, &st, off + 1);

		if (n > size - used)
			break;
		used += n;
		off++;
	}
	fuse_reply_buf(req, buf, used);
}

void snap_op_releasedir(fuse_req_t req, fuse_ino_t ino,
			struct fuse_file_info *fi)
{
	folder_free(folder_of(fi));
	fuse_reply_err(req, 0);
}

void snap_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
		      struct fuse_file_info *fi)
{
	g_autoptr(SnapNode) node = snap_inode_get(req, ino);

	if (!node)
		return;
	snap_inode_reply_result(req,
				snap_tree_sync(snap_inode_tree(req), node));
}
