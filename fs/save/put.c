/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A write whose answer a thread waits for. */
#include "format/base/cleanup.h"
#include "fs/save/save.h"

struct wait {
	GMutex lock;
	GCond answered;
	bool done;
	ssize_t result;
};

static void wait_answered(void *data, ssize_t result)
{
	struct wait *w = data;
	SNAP_LOCKED(&w->lock);

	w->result = result;
	w->done = true;
	g_cond_signal(&w->answered);
}

int snap_save_put(SnapSave *save, const void *data, size_t size,
		  uint64_t offset)
{
	struct wait w = { 0 };

	g_mutex_init(&w.lock);
	g_cond_init(&w.answered);
	snap_save_write(save, data, size, offset, wait_answered, &w);
	g_mutex_lock(&w.lock);
	while (!w.done)
		g_cond_wait(&w.answered, &w.lock);
	g_mutex_unlock(&w.lock);
	g_cond_clear(&w.answered);
	g_mutex_clear(&w.lock);
	return w.result < 0 ? (int)w.result : 0;
}
