/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A write is copied and answered at once while all queues together hold less
 * than the limit. Above the limit the bytes are taken too (they are in memory
 * anyway), but the answer waits for room. The writer waits for the answer, so
 * the queues exceed the limit by at most one write per writer.
 *
 * A write to an empty queue is answered at once, whatever the other queues
 * hold. So a save that is stuck cannot stop the others.
 *
 * A write that ends in '}' may be the last of its stream: the description of
 * the device state is JSON. (O_DIRECT may add zeros to fill a block.) The last
 * write is answered with the result of the save, so such a write is answered
 * only after it was parsed. The same holds for the first write, so that a file
 * that is not a stream is refused at once.
 *
 * A write that does not continue the stream is doubtful until the stream is
 * known to be mapped-ram. The reader decides when it has parsed all earlier
 * writes, and the answer waits for that.
 *
 * QEMU's background snapshot writes page by page, and so does mapped-ram
 * without multifd, with gaps. A wake-up for every 4 KiB would be expensive. So
 * small writes are joined, and the reader wakes up when enough bytes are there.
 */
#include "fs/save/queue.h"

#include <errno.h>
#include <string.h>

#include "format/base/cleanup.h"
#include "format/base/zero.h"

/* Writes below this size are joined up to this size. */
#define CHUNK_SMALL (64 * SNAP_KIB)
/* The memory of a chunk besides its bytes. It matters for small writes that are
 * far apart. */
#define CHUNK_COST (4 * SNAP_KIB)
/* The reader is woken at once for so many bytes, and after NAP_US microseconds
 * for fewer. */
#define WAKE_BYTES (256 * SNAP_KIB)
#define NAP_US 2000
/* Zeros that may follow the last byte of a stream: libvirt's iohelper writes
 * whole blocks of this size. */
#define PADDING_MAX (64 * SNAP_KIB)

struct SnapInbox {
	GMutex lock; /* for this and all its queues */
	uint64_t limit;
	GQueue waiting; /* chunks whose answer waits for room */
	struct snap_inbox_stats stats;
};

struct SnapQueue {
	SnapInbox *inbox;
	GCond put;
	GQueue chunks;	   /* protected by inbox->lock, like all fields below */
	uint64_t position; /* the offset where the stream goes on */
	uint64_t received; /* the largest offset that a write reached */
	uint64_t queued;   /* bytes in the chunks */
	bool begun;	   /* a write has come */
	bool scattered;	   /* writes may come at any offset */
	bool ended;
	bool urgent; /* a writer waits for an answer */
	bool asleep; /* the reader waits for a first chunk */
	int error;   /* once closed, the answer to writes */
	int outcome; /* and to checks */
};

/* An answer that is given after the lock is released. */
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

/* Moves a chunk's answer to the list of answers to give. */
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

/* Returns 0 if a write may be queued, else its answer. */
static int put_refused_locked(const SnapQueue *q)
{
	if (q->error)
		return q->error;
	return q->ended ? -EBADF : 0;
}

/* True when these bytes may be the last of a stream. */
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

/* The bytes that a chunk counts. A check has none. */
static uint64_t chunk_held(const struct snap_chunk *c)
{
	return c->size ? c->size + CHUNK_COST : 0;
}

/* True when a write at `offset` continues the chunk. */
static bool chunk_goes_on(const struct snap_chunk *c, uint64_t offset)
{
	const struct snap_piece *last = c->n ? &c->pieces[c->n - 1] : NULL;

	return last && last->offset + last->size == offset;
}

/* Returns the last chunk if `size` more bytes fit in it, else NULL. */
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

/* Counts a write that was accepted. */
static void count_locked(SnapQueue *q, size_t size, uint64_t offset)
{
	q->inbox->stats.bytes += size;
	q->position = MAX(q->position, offset + size);
	q->received = MAX(q->received, offset + size);
}

/* Counts queued bytes. Returns false if the answer has to wait: with `judged`
 * until the bytes are parsed, else until there is room. */
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

/* Puts the bytes of a write into the last chunk or into a new one, and returns
 * that chunk. `c` is a chunk that has the bytes already, or NULL. */
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

/* Queues a write. `c` is a chunk that has its bytes already, or NULL. Returns
 * true if the caller should answer at once. */
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

/* True when the reader should wake up now. */
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

/* Answers the waiting writes that there is room for now. */
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
