/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/load/readahead.h"

/* Reads of one process arrive out of order: the kernel's own readahead sends
 * some at a time. They are as far apart as some reads are long. */
#define NEAR_READS 4
#define NEAR_MAX (2 * SNAP_MIB)

/* Before so many bytes were read in order, two reads that happen to be
 * neighbours are no reason to load anything ahead. */
#define STREAK_MIN (64 * SNAP_KIB)

/* The threads that serve one open file share a hint. A torn guess only costs
 * time, so the accesses are atomic but there is no lock. */
#define HINT_GET(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define HINT_SET(field, v) __atomic_store_n(&(field), v, __ATOMIC_RELAXED)

/* Notes a read; true when it goes on near the end of the last one. */
static bool goes_on(struct snap_pages_hint *hint, uint64_t offset,
		    uint64_t size)
{
	uint64_t next = HINT_GET(hint->next), end = offset + size;
	uint64_t near = MIN(NEAR_READS * size, NEAR_MAX);

	if (next != 0 && offset + near >= next && offset <= next + near) {
		HINT_SET(hint->next, MAX(end, next));
		HINT_SET(hint->streak, HINT_GET(hint->streak) + size);
		return true;
	}
	HINT_SET(hint->next, end);
	HINT_SET(hint->ahead, end);
	HINT_SET(hint->streak, 0);
	return false;
}

bool snap_readahead_next(struct snap_pages_hint *hint, uint64_t offset,
			 uint64_t size, uint64_t window, uint64_t *ret_from,
			 uint64_t *ret_to)
{
	uint64_t end = offset + size, ahead, streak;

	if (!goes_on(hint, offset, size))
		return false;
	streak = HINT_GET(hint->streak);
	if (streak < STREAK_MIN)
		return false;
	window = MIN(window, 2 * streak);
	ahead = MAX(HINT_GET(hint->ahead), end);
	/* At least half a window at a time, so that jobs are few. */
	if (ahead >= end + window / 2)
		return false;
	*ret_from = ahead;
	*ret_to = end + window;
	HINT_SET(hint->ahead, end + window);
	return true;
}
