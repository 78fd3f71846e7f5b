/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A write is copied and answered at once, while all queues together hold less
 * than the limit. Over it a write is taken in all the same (its bytes are here
 * anyway), but its answer waits until there is room; since the writer waits for
 * the answer, what is over the limit is one write for each writer.
 *
 * A save whose queue is empty is answered whatever others hold, so that saves
 * which wait for something cannot stop those that could go on.
 *
 * A write that ends in '}' may be the last of its stream (the description of
 * the device state is JSON; zeros may follow that fill up a block of O_DIRECT),
 * and the last carries the outcome: its answer waits until it was parsed. So
 * does that of the first write: what is no stream at all is refused where the
 * user sees it.
 *
 * A write that is not where the stream goes on is doubtful until the stream is
 * known to be one that is written so: the reader judges it when it has read all
 * that came before, and its answer waits for that.
 *
 * QEMU's background snapshot writes page by page, and so does mapped-ram
 * without multifd, with gaps. So that the two threads do not wake each other
 * for every 4 KiB, small writes are put together, and the reader is woken when
 * there is something to do rather than when there is something.
 */
#include "fs/save/queue.h"

#include <errno.h>
#include <string.h>

#include "format/base/cleanup.h"
#include "format/base/zero.h"

/* Writes below this size are put together up to it. */
#define CHUNK_SMALL (64 * SNAP_KIB)
/* What a chunk takes beside its bytes: of small writes far apart it has few. */
#define CHUNK_COST (4 * SNAP_KIB)
/* As much is worth waking the reader for; less waits for NAP_US. */
#define WAKE_BYTES (256 * SNAP_KIB)
#define NAP_US 2000
/* Zeros that may follow a stream's last byte: libvirt's iohelper writes blocks
 * of as much. */
#define PADDING_MAX (64 * SNAP_KIB)

struct SnapInbox {
	GMutex lock; /* of this and of all its queues */
	uint64_t limit;
	GQueue waiting; /* chunks whose answer waits for room */
	struct snap_inbox_stats stats;
};

struct SnapQueue {
	SnapInbox *inbox;
	GCond put;
	GQueue chunks;	   /* protected by inbox->lock, as are the others */
	uint64_t position; /* where the stream goes on */
	uint64_t received; /* where the write that reached furthest ended */
	uint64_t queued;   /* bytes in chunks */
	bool begun;	   /* a write has come */
	bool scattered;	   /* writes come at any offset */
	bool ended;
	bool urgent; /* somebody waits for an answer */
	bool asleep; /* the reader waits for the first write */
	int error;   /* closed: what to answer to writes */
	int outcome; /* and to who asks how the stream stands */
};

/* An answer that is given once the lock is let go. */
struct answer {
	snap_save_answer answer;
	void *data;
	ssize_t result;
};

SnapInbox *snap_inbox_new(uint64_t limit)
{
	SnapInbox *inbox = g_new0(SnapInbox, 1);

	g_mutex_init(&inbox->lock);
	inbox->limit = limit;
	return inbox;
}

void snap_inbox_free(SnapInbox *inbox)
{
	if (!inbox)
		return;
	g_mutex_clear(&inbox->lock);
	g_free(inbox);
}

struct snap_inbox_stats snap_inbox_stats(SnapInbox *inbox)
{
	SNAP_LOCKED(&inbox->lock);

	return inbox->stats;
}

SnapQueue *snap_queue_new(SnapInbox *inbox, uint64_t hole)
{
	SnapQueue *q = g_new0(SnapQueue, 1);

	q->inbox = inbox;
	q->position = q->received = hole;
	g_cond_init(&q->put);
	return q;
}

void snap_queue_free(SnapQueue *q)
{
	if (!q)
		return;
	g_assert(!q->chunks.head);
	g_cond_clear(&q->put);
	g_free(q);
}

/* Moves a chunk's answer to the list of those to be given. */
static void answer_locked(GArray *answers, struct snap_chunk *c, ssize_t result)
{
	struct answer a = { c->answer, c->answer_data, result };

	if (!c->answer)
		return;
	g_array_append_val(answers, a);
	c->answer = NULL;
	if (c->waiting.data) {
		g_queue_unlink(&c->queue->inbox->waiting, &c->waiting);
		c->waiting.data = NULL;
	}
}

static void answers_give(GArray *answers)
{
	for (guint i = 0; i < answers->len; i++) {
		struct answer *a = &g_array_index(answers, struct answer, i);

		a->answer(a->data, a->result);
	}
	g_array_unref(answers);
}

static GArray *answers_new(void)
{
	return g_array_new(FALSE, FALSE, sizeof(struct answer));
}

/* 0 when a write may be taken, or at least be judged. */
static int put_refused_locked(const SnapQueue *q)
{
	if (q->error)
		return q->error;
	return q->ended ? -EBADF : 0;
}

/* May these bytes be the last of a stream? */
static bool may_be_last(const uint8_t *data, size_t size)
{
	size_t first = size - MIN(size, PADDING_MAX);

	size -= snap_zeros_behind(data + first, size - first);
	return size > first && data[size - 1] == '}';
}

static struct snap_chunk *chunk_new(SnapQueue *q, size_t room)
{
	struct snap_chunk *c = g_malloc(sizeof(*c) + room);

	memset(c, 0, sizeof(*c));
	c->room = room;
	c->link.data = c;
	c->queue = q;
	return c;
}

/* Memory that a chunk is counted with; one without bytes is a question. */
static uint64_t chunk_held(const struct snap_chunk *c)
{
	return c->size ? c->size + CHUNK_COST : 0;
}

/* Does a write at `offset` go on where the chunk ends? */
static bool chunk_goes_on(const struct snap_chunk *c, uint64_t offset)
{
	const struct snap_piece *last = c->n ? &c->pieces[c->n - 1] : NULL;

	return last && last->offset + last->size == offset;
}

/* The last chunk, if `size` more bytes may go into it. */
static struct snap_chunk *open_chunk_locked(const SnapQueue *q, size_t size,
					    uint64_t offset)
{
	struct snap_chunk *c = q->chunks.tail ? q->chunks.tail->data : NULL;

	if (!c || c->answer || c->room - c->size < size)
		return NULL;
	return c->n < SNAP_CHUNK_PIECES || chunk_goes_on(c, offset) ? c : NULL;
}

/* Copies a write into a chunk that has room for it. */
static void chunk_add(struct snap_chunk *c, const void *data, size_t size,
		      uint64_t offset)
{
	memcpy(c->data + c->size, data, size);
	c->size += size;
	if (chunk_goes_on(c, offset))
		c->pieces[c->n - 1].size += size;
	else
		c->pieces[c->n++] = (struct snap_piece){ offset, size };
}

/* Counts a write that is taken for good, to where it reaches. */
static void count_locked(SnapQueue *q, size_t size, uint64_t offset)
{
	q->inbox->stats.bytes += size;
	q->position = MAX(q->position, offset + size);
	q->received = MAX(q->received, offset + size);
}

/* Counts bytes that were put; false when their answer has to wait: with
 * `judged` until they are read, else until there is room. */
static bool put_locked(SnapQueue *q, struct snap_chunk *c, size_t size,
		       bool was_empty, bool judged)
{
	SnapInbox *inbox = q->inbox;

	q->queued += size;
	inbox->stats.held += size;
	if (!judged && (inbox->stats.held <= inbox->limit || was_empty)) {
		if (q->asleep || q->queued >= WAKE_BYTES)
			g_cond_signal(&q->put);
		q->asleep = false;
		return true;
	}
	q->urgent = true;
	g_cond_signal(&q->put);
	if (judged)
		return false;
	c->waiting.data = c;
	g_queue_push_tail_link(&inbox->waiting, &c->waiting);
	inbox->stats.waits++;
	return false;
}

/* Puts a write's bytes behind those of the last chunk, or into one of their own
 * (`c`, which has them, where that is not NULL): that chunk. */
static struct snap_chunk *place_locked(SnapQueue *q, struct snap_chunk *c,
				       const void *data, size_t size,
				       uint64_t offset, bool doubtful)
{
	struct snap_chunk *open = NULL;

	if (!c && !doubtful)
		open = open_chunk_locked(q, size, offset);
	if (!c && !open)
		c = chunk_new(q, doubtful ? size : CHUNK_SMALL);
	if (open || !c->size)
		chunk_add(open ? open : c, data, size, offset);
	if (open)
		return open;
	g_queue_push_tail_link(&q->chunks, &c->link);
	q->inbox->stats.held += CHUNK_COST;
	return c;
}

/* Takes a write, whose bytes the chunk `c` has where that is not NULL. True
 * when it is to be answered at once. */
static bool take_locked(SnapQueue *q, struct snap_chunk *c, const void *data,
			size_t size, uint64_t offset, snap_save_answer answer,
			void *answer_data)
{
	bool doubtful = !q->scattered && offset != q->position;
	bool judged = doubtful || !q->begun || may_be_last(data, size);
	bool was_empty = !q->chunks.head;

	c = place_locked(q, c, data, size, offset, doubtful);
	q->begun = true;
	c->doubtful = doubtful;
	if (!doubtful)
		count_locked(q, size, offset);
	if (put_locked(q, c, size, was_empty, judged))
		return true;
	c->answer = answer;
	c->answer_data = answer_data;
	c->answer_size = size;
	return false;
}

void snap_queue_put(SnapQueue *q, const void *data, size_t size,
		    uint64_t offset, snap_save_answer answer, void *answer_data)
{
	struct snap_chunk *c = NULL;
	ssize_t result;
	uint64_t end;

	if (!size || !snap_add(offset, size, &end)) {
		answer(answer_data, size ? -EFBIG : 0);
		return;
	}
	if (size >= CHUNK_SMALL) {
		c = chunk_new(q, size);
		chunk_add(c, data, size, offset);
	}
	g_mutex_lock(&q->inbox->lock);
	result = put_refused_locked(q);
	if (result)
		g_free(c);
	else if (take_locked(q, c, data, size, offset, answer, answer_data))
		result = (ssize_t)size;
	g_mutex_unlock(&q->inbox->lock);
	if (result)
		answer(answer_data, result);
}

void snap_queue_check(SnapQueue *q, snap_save_answer answer, void *answer_data)
{
	struct snap_chunk *c = chunk_new(q, 0);
	int outcome;
	bool closed;

	c->answer = answer;
	c->answer_data = answer_data;
	g_mutex_lock(&q->inbox->lock);
	closed = q->error;
	outcome = q->outcome;
	if (!closed) {
		g_queue_push_tail_link(&q->chunks, &c->link);
		q->urgent = true;
		g_cond_signal(&q->put);
	}
	g_mutex_unlock(&q->inbox->lock);
	if (!closed)
		return;
	g_free(c);
	answer(answer_data, outcome);
}

void snap_queue_end(SnapQueue *q)
{
	SNAP_LOCKED(&q->inbox->lock);

	q->ended = true;
	g_cond_signal(&q->put);
}

/* Is there enough to be worth the reader's while? */
static bool worth_locked(const SnapQueue *q)
{
	return q->ended || q->urgent || q->queued >= WAKE_BYTES;
}

enum snap_queue_got snap_queue_get(SnapQueue *q, gint64 patience,
				   struct snap_chunk **ret_chunk)
{
	SNAP_LOCKED(&q->inbox->lock);
	gint64 until = g_get_monotonic_time() + patience;
	bool late = false;

	q->asleep = true;
	while (!q->chunks.head && !q->ended && !late) {
		if (patience < 0)
			g_cond_wait(&q->put, &q->inbox->lock);
		else
			late = !g_cond_wait_until(&q->put, &q->inbox->lock,
						  until);
	}
	q->asleep = false;
	until = g_get_monotonic_time() + NAP_US;
	for (late = false; q->chunks.head && !worth_locked(q) && !late;)
		late = !g_cond_wait_until(&q->put, &q->inbox->lock, until);
	if (q->chunks.head) {
		struct snap_chunk *c = g_queue_pop_head_link(&q->chunks)->data;

		q->queued -= c->size;
		q->urgent = q->urgent && q->chunks.head;
		*ret_chunk = c;
		return SNAP_QUEUE_CHUNK;
	}
	return q->ended ? SNAP_QUEUE_ENDED : SNAP_QUEUE_IDLE;
}

bool snap_queue_empty(SnapQueue *q)
{
	SNAP_LOCKED(&q->inbox->lock);

	return !q->queued;
}

void snap_queue_scatter(SnapQueue *q)
{
	SNAP_LOCKED(&q->inbox->lock);

	q->scattered = true;
}

bool snap_queue_scattered(SnapQueue *q)
{
	SNAP_LOCKED(&q->inbox->lock);

	return q->scattered;
}

/* Answers those that wait and for whom there is room by now. */
static void admit_locked(SnapInbox *inbox, GArray *answers)
{
	GList *next;

	for (GList *l = inbox->waiting.head; l; l = next) {
		struct snap_chunk *c = l->data;

		next = l->next;
		if (inbox->stats.held <= inbox->limit || !c->queue->chunks.head)
			answer_locked(answers, c, (ssize_t)c->answer_size);
	}
}

void snap_queue_last(SnapQueue *q, struct snap_chunk *chunk, int error)
{
	GArray *answers = answers_new();

	g_mutex_lock(&q->inbox->lock);
	q->inbox->stats.held -= chunk_held(chunk);
	if (chunk->doubtful && !error)
		count_locked(q, chunk->size, chunk->pieces[0].offset);
	answer_locked(answers, chunk,
		      error ? error : (ssize_t)chunk->answer_size);
	admit_locked(q->inbox, answers);
	g_mutex_unlock(&q->inbox->lock);
	g_free(chunk);
	answers_give(answers);
}

void snap_queue_done(SnapQueue *q, struct snap_chunk *chunk)
{
	snap_queue_last(q, chunk, 0);
}

void snap_queue_close(SnapQueue *q, int error, int outcome)
{
	GArray *answers = answers_new();
	GList *link;

	g_mutex_lock(&q->inbox->lock);
	q->error = error;
	q->outcome = outcome;
	while ((link = g_queue_pop_head_link(&q->chunks))) {
		struct snap_chunk *c = link->data;

		q->inbox->stats.held -= chunk_held(c);
		answer_locked(answers, c, c->size ? error : outcome);
		g_free(c);
	}
	admit_locked(q->inbox, answers);
	g_mutex_unlock(&q->inbox->lock);
	answers_give(answers);
}

uint64_t snap_queue_received(SnapQueue *q)
{
	SNAP_LOCKED(&q->inbox->lock);

	return q->received;
}
