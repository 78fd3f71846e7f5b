/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A postcopy migration, from the first byte to QEMU's last word.
 *
 *	BEGIN ─┬→ PRECOPY → LOADING ────┬→ DRAIN → ENDING
 *	       └→ RECOVER → RESUMING ───┘
 *
 * One thread listens to QEMU. A few workers each take the most urgent piece of
 * memory, read it, wait for the wire, and send it. A worker that finds nothing
 * to take begins the next phase, if the present one is over.
 *
 * If anything goes wrong, the bridge ends without the end of the stream. Before
 * the guest runs, QEMU then fails the load. Afterwards it keeps the guest,
 *which waits for the pages that it lacks until another bridge resumes.
 */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "format/base/error.h"
#include "format/qemu/postcopy-return.h"
#include "tools/bridge/pages.h"

#define WORKERS (HOT_MOST + 3) /* three are free for what QEMU asks for */
#define BAD_MAX 1024u	       /* unreadable pages; then the bridge gives up */
#define TIMES_MAX 65536u       /* the last answers, whose times are kept */
#define LAST_WORDS_US 2000000  /* for QEMU to say why it takes no more bytes */

enum phase { BEGIN, PRECOPY, LOADING, RECOVER, RESUMING, DRAIN, ENDING };

static struct service {
	struct bridge *b; /* the worker that has the wire uses its batch */
	GMutex lock;	  /* protects all below */
	GCond work;	  /* there may be a piece to take */
	guint idle;	  /* workers that wait for one */
	bool writing;	  /* a worker has the wire */
	GCond turn[2];	  /* the wire is free, [1] for a page asked for */
	guint asks;	  /* workers that wait for turn[1] */
	enum phase phase;
	guint bitmaps_left; /* RECOVER: answers to come */
	struct pages pages;
	bool over;     /* the process may end */
	GError *error; /* why; NULL: all is well */
	gint64 runs;   /* when the guest ran */
	uint64_t answers;
	int32_t times[TIMES_MAX]; /* from ask to answer; microseconds */
} service;

/* Ends the service: wakes bridge_serve(). `why` is NULL when all is well. */
static void end_locked(struct service *s, int code, const char *why)
{
	bool pauses = s->phase >= RECOVER && s->phase <= DRAIN && code != EPIPE;
	const char *then = pauses ? "; QEMU pauses the migration, and --resume "
				    "goes on with it"
				  : "";

	if (!s->over && why && s->pages.bad_count)
		folder_fail_bad(s->b, &s->pages.bad, why, then, &s->error);
	else if (!s->over && why)
		snap_fail(&s->error, code, "%s%s", why, then);
	if (!s->over)
		(void)kill(getpid(), SIGTERM);
	s->over = true;
}

static void end_closed_locked(struct service *s)
{
	end_locked(s, EPIPE,
		   s->phase >= DRAIN
			   ? "QEMU closed the connection before it confirmed "
			     "that all memory is there"
		   : s->b->resume
			   ? "QEMU closed the connection; --resume is for a "
			     "guest in postcopy-paused"
			   : "QEMU closed the connection before the guest ran; "
			     "its own message says why (is postcopy-ram on, "
			     "with the same machine, memory size and "
			     "devices?)");
}

/* Waits for the wire. Answers go first; other pages only in some phases. */
static void take_wire_locked(struct service *s, bool answer)
{
	s->asks += answer;
	while (s->writing || (!answer && s->asks) ||
	       (!answer && s->phase != PRECOPY && s->phase != DRAIN))
		g_cond_wait(&s->turn[answer], &s->lock);
	s->asks -= answer;
	s->writing = true;
}

static void give_wire_locked(struct service *s)
{
	s->writing = false;
	g_cond_signal(&s->turn[s->asks > 0]);
}

/* Sends the batch; the lock is not held meanwhile. */
static void write_locked(struct service *s)
{
	bool gone;

	g_mutex_unlock(&s->lock);
	gone = wire_send(s->b) < 0;
	if (gone)
		g_usleep(LAST_WORDS_US);
	g_mutex_lock(&s->lock);
	if (gone)
		end_closed_locked(s);
}

/* Sends a piece part by part; answers may go between two parts. The neighbours
 * of an answer are given up while only answers may be sent, and when the worker
 * is needed for another ask. */
static void send_piece_locked(struct service *s, struct piece *c)
{
	take_wire_locked(s, c->since != 0);
	while (c->at < c->end && !s->over) {
		gint64 since = c->since;

		if (c->kind == PIECE_ASK && !since &&
		    (s->phase != DRAIN || (s->pages.asks->len && !s->idle)))
			break;
		if (s->asks && !since) {
			give_wire_locked(s);
			take_wire_locked(s, false);
		}
		if (pages_put(&s->pages, c) == 0)
			continue;
		write_locked(s);
		if (since)
			s->times[s->answers++ % TIMES_MAX] =
				(int32_t)(g_get_monotonic_time() - since);
	}
	give_wire_locked(s);
}

static bool serve_piece_locked(struct service *s, struct piece *c)
{
	struct pages *p = &s->pages;
	struct piece next;

	if (!pages_take(p, c))
		return false;
	if (s->idle && pages_find(p, &next))
		g_cond_signal(&s->work);
	g_mutex_unlock(&s->lock);
	folder_read_piece(s->b, c, c->kind == PIECE_BULK);
	g_mutex_lock(&s->lock);
	pages_note_read(p, c);
	/* QEMU cannot load the devices without what it asks for meanwhile. */
	if (p->bad_count > (s->phase < RECOVER ? 0 : BAD_MAX))
		end_locked(s, p->bad.error, "cannot read on");
	send_piece_locked(s, c);
	p->taken--;
	p->background -= c->kind != PIECE_ASK;
	return true;
}

/* Begins the next phase if the present one is over, and says to QEMU what it
 * begins with. */
static bool next_phase_locked(struct service *s)
{
	const SnapPostcopy *post = s->b->post;
	GByteArray *out = s->b->batch;
	struct pages *p = &s->pages;
	enum phase phase = s->phase;
	struct piece c;

	if (s->writing || (phase != BEGIN && (p->taken || pages_find(p, &c))))
		return false;
	if (phase == BEGIN && s->b->resume) {
		s->phase = RECOVER;
		s->bitmaps_left = s->b->ram->n;
		for (guint i = 0; i < s->b->ram->n; i++)
			snap_postcopy_put_recv_bitmap(post, i, out);
	} else if (phase == BEGIN) {
		s->phase = PRECOPY;
		snap_postcopy_put_head(post, out);
	} else if (phase == PRECOPY) {
		s->phase = LOADING;
		pages_put_discards(p);
		snap_postcopy_put_package(post, out);
		p->answer = p->bulk = true;
		p->goal = UINT64_MAX;
	} else if (phase == RECOVER && s->bitmaps_left == 0) {
		s->phase = RESUMING;
		snap_postcopy_put_resume(post, out);
		p->goal = UINT64_MAX;
	} else if (phase == DRAIN && p->bad_count) {
		end_locked(s, p->bad.error, "all else has been delivered");
	} else if (phase == DRAIN) {
		s->phase = ENDING;
		snap_postcopy_put_end(post, out);
	}
	if (s->phase == phase)
		return false;
	s->writing = true;
	/* Before QEMU gets the end: then it waits until the bridge exits. */
	if (s->phase == ENDING && p->learnt->len) {
		g_mutex_unlock(&s->lock);
		folder_write_hot(s->b, p->hot, p->learnt);
		g_mutex_lock(&s->lock);
	}
	write_locked(s);
	give_wire_locked(s);
	return true;
}

static void *work(void *data)
{
	struct service *s = data;
	struct piece c = { .data = g_malloc(s->pages.room * s->b->page),
			   .states = g_malloc(s->pages.room) };

	g_mutex_lock(&s->lock);
	for (;;) {
		if (!s->over &&
		    (serve_piece_locked(s, &c) || next_phase_locked(s)))
			continue;
		s->idle++;
		g_cond_wait(&s->work, &s->lock);
		s->idle--;
	}
	return NULL;
}

/* Notes a message of QEMU; gives what is wrong with it, or NULL. */
static const char *note_event_locked(struct service *s,
				     const struct snap_return_event *ev)
{
	switch (ev->kind) {
	case SNAP_RETURN_SHUT:
		if (ev->value != 0)
			return "QEMU could not load the snapshot; its own "
			       "message says why";
		if (s->phase != ENDING)
			return "QEMU ends before all memory is delivered";
		end_locked(s, 0, NULL);
		return NULL;
	case SNAP_RETURN_REQUEST:
		if (s->phase != ENDING &&
		    !pages_ask(&s->pages, ev->block, ev->offset, ev->length))
			return "QEMU asks for too many pages at once";
		return NULL;
	case SNAP_RETURN_BITMAP:
		if (s->phase != RECOVER || s->bitmaps_left-- == 0)
			return "QEMU tells which pages it has, unasked";
		pages_note_there(&s->pages, ev->block, ev->bitmap);
		return NULL;
	case SNAP_RETURN_PONG:
		if (s->phase != LOADING || ev->value != SNAP_POSTCOPY_PING_RUN)
			return NULL;
		break;
	case SNAP_RETURN_RESUMED:
		if (s->phase != RESUMING || ev->value != 1)
			return "QEMU does not go on with what it has begun";
	}
	s->runs = g_get_monotonic_time();
	s->phase = DRAIN;
	s->pages.answer = s->pages.bulk = s->pages.flows = true;
	g_cond_signal(&s->turn[0]);
	return NULL;
}

static void *listen_to_qemu(void *data)
{
	static uint8_t buffer[64 * 1024];
	struct service *s = data;
	struct pollfd in = { .fd = s->b->in, .events = POLLIN };
	g_autoptr(SnapReturn) ret = snap_return_new(s->b->ram, s->b->page);
	struct snap_return_event ev;
	g_autoptr(GError) error = NULL;

	for (;;) {
		const char *why = NULL;
		ssize_t n;

		(void)poll(&in, 1, -1);
		n = read(in.fd, buffer, sizeof(buffer));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		g_mutex_lock(&s->lock);
		if (n <= 0 || s->over)
			break;
		snap_return_feed(ret, buffer, (size_t)n);
		while (!why && snap_return_step(ret, &ev, &error) > 0)
			why = note_event_locked(s, &ev);
		if (why || error)
			end_locked(s, EPROTO, why ? why : error->message);
		g_cond_signal(&s->work);
		g_mutex_unlock(&s->lock);
	}
	end_closed_locked(s);
	g_mutex_unlock(&s->lock);
	return NULL;
}

static int compare_times(const void *a, const void *b)
{
	return *(const int32_t *)a - *(const int32_t *)b;
}

int bridge_serve(struct bridge *b, char **ret_said, GError **error)
{
	struct service *s = &service;
	sigset_t signals;
	int number;
	size_t n;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	(void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
	s->b = b;
	pages_init(&s->pages, b);
	for (guint i = 0; i < WORKERS; i++)
		g_thread_unref(g_thread_new("worker", work, s));
	g_thread_unref(g_thread_new("listen", listen_to_qemu, s));
	(void)sigwait(&signals, &number);
	g_mutex_lock(&s->lock);
	end_locked(s, ECANCELED, "stopped by a signal");
	n = MIN(s->answers, TIMES_MAX);
	qsort(s->times, n, sizeof(*s->times), compare_times);
	*ret_said = g_strdup_printf(
		"guest %s after %.1f ms; %" PRIu64 " pages asked for, service "
		"time p50 %d us, p99 %d us; ",
		b->resume ? "resumed" : "runs",
		(double)(s->runs - b->begin) / 1e3, s->answers, s->times[n / 2],
		s->times[n * 99 / 100]);
	*error = s->error;
	g_mutex_unlock(&s->lock);
	return s->error ? -s->error->code : 0;
}
