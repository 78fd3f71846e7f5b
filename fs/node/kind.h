/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a kind of file implements: a table of operations for its nodes, and one
 * for its open files. The kinds are in fs/plain, fs/view, fs/incoming and
 * fs/tree.
 */
#pragma once

#include <errno.h>

#include "fs/node/node.h"

/* The operations of a node. A missing one answers -EPERM, or as noted. */
struct snap_node_ops {
	int (*getattr)(SnapNode *node, SnapHandle *handle,
		       struct snap_attr *ret_attr);
	/* SNAP_SET_SIZE comes here only when no handle can be truncated. */
	int (*setattr)(SnapNode *node, SnapHandle *handle, unsigned set,
		       const struct stat *st);
	/* Missing: -EISDIR. */
	int (*open)(SnapNode *node, int flags, const struct snap_caller *caller,
		    SnapHandle **ret_handle);
	/* Frees all of the node but its own memory. Returns the node to which
	 * it held a reference, which is given back then; NULL: none. (It does
	 * not give it back itself: folders may lie in one another too deep for
	 * the stack.) */
	SnapNode *(*clear)(SnapNode *node);
};

/* Tells nodes apart. Compared byte by byte, so it starts zeroed. `words` are
 * the kind's own. */
#define SNAP_NODE_WORDS 15
struct snap_node_key {
	const void *kind;
	uint64_t words[SNAP_NODE_WORDS];
};

/* A node; kinds embed it as their first field. */
struct SnapNode {
	const struct snap_node_ops *ops;
	SnapNodes *nodes;
	uint64_t number;
	struct snap_node_key key;
	uint64_t refs;	/* protected by the lock of `nodes`, as the rest */
	uint64_t known; /* those of them that the kernel holds */
	GQueue handles;
};

/* The operations of an open file. A missing one answers -EBADF (read, write),
 * -EINVAL (seek), -EOPNOTSUPP (allocate) or 0 (flush, sync). */
struct snap_handle_ops {
	enum snap_handle_mode mode;
	/* A truncation for which the kernel names no handle is for this one,
	 * if it was opened last: a process has opened it with O_TRUNC. */
	bool truncates_on_open;
	ssize_t (*read)(SnapHandle *handle, void *buf, size_t size,
			uint64_t offset);
	/* Instead of `read`, for bytes that lie in memory already. */
	ssize_t (*give)(SnapHandle *handle, SnapVec *vec, size_t size,
			uint64_t offset);
	/* Both are there where `read` may answer SNAP_READ_LATER. */
	bool (*await)(SnapHandle *handle, struct snap_waiter *waiter);
	bool (*forget)(SnapHandle *handle, struct snap_waiter *waiter);
	void (*write)(SnapHandle *handle, const void *buf, size_t size,
		      uint64_t offset, snap_handle_answer answer, void *data);
	void (*flush)(SnapHandle *handle, snap_handle_answer answer,
		      void *data);
	int (*truncate)(SnapHandle *handle, uint64_t size);
	void (*sync)(SnapHandle *handle, bool data_only,
		     snap_handle_answer answer, void *data);
	int64_t (*seek)(SnapHandle *handle, int64_t offset, int whence);
	int (*allocate)(SnapHandle *handle, int mode, int64_t offset,
			int64_t length);
	/* Frees all of the handle but its own memory. */
	void (*clear)(SnapHandle *handle);
};

/* An open file; kinds embed it as their first field. */
struct SnapHandle {
	const struct snap_handle_ops *ops;
	SnapNode *node;	  /* a reference */
	uint64_t process; /* that wrote last, or 0; atomic */
	bool changes;	  /* it was written to or truncated; atomic */
	guint refs;	  /* protected by the lock of the nodes, as the rest */
	bool known;	  /* it is in node->handles */
	GList link;
};

/* A hash of `size` bytes, for tables whose keys are structs. */
guint snap_node_hash(const void *data, size_t size);

/* The node that has the key of `fresh`: an older one, or `fresh` itself. Takes
 * `fresh` over and returns a new reference. */
SnapNode *snap_node_intern(SnapNode *fresh);

/* Another reference, or false when the node is being freed. */
bool snap_node_try_ref(SnapNode *node);

/* Tells the kernel that `name` in `folder` stands for another node now. */
void snap_node_changed(SnapNode *folder, const char *name);

/* An open file of the node, with these operations unless they are NULL: a
 * reference, or NULL. */
SnapHandle *snap_node_handle(SnapNode *node, const struct snap_handle_ops *ops);

/* Gives a reference to a handle back. */
void snap_handle_unref(SnapHandle *handle);

/* A new handle of `size` bytes, zeroed, that holds a reference to `node`.
 * Nobody else finds it before snap_handle_known(), so its fields can be filled
 * in. */
void *snap_handle_new(size_t size, const struct snap_handle_ops *ops,
		      SnapNode *node);
