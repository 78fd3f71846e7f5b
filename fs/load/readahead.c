/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/load/readahead.h"

/* Reads that arrive out of order are at most so many bytes apart. */
#define READAHEAD_NEAR (2 * SNAP_MIB)

/* The threads that serve one open file share a hint. A torn guess only costs
 * time, so the accesses are atomic but there is no lock. */
#define HINT_GET(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define HINT_SET(field, v) __atomic_store_n(&(field), v, __ATOMIC_RELAXED)

bool snap_readahead_next(struct snap_pages_hint *hint, uint64_t offset,
			 uint64_t size, uint64_t window, uint64_t *ret_from,
			 uint64_t *ret_to)
{
	uint64_t next = HINT_GET(hint->next), ahead = HINT_GET(hint->ahead);
	uint64_t end = offset + size;
	bool sequential = next != 0 && offset + READAHEAD_NEAR >= next &&
			  offset <= next + READAHEAD_NEAR;

	if (!sequential) {
		HINT_SET(hint->next, end);
		HINT_SET(hint->ahead, end);
		return false;
	}
	if (end > next)
		HINT_SET(hint->next, end);
	if (ahead < end)
		ahead = end;
	/* At least half a window at a time, so that jobs are few. */
	if (ahead >= end + window / 2)
		return false;
	*ret_from = ahead;
	*ret_to = end + window;
	HINT_SET(hint->ahead, end + window);
	return true;
}
