/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of fs/fuse share. */
#pragma once

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include "fs/fuse/session.h"

/* Requests and answers are up to this size. */
#define SNAP_REQUEST_MAX (1u << 20)

extern const struct fuse_lowlevel_ops snap_fuse_ops;

/* ---- numbers of nodes (inode.c) ---- */

/* The tree that a request is about. */
SnapTree *snap_inode_tree(fuse_req_t req);

/* The node that the kernel knows as `ino`: a reference. NULL where there is
 * none; the request is then answered. */
SnapNode *snap_inode_get(fuse_req_t req, fuse_ino_t ino);

/* What the kernel may believe of a node, and for how long. Takes no
 * reference. */
void snap_inode_entry(SnapNode *node, const struct snap_attr *attr,
		      struct fuse_entry_param *ret_entry);
double snap_inode_attr_timeout(const struct snap_attr *attr);

/* Answers with a node, to which the kernel then holds the reference. */
void snap_inode_reply(fuse_req_t req, SnapNode *node,
		      const struct snap_attr *attr);

/* The process that makes a request. */
struct snap_caller snap_inode_caller(fuse_req_t req);

/* Answers with 0 or an error; `r` is 0 or -errno. Damaged bytes (-EBADMSG) are
 * -EIO to the kernel. */
void snap_inode_reply_result(fuse_req_t req, int r);

/* ---- open files (ops-file.c) ---- */

/* Answers a request that was kept, with 0 or an error. */
void snap_answer_result(void *request, ssize_t result);

/* Requests, as struct fuse_lowlevel_ops has them. */
void snap_op_create(fuse_req_t req, fuse_ino_t parent, const char *name,
		    mode_t mode, struct fuse_file_info *fi);
void snap_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void snap_op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size,
		   off_t off, struct fuse_file_info *fi);
void snap_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void snap_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void snap_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		   struct fuse_file_info *fi);
void snap_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		   struct fuse_file_info *fi);
void snap_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset,
		       off_t length, struct fuse_file_info *fi);
void snap_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void snap_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi);
void snap_op_releasedir(fuse_req_t req, fuse_ino_t ino,
			struct fuse_file_info *fi);
void snap_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
		      struct fuse_file_info *fi);

/* ---- reading (read.c) ---- */

/* The calling thread's vector, for the answer that it puts together. */
SnapVec *snap_thread_vec(void);

/* The request, as struct fuse_lowlevel_ops has it. */
void snap_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		  struct fuse_file_info *fi);

/* Lets reads wait: before the first request. Ends that: after the last one,
 * when no save runs. */
void snap_wait_begin(void);
void snap_wait_end(void);

/* ---- serving (serve.c) ---- */

typedef struct SnapServer SnapServer;

/* A server of a session with at most so many threads; both are borrowed. */
SnapServer *snap_server_new(const struct snap_session_opts *opts,
			    struct fuse_session *se, guint threads);
/* Its threads must have ended. */
void snap_server_free(SnapServer *server);

/* Serves until the session ends and all threads have left. Calls `ends` before
 * it waits for them. 0 or -errno. */
int snap_server_run(SnapServer *server, void (*ends)(void *data), void *data);

/* Ends the session; from any thread. */
void snap_server_end(SnapServer *server);

/* A request that is answered when its function has returned: keeps it until
 * snap_request_done(). For the thread that serves it. */
struct snap_request *snap_request_keep(fuse_req_t req);
fuse_req_t snap_request_req(const struct snap_request *request);
void snap_request_done(struct snap_request *request);

/* What the calling thread was asked for: attributes of the top folder, and the
 * numbers of statfs. They are answered when the store does not answer. */
void snap_request_note_top(const struct stat *st);
void snap_request_note_fs(const struct statvfs *st);

/* True when a thread of another process is about to die, and not dead yet
 * (dying.c). */
bool snap_is_dying(const struct snap_session_opts *opts, pid_t thread);

/* The same by the text of its /proc/PID/stat. */
bool snap_dying_parse(const char *stat);

/* ---- once mounted (ready.c) ---- */

/* What is known of a mount before it answers. */
struct snap_ready {
	dev_t device;
	int readahead_fd; /* in /sys, or -1 */
};

/* Looks at the mount at `point`, without asking it. */
void snap_ready_prepare(const char *point, struct snap_ready *ret);

/* Waits until the mount answers, and lets the kernel read ahead as far as a
 * request is long, if we may. -errno. */
int snap_ready_wait(const char *point, struct snap_ready *ready);
