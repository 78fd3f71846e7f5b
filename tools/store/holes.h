/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The holes of a mapped-ram file that may be skipped. A hole among the pages
 * stands for zero pages, which need no reading. A hole elsewhere is just zeros:
 * cp --sparse makes them in device state as well.
 */
#pragma once

#include <glib.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct SnapHoles SnapHoles;

/* Finds the pages in the file `fd`, which must outlive the result. All offsets
 * count from `base` of the file; the stream begins at `stream`. If the file is
 * not mapped-ram or cannot be read, no hole will be skipped. */
SnapHoles *snap_holes_new(int fd, off_t base, uint64_t stream);
void snap_holes_free(SnapHoles *holes);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapHoles, snap_holes_free)

/* Skips the hole among the pages that begins at `at`, if there is one. Returns
 * the offset to read from, and in *ret_end how far one may read from there
 * before asking again. */
uint64_t snap_holes_skip(const SnapHoles *holes, uint64_t at,
			 uint64_t *ret_end);
