/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of fs/node share. */
#pragma once

#include "fs/node/kind.h"

struct SnapNodes {
	struct snap_nodes_opts opts;
	snap_nodes_changed changed;
	void *changed_data;
	uint64_t counts[SNAP_COUNTS]; /* atomic */
	GMutex lock;	     /* protects all below, and what kind.h says */
	uint64_t newest;     /* number */
	GHashTable *table;   /* nodes by key; not references */
	GHashTable *numbers; /* the same by number */
};

/* The handle opened last that truncates on open and was not written to or
 * truncated yet: a reference, or NULL. */
SnapHandle *snap_handle_newest(SnapNode *node);

/* Sets the size of an open file. */
int snap_handle_truncate(SnapHandle *handle, uint64_t size);
