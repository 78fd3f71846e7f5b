/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pieces are added in the background, by a thread that gives way to readers.
 *
 * It reads a piece from the store once more, as a whole. The kernel still has
 * the part that a reader has just read, so the rest costs one read, and brings
 * what lies beside it along.
 */
#include <sys/resource.h>

#include "format/base/cleanup.h"
#include "fs/near/near-internal.h"

/* Pieces that wait; with more, some are left out. */
#define QUEUE_MAX 2048u

/* As the threads that read ahead (nice values, in sched(7)). */
#define FILL_NICE 5

struct job {
	struct snap_near_file *f; /* a reference */
	uint64_t piece;
};

/* Has the file lost its last name? */
static bool is_removed(SnapFile *f)
{
	struct snap_file_id id;

	return snap_file_identify(f, &id) == 0 && !id.names;
}

void snap_near_file_unref(struct snap_near_file *f)
{
	if (!g_atomic_int_dec_and_test(&f->refs))
		return;
	snap_copy_put(f->copy, is_removed(f->below));
	snap_file_close(f->below);
	g_free(f);
}

/* Changes what became of a piece, if it was `from`. */
static bool change(struct snap_copy *copy, uint64_t piece, guint8 from,
		   guint8 to)
{
	return __atomic_compare_exchange_n(&copy->pieces[piece], &from, to,
					   false, __ATOMIC_ACQ_REL,
					   __ATOMIC_ACQUIRE);
}

static void job_end(struct job *job)
{
	change(job->f->copy, job->piece, PIECE_ASKED, PIECE_AWAY);
	snap_near_file_unref(job->f);
	g_free(job);
}

static void job_run(struct job *job, void *buf)
{
	struct snap_copy *copy = job->f->copy;
	size_t size = snap_copy_piece_size(copy, job->piece);

	if (snap_file_read(job->f->below, buf, size,
			   job->piece * SNAP_NEAR_PIECE) == 0)
		snap_copy_add(copy, job->piece, buf);
	job_end(job);
}

static gpointer fill(gpointer data)
{
	SnapNear *near = data;
	g_autofree void *buf = g_malloc(SNAP_NEAR_PIECE);

	/* Of this thread alone (setpriority(2), notes). */
	setpriority(PRIO_PROCESS, 0, FILL_NICE);
	g_mutex_lock(&near->lock);
	while (!near->ending) {
		struct job *job = g_queue_pop_head(&near->queue);

		near->busy = job != NULL;
		if (!job) {
			g_cond_broadcast(&near->idle);
			g_cond_wait(&near->work, &near->lock);
			continue;
		}
		g_mutex_unlock(&near->lock);
		job_run(job, buf);
		g_mutex_lock(&near->lock);
	}
	g_mutex_unlock(&near->lock);
	return NULL;
}

/* False where so many wait that this one is left out. */
static bool push(struct snap_near_file *f, uint64_t piece)
{
	SnapNear *near = f->copy->near;
	struct job *job;
	SNAP_LOCKED(&near->lock);

	if (near->ending || near->queue.length >= QUEUE_MAX ||
	    g_get_monotonic_time() < near->quiet_until)
		return false;
	if (!near->thread)
		near->thread = g_thread_try_new("fill", fill, near, NULL);
	if (!near->thread)
		return false;
	job = g_new(struct job, 1);
	*job = (struct job){ f, piece };
	g_atomic_int_inc(&f->refs);
	g_queue_push_tail(&near->queue, job);
	g_cond_signal(&near->work);
	return true;
}

void snap_fill_ask(struct snap_near_file *f, uint64_t offset, size_t size)
{
	struct snap_copy *copy = f->copy;
	uint64_t end = MIN(offset + size, copy->size);

	if (copy->fd < 0)
		return;
	for (uint64_t i = offset / SNAP_NEAR_PIECE; i * SNAP_NEAR_PIECE < end;
	     i++)
		if (change(copy, i, PIECE_AWAY, PIECE_ASKED) && !push(f, i))
			change(copy, i, PIECE_ASKED, PIECE_AWAY);
}

void snap_near_settle(SnapNear *near)
{
	SNAP_LOCKED(&near->lock);

	while (near->busy || near->queue.length)
		g_cond_wait(&near->idle, &near->lock);
}

void snap_fill_end(SnapNear *near)
{
	struct job *job;

	g_mutex_lock(&near->lock);
	near->ending = true;
	g_cond_signal(&near->work);
	g_mutex_unlock(&near->lock);
	if (near->thread)
		g_thread_join(near->thread);
	while ((job = g_queue_pop_head(&near->queue)))
		job_end(job);
}
