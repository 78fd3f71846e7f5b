/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of a mapped-ram file that hold the pages: there alone a hole means
 * zeros that need not be read. */
#pragma once

#include <glib.h>
#include <stdint.h>
#include <sys/types.h>

/* [begin, end) of the file. */
struct snap_area {
	uint64_t begin;
	uint64_t end;
};

/* Those of a file whose stream begins at `begin`, in order; places count from
 * `base` of `fd` on. None where it is no mapped-ram file, or cannot be read:
 * who reads it all will say so. */
GArray *snap_areas_read(int fd, off_t base, uint64_t begin);

/* Where data begins at or after `at`: `at` itself, unless a hole of the file
 * begins there in an area; at most the area's end. */
uint64_t snap_areas_skip(const GArray *areas, int fd, off_t base, uint64_t at);

/* The end of the area that holds `at`, or its next beginning: up to there a
 * hole is one thing or the other. UINT64_MAX behind the last. */
uint64_t snap_areas_edge(const GArray *areas, uint64_t at);
