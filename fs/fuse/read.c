/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading. Bytes may not be there yet, of a stream whose save runs. Then the
 * read waits without a thread. When it may go on, a thread of its own kind
 * answers it; the threads that serve requests stay free, and so does the save.
 *
 * The kernel asks to end the wait when the reader gets a signal. Who takes the
 * waiter from its file's room (snap_handle_forget(), or the room that wakes it)
 * answers. libfuse calls on_interrupt() with a lock of the request held, which
 * fuse_req_interrupt_func() takes as well (lib/fuse_lowlevel.c).
 */
#include "fs/fuse/fuse-internal.h"

#include <errno.h>
#include <unistd.h>

#include "format/base/cleanup.h"

static void vec_free(gpointer vec)
{
	snap_vec_free(vec);
}

SnapVec *snap_thread_vec(void)
{
	static GPrivate key = G_PRIVATE_INIT(vec_free);
	SnapVec *vec = g_private_get(&key);

	if (!vec) {
		vec = snap_vec_new();
		g_private_set(&key, vec);
	}
	return vec;
}

/* Answers a read with `n` bytes, or with -errno. */
static void reply(fuse_req_t req, SnapVec *vec, ssize_t n)
{
	const struct iovec *iov;
	guint count;

	if (n < 0) {
		snap_inode_reply_result(req, (int)n);
	} else {
		iov = snap_vec_get(vec, &count);
		fuse_reply_iov(req, iov, n ? (int)count : 0);
	}
	/* What it holds is for others again. */
	snap_vec_begin(vec, 0);
}

/* ---- waiting ---- */

/* Reads that may wait at a time, and of one user. They count as the kernel's
 * background requests where they are asynchronous (op_init), of which others
 * need some. */
#define WAITING_MAX 32u
#define WAITING_OF_USER (WAITING_MAX / 2)
/* Threads that answer them. */
#define THREADS 2

struct waiting {
	struct snap_waiter waiter; /* first */
	fuse_req_t req;
	SnapHandle *handle; /* the kernel keeps it open */
	size_t size;
	uint64_t offset;
	GList link; /* in `all` */
	uid_t uid;
};

static GThreadPool *pool;
static GMutex lock;
static GQueue all = G_QUEUE_INIT; /* protected by lock */

/* Counts a read as one that waits; false where there are too many. Root and the
 * mount's owner may have all. */
static bool admit(struct waiting *w)
{
	SNAP_LOCKED(&lock);
	guint his = 0;

	for (GList *l = all.head; l; l = l->next)
		his += ((struct waiting *)l->data)->uid == w->uid;
	if (all.length >= WAITING_MAX ||
	    (his >= WAITING_OF_USER && w->uid && w->uid != geteuid()))
		return false;
	w->link.data = w;
	g_queue_push_tail_link(&all, &w->link);
	return true;
}

static void waiting_free(struct waiting *w)
{
	g_mutex_lock(&lock);
	g_queue_unlink(&all, &w->link);
	g_mutex_unlock(&lock);
	g_free(w);
}

/* The reader got a signal. */
static void on_interrupt(fuse_req_t req, void *data)
{
	struct waiting *w = data;

	if (!snap_handle_forget(w->handle, &w->waiter))
		return;
	fuse_reply_err(req, EINTR);
	waiting_free(w);
}

static void wake(struct snap_waiter *waiter)
{
	g_thread_pool_push(pool, waiter, NULL);
}

/* Reads again, and answers unless the read has to wait again. */
static void go_on(gpointer data, gpointer user_data)
{
	struct waiting *w = data;
	SnapVec *vec = snap_thread_vec();
	ssize_t n = SNAP_READ_LATER;

	while (n == SNAP_READ_LATER) {
		if (g_atomic_int_get(&w->waiter.ended))
			n = -EINTR;
		else
			n = snap_handle_read(w->handle, vec, w->size,
					     w->offset);
		if (n == SNAP_READ_LATER &&
		    snap_handle_await(w->handle, &w->waiter))
			return;
	}
	/* After this, on_interrupt() does not run. */
	fuse_req_interrupt_func(w->req, NULL, NULL);
	reply(w->req, vec, n);
	waiting_free(w);
}

void snap_wait_begin(void)
{
	/* Its threads begin now: none could later, in want. */
	pool = g_thread_pool_new(go_on, NULL, THREADS, TRUE, NULL);
}

void snap_wait_end(void)
{
	g_thread_pool_free(pool, FALSE, TRUE);
	pool = NULL;
}

static void read_later(fuse_req_t req, SnapHandle *handle, size_t size,
		       uint64_t offset)
{
	struct waiting *w = g_new0(struct waiting, 1);

	w->uid = fuse_req_ctx(req)->uid;
	if (!admit(w)) {
		g_free(w);
		fuse_reply_err(req, EAGAIN);
		return;
	}
	w->waiter.link.data = w;
	w->waiter.wake = wake;
	w->req = req;
	w->handle = handle;
	w->size = size;
	w->offset = offset;
	fuse_req_interrupt_func(req, on_interrupt, w);
	go_on(w, NULL);
}

void snap_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		  struct fuse_file_info *fi)
{
	SnapHandle *handle = (SnapHandle *)(uintptr_t)fi->fh;
	SnapVec *vec = snap_thread_vec();
	ssize_t n = snap_handle_read(handle, vec, size, (uint64_t)off);

	if (n == SNAP_READ_LATER)
		read_later(req, handle, size, (uint64_t)off);
	else
		reply(req, vec, n);
}
