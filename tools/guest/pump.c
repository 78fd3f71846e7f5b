/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU writes a background save page by page. A write into the pipe costs it
 * little, a write into a mount much. So the pump lets pages gather in the pipe,
 * and takes all of them with one read. QEMU does not wait meanwhile, as the
 * pipe has room for what it can write in that time.
 */
#include "tools/guest/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "format/base/units.h"

/* The size of the pipe, and of the largest write. Any user may have some pipes
 * of that size (fs.pipe-max-size, pipe-user-pages-soft, pipe(7)). FUSE passes
 * on at most 256 pages at once (since Linux 4.20, fs/fuse/fuse_i.h), so the
 * buffer begins at a page. */
#define PIECE SNAP_MIB
#define ALIGNMENT 4096
/* When a read gets less than a quarter of the pipe, the next comes so many
 * microseconds later. */
#define NAP 300

enum order {
	MOVE,
	FINISH, /* what is in the pipe is all */
	DROP,	/* read on, so that QEMU does not wait, but keep nothing */
	STOP,
};

struct SnapPump {
	int in;	       /* the pipe; the thread's, like the next four */
	int file;      /* that it is moved into */
	size_t enough; /* bytes, a quarter of the pipe */
	uint8_t *data;
	size_t used; /* bytes in `data` */
	int wake;    /* eventfd: there is an order */
	gint order;  /* atomic: enum order */
	gint ended;  /* atomic; the thread has set `result` before */
	int result;
	GThread *thread;
};

static enum order order_of(SnapPump *p)
{
	return (enum order)g_atomic_int_get(&p->order);
}

/* ---- the thread ---- */

/* Waits for an order, and unless the pipe has ended, for bytes. */
static void wait_for_more(SnapPump *p, bool ended)
{
	struct pollfd fds[] = { { .fd = p->wake, .events = POLLIN },
				{ .fd = p->in, .events = POLLIN } };

	poll(fds, ended ? 1 : 2, -1);
}

/* Writes what was read to the file, all but the last byte. */
static int move(SnapPump *p)
{
	int r = snap_write_all(p->file, p->data, p->used - 1);

	p->data[0] = p->data[p->used - 1];
	p->used = 1;
	return r;
}

/* Reads what is in the pipe, and moves it but the last byte. Returns the number
 * of bytes, 0 at the end of the pipe, -EAGAIN if it is empty, or -errno. */
static ssize_t move_some(SnapPump *p, enum order order)
{
	ssize_t n;
	int r;

	if (order == DROP)
		p->used = 0;
	n = read(p->in, p->data + p->used, PIECE - p->used);
	if (n <= 0 || order == DROP)
		return n < 0 ? -errno : n;
	p->used += (size_t)n;
	r = move(p);
	if (r == 0 && (size_t)n < p->enough && order == MOVE)
		g_usleep(NAP);
	return r < 0 ? r : n;
}

/* Moves bytes until all are moved but the last. */
static int move_all(SnapPump *p)
{
	enum order order;

	/* The order comes first: FINISH means what the pipe holds after it. */
	while ((order = order_of(p)) != STOP) {
		ssize_t n = move_some(p, order);

		if (n < 0 && n != -EAGAIN && n != -EINTR)
			return (int)n;
		if (n > 0 || n == -EINTR)
			continue;
		if (order == FINISH)
			return p->used ? 0 : -ENODATA;
		wait_for_more(p, n == 0);
	}
	return -EINTR;
}

static gpointer run(gpointer data)
{
	SnapPump *p = data;
	int r = move_all(p);

	close(p->in);
	/* What was moved may happen to be a whole stream. */
	if ((r == -EINTR || r == -ENODATA) && ftruncate(p->file, 0) < 0)
		r = -errno;
	if (r == 0)
		r = snap_write_all(p->file, p->data, p->used);
	if (r == 0 && fsync(p->file) < 0)
		r = -errno;
	/* snapfs says here whether the stream was whole. */
	if (close(p->file) < 0 && r == 0)
		r = -errno;
	p->result = r;
	g_atomic_int_set(&p->ended, true);
	return NULL;
}

/* ---- the caller ---- */

static void give_order(SnapPump *p, enum order order)
{
	g_atomic_int_set(&p->order, order);
	eventfd_write(p->wake, 1);
}

void snap_pump_finish(SnapPump *p)
{
	give_order(p, FINISH);
}

void snap_pump_drop(SnapPump *p)
{
	give_order(p, DROP);
}

bool snap_pump_ended(SnapPump *p)
{
	return g_atomic_int_get(&p->ended);
}

int snap_pump_stop(SnapPump *p)
{
	if (p->thread) {
		give_order(p, STOP);
		g_thread_join(g_steal_pointer(&p->thread));
	}
	return p->result;
}

void snap_pump_free(SnapPump *p)
{
	if (!p)
		return;
	snap_pump_stop(p);
	close(p->wake);
	free(p->data);
	g_free(p);
}

int snap_pump_pipe(int *ret_in, int *ret_end, GError **error)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return snap_fail_errno(error, errno, "making a pipe");
	/* This end only: QEMU waits while the pipe is full. */
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	/* If the kernel refuses this, the pipe stays small. */
	fcntl(ends[1], F_SETPIPE_SZ, (int)PIECE);
	*ret_in = ends[0];
	*ret_end = ends[1];
	return 0;
}

int snap_pump_new(int in, int file, SnapPump **ret_pump, GError **error)
{
	snap_autofd int from = in, to = file;
	g_autoptr(SnapPump) p = g_new0(SnapPump, 1);

	p->in = in;
	p->file = file;
	p->enough = (size_t)MAX(fcntl(in, F_GETPIPE_SZ), 0) / 4;
	p->wake = eventfd(0, EFD_CLOEXEC);
	p->data = aligned_alloc(ALIGNMENT, PIECE);
	if (p->wake < 0 || !p->data)
		return snap_fail_errno(error, errno, "starting to save");
	p->thread = g_thread_try_new("pump", run, p, NULL);
	if (!p->thread)
		return snap_fail(error, EAGAIN, "cannot start a thread");
	snap_steal_fd(&from);
	snap_steal_fd(&to);
	*ret_pump = g_steal_pointer(&p);
	return 0;
}
