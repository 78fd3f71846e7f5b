/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes through io_uring: the caller goes on while the kernel copies.
 *
 * pwrite copies the bytes into one of four buffers of 256 KiB. Bytes that
 * append to the last ones join them in a buffer, and a full buffer is
 * submitted. So at most four writes are in flight, and a caller that is faster
 * than the file system waits for a buffer: this bounds the memory.
 *
 * A buffer is free, filling (at most one), or in flight. The first error is
 * kept, and every later call returns it. Writes in flight never overlap: a
 * write that does not append waits for all earlier ones.
 *
 * Calls come one at a time, but from several threads, so the ring is set up
 * without the flags that bind it to one thread. When a thread ends, the kernel
 * cancels what that thread submitted; such a write is repeated with pwrite. At
 * most four requests are in flight and the completion queue holds sixteen, so
 * it cannot overflow.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <string.h>
#include <unistd.h>

#include "format/base/fileio.h"
#include "format/base/units.h"
#include "format/store/uring-internal.h"

#define BUFFERS 4u
#define BUFFER_SIZE (256 * SNAP_KIB)
#define RING_SIZE 8u

struct buffer {
	bool in_flight;
	uint64_t offset; /* in the file */
	size_t size;
	size_t done; /* written of it */
	uint8_t *data;
};

struct uring_file {
	struct snap_plain_file plain; /* first */
	struct io_uring ring;
	struct buffer buffers[BUFFERS];
	struct buffer *filling; /* or NULL */
	guint in_flight;	/* buffers */
	uint64_t end;		/* the offset after the last byte written */
	int error;		/* the first one, or 0 */
};

static struct uring_file *uring(SnapFile *f)
{
	return (struct uring_file *)f;
}

static void remember(struct uring_file *u, int error)
{
	if (!u->error)
		u->error = error;
}

/* ---- submission ---- */

static int submit(struct uring_file *u)
{
	int r;

	do
		r = io_uring_submit(&u->ring);
	while (r == -EINTR);
	return r < 0 ? r : 0;
}

/* Writes the rest of a buffer without the ring. */
static void write_directly(struct uring_file *u, struct buffer *b)
{
	int r = snap_pwrite_all(u->plain.fd, b->data + b->done,
				b->size - b->done, b->offset + b->done);

	if (r < 0)
		remember(u, r);
}

/* Submits the rest of a buffer. */
static void submit_buffer(struct uring_file *u, struct buffer *b)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	if (!sqe) {
		write_directly(u, b);
		return;
	}
	io_uring_prep_write(sqe, u->plain.fd, b->data + b->done,
			    (unsigned)(b->size - b->done), b->offset + b->done);
	io_uring_sqe_set_data(sqe, b);
	if (submit(u) < 0) {
		/* The entry stays in the queue, so it must become harmless. */
		io_uring_prep_nop(sqe);
		io_uring_sqe_set_data(sqe, NULL);
		write_directly(u, b);
		return;
	}
	b->in_flight = true;
	u->in_flight++;
}

/* The offset up to which all bytes are in the kernel's page cache. */
static uint64_t arrived(const struct uring_file *u)
{
	uint64_t low = u->filling ? u->filling->offset : u->end;

	for (guint i = 0; i < BUFFERS; i++)
		if (u->buffers[i].in_flight)
			low = MIN(low, u->buffers[i].offset);
	return low;
}

/* ---- completion ---- */

static void complete_buffer(struct uring_file *u, struct buffer *b, int res)
{
	b->in_flight = false;
	u->in_flight--;
	if (res > 0) {
		b->done += (size_t)res;
		if (b->done < b->size)
			submit_buffer(u, b);
		return;
	}
	if (res == -ECANCELED || res == -EAGAIN || res == -EINTR || res == 0)
		write_directly(u, b);
	else
		remember(u, res);
}

static void complete(struct uring_file *u, struct io_uring_cqe *cqe)
{
	void *data = io_uring_cqe_get_data(cqe);
	int res = cqe->res;

	io_uring_cqe_seen(&u->ring, cqe);
	if (data)
		complete_buffer(u, data, res);
}

/* Waits for a completion, then handles all that are there. */
static void wait_one(struct uring_file *u)
{
	struct io_uring_cqe *cqe;
	int r;

	do
		r = io_uring_wait_cqe(&u->ring, &cqe);
	while (r == -EINTR || r == -EAGAIN);
	g_assert(r == 0); /* the ring is valid and has requests in flight */
	do
		complete(u, cqe);
	while (io_uring_peek_cqe(&u->ring, &cqe) == 0);
}

static void flush_filling(struct uring_file *u)
{
	struct buffer *b = u->filling;

	u->filling = NULL;
	if (b)
		submit_buffer(u, b);
}

static void wait_writes(struct uring_file *u)
{
	flush_filling(u);
	while (u->in_flight > 0)
		wait_one(u);
}

/* Waits for a free buffer; it will hold bytes from `offset` on. */
static struct buffer *buffer_get(struct uring_file *u, uint64_t offset)
{
	while (u->in_flight == BUFFERS)
		wait_one(u);
	for (guint i = 0; i < BUFFERS; i++) {
		struct buffer *b = &u->buffers[i];

		if (b->in_flight)
			continue;
		if (!b->data)
			b->data = g_malloc(BUFFER_SIZE);
		b->offset = offset;
		b->size = b->done = 0;
		return b;
	}
	g_assert_not_reached();
}

/* ---- the operations ---- */

static int uring_pwrite(SnapFile *f, const void *buf, size_t size,
			uint64_t offset)
{
	struct uring_file *u = uring(f);

	if (u->error)
		return u->error;
	if (offset != u->end)
		wait_writes(u);
	u->end = offset;
	while (size > 0) {
		struct buffer *b = u->filling;
		size_t n;

		if (!b)
			b = u->filling = buffer_get(u, u->end);
		n = MIN(size, BUFFER_SIZE - b->size);
		memcpy(b->data + b->size, buf, n);
		b->size += n;
		u->end += n;
		buf = (const char *)buf + n;
		size -= n;
		if (b->size == BUFFER_SIZE) {
			flush_filling(u);
			snap_plain_arrived(&u->plain, arrived(u));
		}
	}
	return u->error;
}

static int uring_drain(SnapFile *f)
{
	wait_writes(uring(f));
	return uring(f)->error;
}

static int uring_sync(SnapFile *f)
{
	int r = uring_drain(f);

	if (r == 0 && fdatasync(uring(f)->plain.fd) < 0)
		remember(uring(f), -errno);
	return uring(f)->error;
}

static int uring_publish(SnapFile *f, int dirfd, const char *name)
{
	int r = uring_drain(f);

	return r < 0 ? r : snap_plain_publish(f, dirfd, name);
}

static void uring_close(SnapFile *f)
{
	struct uring_file *u = uring(f);

	u->filling = NULL;
	while (u->in_flight > 0)
		wait_one(u);
	io_uring_queue_exit(&u->ring);
	for (guint i = 0; i < BUFFERS; i++)
		g_free(u->buffers[i].data);
	snap_plain_close(f);
}

static const struct snap_file_ops uring_ops = {
	.name = "io_uring",
	.pread = snap_plain_pread,
	.pwrite = uring_pwrite,
	.drain = uring_drain,
	.sync = uring_sync,
	.size = snap_plain_size,
	.on_disk = snap_plain_on_disk,
	.publish = uring_publish,
	.close = uring_close,
};

/* A kernel may have io_uring without the operation that is used here. */
static bool ring_can_write(struct io_uring *ring)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	bool can;

	if (!probe)
		return false;
	can = io_uring_opcode_supported(probe, IORING_OP_WRITE);
	io_uring_free_probe(probe);
	return can;
}

int snap_uring_file_new(struct snap_plain_file *plain, SnapFile **ret_file)
{
	g_autofree struct uring_file *u = g_new0(struct uring_file, 1);
	int r = io_uring_queue_init(RING_SIZE, &u->ring, 0);

	if (r < 0)
		return r;
	if (!ring_can_write(&u->ring)) {
		io_uring_queue_exit(&u->ring);
		return -EOPNOTSUPP;
	}
	u->plain = *plain;
	u->plain.file.ops = &uring_ops;
	g_free(plain);
	*ret_file = &g_steal_pointer(&u)->plain.file;
	return 0;
}

char *snap_file_library(void)
{
#ifdef IO_URING_VERSION_MAJOR
	return g_strdup_printf("liburing %d.%d", io_uring_major_version(),
			       io_uring_minor_version());
#else
	return g_strdup("liburing " SNAP_URING_VERSION " (when built)");
#endif
}
