/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How hard to compress (`level=auto`). It is told how far the disk is and how
 * many extents wait for a processor, and says at which level of zstd the next
 * extent is compressed. Inside fs/save.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "format/base/units.h"

/* The bytes that format/store begins to write to the disk at once. */
#define SNAP_EFFORT_WINDOW (8 * SNAP_MIB)

/* The effort of one save. */
struct snap_effort {
	/* steps down the scale of levels: as far as the processors need it, and
	 * as far as the disk allows it; below 0, the disk needs fewer bytes */
	int step;
	int most;
	uint64_t windows; /* written, when `most` was last looked at */
};

/* Begins a save, of whose disk nothing is known. */
void snap_effort_init(struct snap_effort *e);

/* Tells that `written` bytes of the file were written, of which `on_disk` are
 * known to be on the disk. */
void snap_effort_disk(struct snap_effort *e, uint64_t written,
		      uint64_t on_disk);

/* Returns zstd's level for the next extent, while `queued` extents wait to be
 * compressed; there is memory for `room` of them. */
int snap_effort_level(struct snap_effort *e, guint queued, guint room);
