/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of fs/hot share. */
#pragma once

#include "fs/hot/hot.h"

#include "format/qemu/hot.h"

/* Pages are learnt and given in units of this size: an extent's. */
#define SNAP_HOT_UNIT (64 * SNAP_KIB)
#define SNAP_HOT_UNITS_MAX (SNAP_HOT_PAGES_MAX / (SNAP_HOT_UNIT / SNAP_PAGE))

struct SnapHotPages {
	int tmp_fd;		      /* -1: read-only */
	snap_hot_open_proc open_proc; /* or NULL */
	snap_hot_push push;
	void *push_data;
	uint64_t pushed; /* bytes; atomic */
	GMutex lock;	 /* protects all below, and what hot.h says */
	GCond idle;
	dev_t device; /* 0 until it is known */
	guint pushes; /* snapshots whose pages are being given */
	bool ending;
};

/* ---- the file `hot` (list.c) ---- */

/* Reads the list in a folder; empty where there is none. g_array_unref(). */
GArray *snap_hot_read(SnapNode *folder, const struct snap_ramlist *ram);

/* Adds runs to the list in the folder, as long as it holds the same snapshot.
 * On failure the old list stays. */
void snap_hot_add_runs(const struct snap_hot_file *file, const GArray *runs);

/* ---- a process's page tables (watch.c) ---- */

/* A unit that a process has touched, and the look that found it. */
struct snap_touched {
	uint64_t unit;
	guint look;
};

/* Watches which pages of a file (its device, inode number and size) the process
 * of a thread touches. NULL where /proc cannot be read, or when there are
 * enough watches. */
typedef struct SnapWatch SnapWatch;
SnapWatch *snap_watch_new(snap_hot_open_proc open_proc, pid_t thread, dev_t dev,
			  uint64_t ino, uint64_t size);

/* Ends a watch. Returns the touched units (struct snap_touched), each once;
 * g_array_unref(). Does not wait. */
GArray *snap_watch_end(SnapWatch *w);
