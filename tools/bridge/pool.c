/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The readers; see pool.h.
 *
 * They are never joined: a read from a storage that hangs must not keep the
 * bridge from ending, and the process takes them with it.
 */
#include "tools/bridge/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "format/base/error.h"
#include "format/base/units.h"
#include "format/base/zero.h"

#define READERS 6u

/* Readers that may read what nobody asks for yet. Hot pages are about to be
 * asked for, and lie here and there: the storage is kept busy. For the bulk it
 * is half of the processors, as what is read is decompressed on them, too. */
#define HOT_MOST 4u
#define BULK_LEAST 2u
#define BULK_MOST 4u

struct Pool {
	int fd;
	int event;
	uint32_t target_page;
	pthread_mutex_t lock;
	pthread_cond_t work;
	GQueue queues[CHUNK_KINDS]; /* protected by lock */
	GQueue done;		    /* protected by lock */
	guint bulk_most;
	guint background; /* readers of hot and bulk; protected by lock */
};

/* Reads all of it, or gives an errno. */
static int read_all(int fd, uint8_t *data, size_t size, uint64_t offset)
{
	while (size > 0) {
		ssize_t n = pread(fd, data, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		if (n == 0)
			return ENODATA;
		data += n;
		size -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/* Looks for data; true when the chunk turned out to be a hole as a whole.
 * Otherwise the hole at its front is cut off. */
static bool is_hole(const Pool *p, struct chunk *c)
{
	off_t data = lseek(p->fd, (off_t)c->flat, SEEK_DATA);
	uint64_t hole;

	if (data < 0 && errno == ENXIO)
		data = lseek(p->fd, 0, SEEK_END);
	if (data < 0 || (uint64_t)data <= c->flat)
		return false;
	hole = (uint64_t)data - c->flat;
	hole -= hole % c->unit;
	c->hole = hole;
	if (hole >= c->length) {
		c->length = 0;
		return true;
	}
	c->offset += hole;
	c->flat += hole;
	c->length -= hole;
	return false;
}

static void mark_pages(const Pool *p, struct chunk *c, size_t from, size_t size,
		       bool bad)
{
	for (size_t at = from; at < from + size; at += p->target_page)
		c->pages[at / p->target_page] =
			bad ? PAGE_BAD
			: snap_is_zero(c->data + at, p->target_page)
				? PAGE_ZERO
				: PAGE_DATA;
}

/* Reads a chunk; if that fails, page by page, to lose no more than must be. */
static void read_chunk(const Pool *p, struct chunk *c)
{
	int e;

	c->error = 0;
	if (c->kind == CHUNK_BULK && is_hole(p, c))
		return;
	e = read_all(p->fd, c->data, c->length, c->flat);
	if (e == 0) {
		mark_pages(p, c, 0, c->length, false);
		return;
	}
	for (size_t at = 0; at < c->length; at += c->unit) {
		size_t size = MIN(c->unit, c->length - at);

		e = read_all(p->fd, c->data + at, size, c->flat + at);
		if (e && !c->error)
			c->error = e;
		mark_pages(p, c, at, size, e != 0);
	}
}

/* The next chunk for a reader, or NULL; the pool is locked. */
static struct chunk *next_locked(Pool *p)
{
	struct chunk *c = g_queue_pop_head(&p->queues[CHUNK_ASK]);

	if (c)
		return c;
	if (p->background < HOT_MOST)
		c = g_queue_pop_head(&p->queues[CHUNK_HOT]);
	if (!c && p->background < p->bulk_most)
		c = g_queue_pop_head(&p->queues[CHUNK_BULK]);
	p->background += c != NULL;
	return c;
}

static void *reader(void *data)
{
	Pool *p = data;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct chunk *c = next_locked(p);
		uint64_t one = 1;

		if (!c) {
			pthread_cond_wait(&p->work, &p->lock);
			continue;
		}
		pthread_mutex_unlock(&p->lock);
		read_chunk(p, c);
		pthread_mutex_lock(&p->lock);
		p->background -= c->kind != CHUNK_ASK;
		g_queue_push_tail(&p->done, c);
		while (write(p->event, &one, sizeof(one)) < 0 && errno == EINTR)
			;
	}
	return NULL;
}

int pool_new(int ram_fd, uint32_t target_page, Pool **ret_pool, GError **error)
{
	int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	Pool *p;

	if (event < 0)
		return snap_fail_errno(error, errno, "cannot make an eventfd");
	p = g_new0(Pool, 1);
	p->fd = ram_fd;
	p->target_page = target_page;
	p->bulk_most = CLAMP(g_get_num_processors() / 2, BULK_LEAST, BULK_MOST);
	p->event = event;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	for (guint i = 0; i < READERS; i++) {
		pthread_t thread;
		int e = pthread_create(&thread, NULL, reader, p);

		if (e)
			return snap_fail_errno(error, e,
					       "cannot start a thread");
		(void)pthread_detach(thread);
	}
	*ret_pool = p;
	return 0;
}

struct chunk *pool_chunk_new(const Pool *p, enum chunk_kind kind, size_t room)
{
	struct chunk *c = g_new0(struct chunk, 1);

	c->kind = kind;
	if (posix_memalign((void **)&c->data, SNAP_PAGE, room) != 0)
		g_error("no memory for %zu bytes", room);
	c->pages = g_malloc0(room / p->target_page);
	return c;
}

void pool_submit(Pool *p, struct chunk *c)
{
	c->state = CHUNK_READING;
	c->hole = 0;
	pthread_mutex_lock(&p->lock);
	g_queue_push_tail(&p->queues[c->kind], c);
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

struct chunk *pool_take(Pool *p)
{
	struct chunk *c;
	uint64_t n;

	pthread_mutex_lock(&p->lock);
	c = g_queue_pop_head(&p->done);
	if (!c)
		while (read(p->event, &n, sizeof(n)) < 0 && errno == EINTR)
			;
	pthread_mutex_unlock(&p->lock);
	if (c)
		c->state = CHUNK_READY;
	return c;
}

int pool_fd(const Pool *p)
{
	return p->event;
}
