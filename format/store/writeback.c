/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A write to a file ends in the kernel's page cache. It says nothing about the
 * disk, which may be many seconds behind. So this thread begins to write each
 * 8 MiB that have arrived, then waits for the oldest bytes that are under way:
 *
 *	0 ... on_disk ... begun ... arrived
 *	      the thread waits for the first 8 MiB from here on
 *
 * All this is advice to the kernel, and the thread ends at the first error. The
 * owner's fdatasync finds the errors of the disk. The kernel reports an error
 * once to each open file (file_check_and_advance_wb_err() in mm/filemap.c of
 * Linux), and sync_file_range(2) would take it away. So the thread has an open
 * file of its own.
 */
#include "format/store/writeback.h"

#include <fcntl.h>
#include <stdbool.h>

#include "format/base/cleanup.h"

struct SnapWriteback {
	int fd;
	GThread *thread;
	GMutex lock;
	GCond changed;
	uint64_t arrived; /* protected by lock */
	bool closing;	  /* protected by lock */
	uint64_t begun;	  /* used by the thread only */
	uint64_t on_disk; /* changed by the thread only; atomic */
};

static bool sync_range(SnapWriteback *w, uint64_t from, uint64_t to,
		       unsigned flags)
{
	return sync_file_range(w->fd, (off_t)from, (off_t)(to - from), flags) ==
	       0;
}

/* Begins to write the bytes before `arrived`, then waits for some of them.
 * Returns false after an error. */
static bool advance(SnapWriteback *w, uint64_t arrived)
{
	uint64_t from = w->on_disk, to;

	/* First, so that the disk always has more to write. */
	if (arrived - w->begun >= SNAP_WRITEBACK) {
		if (!sync_range(w, w->begun, arrived, SYNC_FILE_RANGE_WRITE))
			return false;
		w->begun = arrived;
	}
	to = MIN(from + SNAP_WRITEBACK, w->begun);
	if (!sync_range(w, from, to, SYNC_FILE_RANGE_WAIT_BEFORE))
		return false;
	__atomic_store_n(&w->on_disk, to, __ATOMIC_RELAXED);
	return true;
}

/* Waits for something to do. Returns the offset up to which bytes have arrived,
 * or 0 at the end. */
static uint64_t next(SnapWriteback *w)
{
	SNAP_LOCKED(&w->lock);

	while (!w->closing && w->on_disk == w->begun &&
	       w->arrived - w->begun < SNAP_WRITEBACK)
		g_cond_wait(&w->changed, &w->lock);
	return w->closing ? 0 : w->arrived;
}

static gpointer writeback_thread(gpointer data)
{
	SnapWriteback *w = data;
	uint64_t arrived;

	do
		arrived = next(w);
	while (arrived && advance(w, arrived));
	return NULL;
}

SnapWriteback *snap_writeback_new(int fd)
{
	SnapWriteback *w = g_new0(SnapWriteback, 1);

	w->fd = fd;
	g_mutex_init(&w->lock);
	g_cond_init(&w->changed);
	w->thread = g_thread_try_new("writeback", writeback_thread, w, NULL);
	if (!w->thread)
		g_clear_pointer(&w, snap_writeback_free);
	return w;
}

void snap_writeback_free(SnapWriteback *w)
{
	if (!w)
		return;
	g_mutex_lock(&w->lock);
	w->closing = true;
	g_cond_signal(&w->changed);
	g_mutex_unlock(&w->lock);
	if (w->thread)
		g_thread_join(w->thread);
	g_cond_clear(&w->changed);
	g_mutex_clear(&w->lock);
	snap_close_fd(&w->fd);
	g_free(w);
}

void snap_writeback_arrived(SnapWriteback *w, uint64_t end)
{
	SNAP_LOCKED(&w->lock);

	if (end < w->arrived + SNAP_WRITEBACK)
		return;
	w->arrived = end;
	g_cond_signal(&w->changed);
}

uint64_t snap_writeback_on_disk(const SnapWriteback *w)
{
	return __atomic_load_n(&w->on_disk, __ATOMIC_RELAXED);
}
