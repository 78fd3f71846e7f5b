/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes and handles: what the kernel holds of a mount.
 *
 * A node is a file or a folder, a handle is an open file. A node stays one
 * object for as long as anybody holds a reference to it, under whatever name it
 * is looked up. The kernel knows it by a number, and holds references too,
 * which are counted apart from those of other nodes and handles.
 *
 * All functions may be called from any thread. They return 0 (or a count) or
 * -errno, and have logged what a person should know. What a kind of file
 * implements is in kind.h.
 */
#pragma once

#include <errno.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "format/base/vec.h"

typedef struct SnapNodes SnapNodes;
typedef struct SnapNode SnapNode;
typedef struct SnapHandle SnapHandle;

/* ---- all nodes of a mount (node.c, request.c) ---- */

struct snap_nodes_opts {
	bool read_only;
	uid_t uid; /* shown as the owner of every file; -1: the true one */
	gid_t gid;
	mode_t umask; /* permission bits that no file shows */
};

/* An empty table of nodes. */
SnapNodes *snap_nodes_new(const struct snap_nodes_opts *opts);

/* Closes the handles and drops the references that the kernel still holds. It
 * keeps them when a mount ends while files are open. The nodes' rooms must
 * still be there. */
void snap_nodes_drop(SnapNodes *nodes);

/* Frees the table, which is empty. */
void snap_nodes_free(SnapNodes *nodes);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapNodes, snap_nodes_free)

/* Called when `name` in `folder` stands for another node than before, and not
 * because of a request of the kernel. From any thread; it must not wait for a
 * request. */
typedef void (*snap_nodes_changed)(void *data, SnapNode *folder,
				   const char *name);

/* Sets that function; NULL: nobody is interested. */
void snap_nodes_on_change(SnapNodes *nodes, snap_nodes_changed changed,
			  void *data);

/* ---- counters (node.c) ---- */

/* Kinds of requests. */
enum snap_count {
	SNAP_COUNT_LOOKUP,
	SNAP_COUNT_GETATTR,
	SNAP_COUNT_SETATTR,
	SNAP_COUNT_LIST,
	SNAP_COUNT_NAME, /* made, moved or removed */
	SNAP_COUNT_OPEN,
	SNAP_COUNT_READ,
	SNAP_COUNT_WRITE,
	SNAP_COUNT_SEEK,
	SNAP_COUNT_XATTR,
	SNAP_COUNTS,
};

/* Counts one request. */
void snap_nodes_count(SnapNodes *nodes, enum snap_count what);

/* How many requests of a kind there were. */
uint64_t snap_nodes_counted(SnapNodes *nodes, enum snap_count what);

/* ---- nodes (node.c, request.c) ---- */

/* The process that makes a request. */
struct snap_caller {
	uid_t uid;
	gid_t gid;
	pid_t pid; /* of the thread; 0 where it is not known */
};

/* The attributes of a node. */
struct snap_attr {
	struct stat st;
	bool sealed; /* the bytes never change */
};

/* Another reference to a node. */
SnapNode *snap_node_ref(SnapNode *node);

/* Gives `n` references back. */
void snap_node_unref(SnapNode *node, uint64_t n);
static inline void snap_node_drop(SnapNode *node)
{
	snap_node_unref(node, 1);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapNode, snap_node_drop)

/* A number that no other node of this mount ever has. The first node, which is
 * the root, has 1. */
uint64_t snap_node_number(const SnapNode *node);

/* The kernel knows the node from now on: it takes over the caller's reference.
 */
void snap_node_known(SnapNode *node);

/* The node of a number: a new reference, or NULL where the kernel does not know
 * it. */
SnapNode *snap_nodes_get(SnapNodes *nodes, uint64_t number);

/* The kernel gives up to `n` references back; no more than it has. */
void snap_nodes_forget(SnapNodes *nodes, uint64_t number, uint64_t n);

/* The attributes of a node; `handle` is an open one of it, or NULL. */
int snap_node_getattr(SnapNode *node, SnapHandle *handle,
		      struct snap_attr *ret_attr);

/* Which attributes to change. */
enum snap_set {
	SNAP_SET_MODE = 1 << 0,
	SNAP_SET_UID = 1 << 1,
	SNAP_SET_GID = 1 << 2,
	SNAP_SET_SIZE = 1 << 3,
	SNAP_SET_ATIME = 1 << 4, /* UTIME_NOW counts */
	SNAP_SET_MTIME = 1 << 5,
};

/* Changes the attributes in `set` to those in `st`. */
int snap_node_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
		      const struct stat *st, struct snap_attr *ret_attr);

/* Opens a node; `flags` as open(2). */
int snap_node_open(SnapNode *node, int flags, const struct snap_caller *caller,
		   SnapHandle **ret_handle);

/* ---- handles (handle.c) ---- */

/* What the kernel may cache of an open file. */
enum snap_handle_mode {
	SNAP_HANDLE_CACHED, /* pages, until the file is opened again */
	SNAP_HANDLE_KEPT,   /* pages, for ever */
	SNAP_HANDLE_DIRECT, /* nothing */
};
enum snap_handle_mode snap_handle_mode(const SnapHandle *handle);

/* The bytes are not there yet; snap_handle_await() tells when to read again. */
#define SNAP_READ_LATER (-EINPROGRESS)

/* Reads up to `size` bytes, fills `vec` with them, and returns their count,
 * which is less than `size` only at the end of the file. SNAP_READ_LATER,
 * -errno. */
ssize_t snap_handle_read(SnapHandle *handle, SnapVec *vec, size_t size,
			 uint64_t offset);

/* One who waits to read. `link.data` is the waiter itself. */
struct snap_waiter {
	GList link;
	bool waits; /* protected by a lock of the file's room */
	gint ended; /* by snap_handle_forget(): it waits no more; atomic */
	/* The wait is over. From any thread; it must not wait. */
	void (*wake)(struct snap_waiter *waiter);
};

/* Lets a waiter wait until it may read; false: it may read now. */
bool snap_handle_await(SnapHandle *handle, struct snap_waiter *waiter);

/* Ends a wait, and those that might follow; false when the waiter does not wait
 * now. */
bool snap_handle_forget(SnapHandle *handle, struct snap_waiter *waiter);

/* Receives the outcome of a request: a count or 0, or -errno. Called from any
 * thread, possibly before the request's function returns. */
typedef void (*snap_handle_answer)(void *data, ssize_t result);

/* Writes `size` bytes. They are copied before the function returns. */
void snap_handle_write(SnapHandle *handle, const void *buf, size_t size,
		       uint64_t offset, snap_handle_answer answer, void *data);

/* Notes which process writes next: a number that tells a process from others,
 * also from its forked children; 0 where it is not known. */
void snap_handle_note_writer(SnapHandle *handle, uint64_t process);

/* close(2) of one of the handle's descriptors by a process. Answers 0 to a
 * process that has not written. */
void snap_handle_flush(SnapHandle *handle, uint64_t process,
		       snap_handle_answer answer, void *data);

/* fsync or, with `data_only`, fdatasync. */
void snap_handle_sync(SnapHandle *handle, bool data_only,
		      snap_handle_answer answer, void *data);

/* lseek with SEEK_DATA or SEEK_HOLE. */
int64_t snap_handle_seek(SnapHandle *handle, int64_t offset, int whence);

/* fallocate(2). */
int snap_handle_allocate(SnapHandle *handle, int mode, int64_t offset,
			 int64_t length);

/* The kernel is told of the handle: from now on the node's requests may find
 * it. */
void snap_handle_known(SnapHandle *handle);

/* Closes the handle. It does not wait for a save. */
void snap_handle_close(SnapHandle *handle);
