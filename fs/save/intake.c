/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The thread that brings a write takes it into the ingest, and answers it: QEMU
 * saves in the background page by page, and to wake another thread for each
 * page would cost more than to take the page.
 *
 * The save's thread does what takes long: it makes the ingest, waits for
 * memory, compacts the new file, and makes the snapshot. Meanwhile it `owns`
 * the ingest, and writes are parked: copied, and not answered. So a process
 * that writes waits for the save, and a thread that serves requests does not.
 *
 * The write that completes the stream, and the one that fails it, is answered
 * when the save is over.
 */
#include "fs/save/intake.h"

#include <errno.h>
#include <string.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/log.h"

/* How long pages wait for neighbours when no write comes, in microseconds. */
#define PATIENCE (200 * G_TIME_SPAN_MILLISECOND)
/* A write that waits for memory waits for that of so many bytes, so that not
 * every page waits by itself. */
#define ROOM_AGAIN (64 * SNAP_KIB)

/* A write, or a check, which has no bytes, that waits. */
struct parked {
	GList link;
	gint64 since;
	snap_save_answer answer; /* NULL: it was given */
	void *answer_data;
	ssize_t good; /* the answer to a write that went well: its size */
	uint64_t offset;
	size_t size; /* of `data` */
	uint8_t data[];
};

struct SnapIntake {
	const char *what;
	guint idle; /* seconds */
	SnapPool *pool;
	struct snap_intake_stats *stats;
	GMutex lock;	    /* protects all below */
	GCond wake;	    /* there is work for the thread */
	bool owned;	    /* the thread owns the ingest */
	SnapIngest *ingest; /* for its owner, or with the lock held */
	GQueue parked;
	struct parked *last;   /* the request that ended the stream */
	struct parked *served; /* that the thread takes now */
	bool over;	       /* the stream is complete, or has failed: */
	int result;	       /* 0 or -errno, */
	GError *failure;       /* and why */
	bool ended;	       /* no more writes will come */
	bool idled;	       /* because none came for long */
	bool late;	       /* because one waited for too long */
	bool asleep;	       /* the thread is to be woken by the next write */
	bool moved;	       /* a write came while the thread waited */
	bool refused;	       /* a refused write was logged */
	guint parked_writes;   /* in `parked`; the rest are checks */
	bool scattered;	       /* atomic: changes with the lock held only */
	uint64_t received;     /* atomic, too: a stat must not wait */
	int error;	       /* once closed, the answer to writes */
	int outcome;	       /* and to checks */
};

/* What a request that the ingest has seen gets. */
enum verdict {
	ANSWERED, /* *ret_answer is its answer */
	LAST,	  /* it is answered when the save is over */
};

SnapIntake *snap_intake_new(const char *what, SnapPool *pool, uint64_t begin,
			    guint idle, struct snap_intake_stats *stats)
{
	SnapIntake *k = g_new0(SnapIntake, 1);

	k->what = what;
	k->idle = idle;
	k->pool = pool;
	k->stats = stats;
	k->received = begin;
	k->owned = true;
	g_mutex_init(&k->lock);
	g_cond_init(&k->wake);
	return k;
}

void snap_intake_free(SnapIntake *k)
{
	if (!k)
		return;
	g_assert(!k->parked.head && !k->last);
	g_clear_error(&k->failure);
	g_cond_clear(&k->wake);
	g_mutex_clear(&k->lock);
	g_free(k);
}

/* ---- parked requests ---- */

/* NULL where there is no memory for the bytes. */
static struct parked *parked_new(SnapIntake *k, const void *data, size_t size,
				 uint64_t offset, snap_save_answer answer,
				 void *answer_data)
{
	struct parked *p =
		size ? g_try_malloc(sizeof(*p) + size) : g_malloc(sizeof(*p));

	if (!p)
		return NULL;
	memset(p, 0, sizeof(*p));
	p->link.data = p;
	p->since = g_get_monotonic_time();
	p->answer = answer;
	p->answer_data = answer_data;
	p->good = (ssize_t)size;
	p->offset = offset;
	p->size = size;
	if (size)
		memcpy(p->data, data, size);
	__atomic_add_fetch(&k->stats->parked, size, __ATOMIC_RELAXED);
	return p;
}

/* Answers a request that nobody else can reach, without a lock. */
static void parked_answer(SnapIntake *k, struct parked *p, ssize_t result)
{
	__atomic_sub_fetch(&k->stats->parked, p->size, __ATOMIC_RELAXED);
	if (p->answer)
		p->answer(p->answer_data, result);
	g_free(p);
}

/* Wakes the thread. */
static void wake_locked(SnapIntake *k)
{
	k->asleep = false;
	g_cond_signal(&k->wake);
}

/* ---- requests and the ingest; the caller owns it, or holds the lock ---- */

/* Refuses a write that does not continue the stream, and logs the first one. */
static ssize_t refuse(SnapIntake *k, uint64_t offset)
{
	if (!k->refused)
		snap_log(SNAP_LOG_WARNING,
			 "%s: a write at offset %" G_GUINT64_FORMAT
			 " was refused; a stream that is not mapped-ram is "
			 "written from its beginning to its end",
			 k->what, offset);
	k->refused = true;
	return -EINVAL;
}

static enum verdict take_write(SnapIntake *k, const void *data, size_t size,
			       uint64_t offset, ssize_t *ret_answer)
{
	if (!snap_ingest_takes(k->ingest, size, offset)) {
		*ret_answer = refuse(k, offset);
		return ANSWERED;
	}
	__atomic_add_fetch(&k->stats->bytes, size, __ATOMIC_RELAXED);
	k->result =
		snap_ingest_write(k->ingest, data, size, offset, &k->failure);
	if (k->result < 0)
		return LAST;
	*ret_answer = (ssize_t)size;
	return snap_ingest_complete(k->ingest) && !snap_ingest_waits(k->ingest)
		       ? LAST
		       : ANSWERED;
}

static enum verdict take_check(SnapIntake *k, ssize_t *ret_answer)
{
	if (snap_ingest_complete(k->ingest))
		return LAST;
	/* libvirt closes its descriptor after the header, and QEMU goes on. */
	*ret_answer = snap_ingest_begun(k->ingest)
			      ? snap_ingest_end(k->ingest, NULL)
			      : 0;
	return ANSWERED;
}

/* Notes what a request has changed. */
static void note_locked(SnapIntake *k, enum verdict verdict, size_t size,
			uint64_t offset, ssize_t answer)
{
	/* This counts even if the write failed for another reason. */
	__atomic_store_n(&k->scattered, snap_ingest_scattered(k->ingest),
			 __ATOMIC_RELAXED);
	k->over = k->over || verdict == LAST;
	if (size && (verdict == LAST || answer > 0))
		__atomic_store_n(&k->received, MAX(k->received, offset + size),
				 __ATOMIC_RELAXED);
}

/* ---- the threads of the writers ---- */

/* True when the calling thread may take a request now. If so, the memory for
 * its bytes is claimed. */
static bool claim_locked(SnapIntake *k, size_t size)
{
	if (k->owned || k->over || k->parked.head ||
	    snap_ingest_crowded(k->ingest) || snap_ingest_looks(k->ingest))
		return false;
	if (snap_pool_claim(k->pool, size, false))
		return true;
	__atomic_add_fetch(&k->stats->waits, 1, __ATOMIC_RELAXED);
	return false;
}

/* Returns false where there is no memory. The stream then lacks the write, so
 * no later one continues it. */
static bool park_locked(SnapIntake *k, const void *data, size_t size,
			uint64_t offset, snap_save_answer answer,
			void *answer_data)
{
	struct parked *p =
		parked_new(k, data, size, offset, answer, answer_data);

	if (!p)
		return false;
	g_queue_push_tail_link(&k->parked, &p->link);
	k->parked_writes += size > 0;
	wake_locked(k);
	return true;
}

/* Takes a write (or a check, without bytes). Returns false if it is answered
 * later. */
static bool enter_locked(SnapIntake *k, const void *data, size_t size,
			 uint64_t offset, snap_save_answer answer,
			 void *answer_data, ssize_t *ret_answer)
{
	enum verdict verdict;

	if (k->error) {
		*ret_answer = size ? k->error : k->outcome;
		return true;
	}
	if (size && k->ended) {
		*ret_answer = k->idled ? -ETIMEDOUT : -EBADF;
		return true;
	}
	if (!claim_locked(k, size)) {
		*ret_answer = -ENOMEM;
		return !park_locked(k, data, size, offset, answer, answer_data);
	}
	verdict = size ? take_write(k, data, size, offset, ret_answer)
		       : take_check(k, ret_answer);
	snap_pool_unclaim(k->pool, size);
	note_locked(k, verdict, size, offset, *ret_answer);
	k->moved = true;
	if (verdict == LAST) {
		k->last = parked_new(k, NULL, 0, 0, answer, answer_data);
		k->last->good = (ssize_t)size;
	}
	if (verdict == LAST || k->asleep)
		wake_locked(k);
	return verdict == ANSWERED;
}

static void enter(SnapIntake *k, const void *data, size_t size, uint64_t offset,
		  snap_save_answer answer, void *answer_data)
{
	ssize_t result = 0;
	bool now;

	g_mutex_lock(&k->lock);
	now = enter_locked(k, data, size, offset, answer, answer_data, &result);
	g_mutex_unlock(&k->lock);
	if (now)
		answer(answer_data, result);
}

void snap_intake_write(SnapIntake *k, const void *data, size_t size,
		       uint64_t offset, snap_save_answer answer,
		       void *answer_data)
{
	uint64_t end;

	if (!size || !snap_add(offset, size, &end))
		answer(answer_data, size ? -EFBIG : 0);
	else
		enter(k, data, size, offset, answer, answer_data);
}

void snap_intake_check(SnapIntake *k, snap_save_answer answer,
		       void *answer_data)
{
	enter(k, NULL, 0, 0, answer, answer_data);
}

/* ---- the thread of the save ---- */

static bool work_locked(const SnapIntake *k)
{
	return k->parked.head || k->over || k->ended;
}

/* Waits until a write comes, however long that takes, or ends the stream. */
static void sleep_locked(SnapIntake *k)
{
	gint64 until =
		g_get_monotonic_time() + (gint64)k->idle * G_TIME_SPAN_SECOND;
	bool in_time = true;

	k->asleep = true;
	if (k->idle)
		in_time = g_cond_wait_until(&k->wake, &k->lock, until);
	else
		g_cond_wait(&k->wake, &k->lock);
	k->idled = !in_time && k->asleep;
	k->ended = k->ended || k->idled;
	k->asleep = false;
}

/* Waits for work. When no write has come for a while, the pages that wait for
 * neighbours go to the workers. */
static void wait_locked(SnapIntake *k)
{
	while (!work_locked(k)) {
		gint64 until = g_get_monotonic_time() + PATIENCE;

		k->moved = false;
		if (g_cond_wait_until(&k->wake, &k->lock, until) || k->moved)
			continue;
		snap_ingest_idle(k->ingest);
		while (!work_locked(k) && !k->moved)
			sleep_locked(k);
	}
}

/* Claims the memory of a write, and waits for it if need be. Returns the bytes
 * that were claimed for. No save may wait for memory that it holds itself, so
 * its own pages go to the workers first. */
static size_t wait_for_room(SnapIntake *k, size_t size)
{
	if (snap_pool_claim(k->pool, size, false))
		return size;
	snap_ingest_idle(k->ingest);
	size = MAX(size, ROOM_AGAIN);
	snap_pool_claim(k->pool, size, true);
	return size;
}

/* Takes a parked request, without the lock. */
static enum verdict take_parked(SnapIntake *k, const struct parked *p,
				ssize_t *ret_answer)
{
	enum verdict verdict;
	size_t claimed;

	if (!p->size)
		return take_check(k, ret_answer);
	k->result =
		snap_ingest_compact(k->ingest, SNAP_DEAD_WHILE, &k->failure);
	if (k->result < 0)
		return LAST;
	claimed = wait_for_room(k, p->size);
	verdict = take_write(k, p->data, p->size, p->offset, ret_answer);
	snap_pool_unclaim(k->pool, claimed);
	return verdict;
}

/* Takes the oldest parked request. The lock is released meanwhile. */
static void serve_locked(SnapIntake *k)
{
	struct parked *p = g_queue_pop_head_link(&k->parked)->data;
	enum verdict verdict;
	ssize_t answer = 0;

	k->parked_writes -= p->size > 0;
	k->served = p;
	g_mutex_unlock(&k->lock);
	verdict = take_parked(k, p, &answer);
	g_mutex_lock(&k->lock);
	k->served = NULL;
	/* Writes that came meanwhile may belong to a mapped-ram stream. */
	if (verdict == LAST && k->result == 0 && k->parked_writes) {
		if (!p->size) {
			g_queue_push_tail_link(&k->parked, &p->link);
			return;
		}
		verdict = ANSWERED;
		answer = p->good;
	}
	note_locked(k, verdict, p->size, p->offset, answer);
	if (verdict == LAST) {
		k->last = p;
		return;
	}
	g_mutex_unlock(&k->lock);
	parked_answer(k, p, answer);
	g_mutex_lock(&k->lock);
}

/* No more writes come. What is complete is saved, however it ended. */
static int end_locked(SnapIntake *k)
{
	int r = snap_ingest_end(k->ingest, &k->failure);

	if (r == 0 || !k->idled)
		return r;
	g_clear_error(&k->failure);
	return snap_fail(&k->failure, ETIMEDOUT,
			 "nobody wrote to it for %u seconds (-o idle=)",
			 k->idle);
}

int snap_intake_run(SnapIntake *k, SnapIngest *ingest, GError **error)
{
	g_mutex_lock(&k->lock);
	k->ingest = ingest;
	for (;;) {
		k->owned = false;
		wait_locked(k);
		k->owned = true;
		if (k->over || !k->parked.head)
			break;
		serve_locked(k);
	}
	if (!k->over)
		k->result = end_locked(k);
	if (k->late && k->result == 0)
		k->result = snap_fail(&k->failure, ETIMEDOUT,
				      "its writer has waited for too long");
	g_mutex_unlock(&k->lock);
	if (k->failure)
		g_propagate_error(error, g_steal_pointer(&k->failure));
	return k->result;
}

/* ---- the end ---- */

void snap_intake_end(SnapIntake *k)
{
	SNAP_LOCKED(&k->lock);

	k->ended = true;
	wake_locked(k);
}

void snap_intake_close(SnapIntake *k, int error, int outcome)
{
	struct parked *last;
	GQueue parked;
	GList *link;

	g_mutex_lock(&k->lock);
	k->error = error;
	k->outcome = outcome;
	parked = k->parked;
	g_queue_init(&k->parked);
	last = g_steal_pointer(&k->last);
	g_mutex_unlock(&k->lock);
	while ((link = g_queue_pop_head_link(&parked))) {
		struct parked *p = link->data;

		parked_answer(k, p, p->size ? error : outcome);
	}
	if (last)
		parked_answer(k, last, outcome < 0 ? outcome : last->good);
}

/* Takes over how a request is answered. */
static void take_answer(struct parked *p, GArray *answers)
{
	struct parked taken;

	if (!p || !p->answer)
		return;
	taken = *p;
	g_array_append_val(answers, taken);
	p->answer = NULL;
}

void snap_intake_give_up(SnapIntake *k)
{
	g_autoptr(GArray) answers =
		g_array_new(FALSE, FALSE, sizeof(struct parked));

	g_mutex_lock(&k->lock);
	k->error = k->outcome = -ETIMEDOUT;
	k->late = k->ended = true;
	take_answer(k->served, answers);
	take_answer(k->last, answers);
	for (GList *l = k->parked.head; l; l = l->next)
		take_answer(l->data, answers);
	wake_locked(k);
	g_mutex_unlock(&k->lock);
	for (guint i = 0; i < answers->len; i++) {
		struct parked *p = &g_array_index(answers, struct parked, i);

		p->answer(p->answer_data, -ETIMEDOUT);
	}
}

gint64 snap_intake_waits_since(SnapIntake *k)
{
	SNAP_LOCKED(&k->lock);
	const GList *head = k->parked.head;
	const struct parked *waiting[] = { k->last, k->served,
					   head ? head->data : NULL };
	gint64 since = 0;

	for (guint i = 0; i < G_N_ELEMENTS(waiting); i++)
		if (waiting[i] && (!since || waiting[i]->since < since))
			since = waiting[i]->since;
	return since;
}

uint64_t snap_intake_received(const SnapIntake *k)
{
	return __atomic_load_n(&k->received, __ATOMIC_RELAXED);
}

bool snap_intake_scattered(const SnapIntake *k)
{
	return __atomic_load_n(&k->scattered, __ATOMIC_RELAXED);
}
