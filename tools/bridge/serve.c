/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The conversation with QEMU, from the first byte to its last word.
 *
 *	BEGIN ─┬→ PRECOPY → LOADING ────┬→ DRAIN → ENDING → DONE
 *	       └→ RECOVER → RESUMING ───┘
 *
 * Whatever goes wrong, the bridge ends without having sent the end of the
 * stream: before the guest runs QEMU then fails the load, afterwards it keeps
 * the guest, waiting for the pages it lacks, until a bridge resumes.
 */
#include "tools/bridge/state.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "format/base/error.h"
#include "format/base/units.h"

/* How many pages QEMU may wait for at once: each of its threads for one. */
#define ASKS_MAX 16384u

/* How long, after QEMU has stopped to listen, it may still speak. */
#define LAST_WORDS_MS 2000

static uint64_t *bits_new(const struct bridge *b)
{
	uint64_t pages =
		b->info->ram.flat_size / b->info->target_page + SNAP_REGION;

	return g_new0(uint64_t, pages / 64 + 1);
}

/* The first bit from `from` on that is as wanted, or `end`. */
static uint64_t bits_find(const uint64_t *bits, uint64_t from, uint64_t end,
			  bool wanted)
{
	while (from < end) {
		uint64_t word = wanted ? bits[from / 64] : ~bits[from / 64];

		word >>= from % 64;
		if (word)
			return MIN(from + (uint64_t)__builtin_ctzll(word), end);
		from += 64 - from % 64;
	}
	return end;
}

/* The pieces of a block that were not sent. */
static GArray *unsent_ranges(const struct bridge *b, guint block)
{
	GArray *ranges =
		g_array_new(FALSE, FALSE, sizeof(struct snap_postcopy_range));
	uint64_t size = b->info->target_page;
	uint64_t first = bridge_page(b, block, 0);
	uint64_t end = first + b->info->ram.blocks[block].length / size;
	uint64_t at = first, to;

	while ((at = bits_find(b->sent, at, end, false)) < end) {
		struct snap_postcopy_range range = { .start = (at - first) *
							      size };

		to = bits_find(b->sent, at, end, true);
		range.length = (to - at) * size;
		g_array_append_val(ranges, range);
		at = to;
	}
	return ranges;
}

/* Without a single discard QEMU hangs, so if all was sent, the first page is
 * to come once more. */
static void put_discards(struct bridge *b, GByteArray *out)
{
	guint before = out->len;

	for (guint i = 0; i < b->info->ram.n; i++) {
		g_autoptr(GArray) ranges = unsent_ranges(b, i);

		snap_postcopy_put_discard(b->post, i, (void *)ranges->data,
					  ranges->len, out);
	}
	if (out->len == before && b->info->ram.n) {
		struct snap_postcopy_range first = { 0, snap_postcopy_unit(
								b->post, 0) };

		snap_postcopy_put_discard(b->post, 0, &first, 1, out);
		for (uint64_t at = 0; at < first.length;
		     at += b->info->target_page)
			bit_clear(b->sent, bridge_page(b, 0, at));
		b->bulk_block = 0;
		b->bulk_offset = 0;
	}
}

static void begin(struct bridge *b)
{
	GByteArray *out = wire_messages(&b->wire);

	if (b->opts->resume) {
		b->bitmaps_left = b->info->ram.n;
		for (guint i = 0; i < b->info->ram.n; i++)
			snap_postcopy_put_recv_bitmap(b->post, i, out);
		b->phase = PHASE_RECOVER;
	} else {
		snap_postcopy_put_head(b->post, out);
		b->phase = PHASE_PRECOPY;
	}
}

/* Writes down what was learnt. Before the end is sent: afterwards QEMU waits
 * for the bridge to exit, and the guest with it. */
static void keep_learnt(struct bridge *b)
{
	g_autoptr(GArray) merged = NULL;

	if (b->learnt->len == 0)
		return;
	merged = snap_hot_merge(b->hot, b->learnt, &b->info->ram);
	folder_write_hot(b->folder, merged);
}

static int finish(struct bridge *b, GError **error)
{
	if (b->bad_count)
		return snap_fail(error, b->bad_error,
				 "all else has been delivered");
	keep_learnt(b);
	snap_postcopy_put_end(b->post, wire_messages(&b->wire));
	b->phase = PHASE_ENDING;
	return 0;
}

/* Nothing is left to be read or sent in this phase. */
static bool is_drained(const struct bridge *b)
{
	return (b->phase == PHASE_PRECOPY ||
		(b->phase == PHASE_DRAIN && b->asks->len == 0)) &&
	       bridge_plan_done(b);
}

/* What a phase has to say by itself, when no page is to be sent: 0 or
 * -errno. */
static int speak(struct bridge *b, GError **error)
{
	GByteArray *out = wire_messages(&b->wire);
	int r = 0;

	if (b->phase == PHASE_BEGIN) {
		begin(b);
	} else if (b->phase == PHASE_PRECOPY && is_drained(b)) {
		put_discards(b, out);
		snap_postcopy_put_package(b->post, out);
		b->phase = PHASE_LOADING;
	} else if (b->phase == PHASE_RECOVER && b->bitmaps_left == 0) {
		snap_postcopy_put_resume(b->post, out);
		b->phase = PHASE_RESUMING;
	} else if (b->phase == PHASE_DRAIN && is_drained(b)) {
		r = finish(b, error);
	}
	if (r == 0)
		wire_put_messages(&b->wire);
	return r;
}

/* Fills the wire with the next batch, if there is one. */
static int next_batch(struct bridge *b, GError **error)
{
	bool may_answer = b->phase == PHASE_LOADING || b->phase == PHASE_DRAIN;

	if (may_answer && bridge_send_ask(b))
		return 0;
	if ((b->phase == PHASE_PRECOPY || b->phase == PHASE_DRAIN) &&
	    bridge_send_background(b))
		return 0;
	return speak(b, error);
}

/* A request may span pages of a larger unit than ours or several of ours; each
 * of our units is noted once. */
static int note_request(struct bridge *b, const struct snap_return_event *ev,
			GError **error)
{
	uint64_t unit = snap_postcopy_unit(b->post, ev->block);
	uint64_t at = ev->offset - ev->offset % unit;

	for (; at < ev->offset + ev->length; at += unit) {
		uint64_t page = bridge_page(b, ev->block, at);
		struct ask a = { ev->block, at, g_get_monotonic_time(), false };

		if (bit_get(b->sent, page) || bit_get(b->asked, page))
			continue;
		if (b->asks->len >= ASKS_MAX)
			return snap_fail(error, EPROTO,
					 "QEMU asks for more than %u pages at "
					 "once",
					 ASKS_MAX);
		bit_set(b->asked, page);
		b->last_ask = a.since;
		g_array_append_val(b->asks, a);
		if (b->learnt->len < SNAP_HOT_PAGES_MAX)
			snap_hot_add(b->learnt, ev->block, at,
				     MAX(b->info->target_page / SNAP_PAGE, 1));
	}
	return 0;
}

static int note_bitmap(struct bridge *b, const struct snap_return_event *ev,
		       GError **error)
{
	uint64_t page = bridge_page(b, ev->block, 0);
	uint64_t pages =
		b->info->ram.blocks[ev->block].length / b->info->target_page;

	if (b->phase != PHASE_RECOVER || b->bitmaps_left == 0)
		return snap_fail(error, EPROTO,
				 "QEMU tells which pages it has, unasked");
	for (uint64_t i = 0; i < pages; i++)
		if (ev->bitmap[i / 8] >> i % 8 & 1)
			bit_set(b->sent, page + i);
	b->bitmaps_left--;
	return 0;
}

static int note_shut(struct bridge *b, uint32_t value, GError **error)
{
	if (value != 0)
		return snap_fail(error, EPROTO,
				 "QEMU could not load the snapshot; its own "
				 "message says why");
	if (b->phase != PHASE_ENDING)
		return snap_fail(error, EPROTO,
				 "QEMU ends before all memory is delivered");
	b->phase = PHASE_DONE;
	return 0;
}

static int note_event(struct bridge *b, const struct snap_return_event *ev,
		      GError **error)
{
	switch (ev->kind) {
	case SNAP_RETURN_SHUT:
		return note_shut(b, ev->value, error);
	case SNAP_RETURN_REQUEST:
		return note_request(b, ev, error);
	case SNAP_RETURN_BITMAP:
		return note_bitmap(b, ev, error);
	case SNAP_RETURN_PONG:
		if (ev->value != SNAP_POSTCOPY_PING_RUN ||
		    b->phase != PHASE_LOADING)
			return 0;
		break;
	case SNAP_RETURN_RESUMED:
		if (b->phase != PHASE_RESUMING || ev->value != 1)
			return snap_fail(error, EPROTO,
					 "QEMU does not go on with what it has "
					 "begun");
		break;
	}
	b->stats.resumed = g_get_monotonic_time();
	b->phase = PHASE_DRAIN;
	return 0;
}

/* QEMU has closed its end. */
static int closed(const struct bridge *b, GError **error)
{
	if (b->phase == PHASE_DRAIN || b->phase == PHASE_ENDING)
		return snap_fail(error, EPIPE,
				 "QEMU closed the connection before it "
				 "confirmed that all memory is there");
	if (b->opts->resume)
		return snap_fail(error, EPIPE,
				 "QEMU closed the connection; --resume is for "
				 "a guest in postcopy-paused");
	return snap_fail(error, EPIPE,
			 "QEMU closed the connection before the guest ran; its "
			 "own message says why (is postcopy-ram on, with the "
			 "same machine, memory size and devices?)");
}

static int listen_to_qemu(struct bridge *b, GError **error)
{
	static uint8_t buffer[64 * 1024];
	struct snap_return_event ev;
	ssize_t n = read(b->wire.in, buffer, sizeof(buffer));
	int r;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return closed(b, error);
	snap_return_feed(b->ret, buffer, (size_t)n);
	while ((r = snap_return_step(b->ret, &ev, error)) > 0) {
		r = note_event(b, &ev, error);
		if (r < 0 || b->phase == PHASE_DONE)
			return r;
	}
	return r;
}

/* Waits until there is something to do. `more`: there is already. */
static int wait_for_news(struct bridge *b, int signals, bool more,
			 GError **error)
{
	struct pollfd fds[] = {
		{ .fd = b->wire.in, .events = POLLIN },
		{ .fd = pool_fd(b->pool), .events = POLLIN },
		{ .fd = signals, .events = POLLIN },
		{ .fd = b->gone ? -1 : b->wire.out,
		  .events = wire_busy(&b->wire) ? POLLOUT : 0 },
	};
	int n = poll(fds, G_N_ELEMENTS(fds),
		     more      ? 0
		     : b->gone ? LAST_WORDS_MS
			       : -1);

	if (n == 0 && b->gone)
		return closed(b, error);
	if (fds[2].revents)
		return snap_fail(error, ECANCELED, "stopped by a signal");
	if (fds[3].revents & (POLLERR | POLLHUP))
		b->gone = true;
	if (fds[0].revents)
		return listen_to_qemu(b, error);
	return 0;
}

/* One round: what was read is collected, what is most urgent is sent, what is
 * next is planned, what is said is heard. */
static int serve_round(struct bridge *b, int signals, GError **error)
{
	bool more = false;
	int r = bridge_collect(b, error);

	if (r == 0 && !b->gone && !wire_busy(&b->wire))
		r = next_batch(b, error);
	if (r < 0)
		return r;
	/* What is planned may be found to be sent already: no reader will then
	 * report, and the next round has to come by itself. */
	bridge_plan(b);
	more = !b->gone && is_drained(b);
	if (!b->gone && wire_busy(&b->wire)) {
		r = wire_flush(&b->wire);
		if (r == 1)
			bridge_sent(b);
		/* QEMU may still say why. */
		b->gone = r < 0;
		more = r == 1;
	}
	return wait_for_news(b, signals, more, error);
}

static int open_signals(GError **error)
{
	sigset_t set;
	int fd;

	(void)signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd >= 0 ? fd
		       : snap_fail_errno(error, errno,
					 "cannot make a signalfd");
}

static void bridge_init(struct bridge *b, const struct bridge_opts *opts,
			Folder *f)
{
	uint64_t total = 0;

	*b = (struct bridge){ .opts = opts, .folder = f, .post = f->post };
	stats_begin(&b->stats);
	b->info = snap_postcopy_info(f->post);
	b->ret = snap_return_new(&b->info->ram, b->info->target_page);
	b->sent = bits_new(b);
	b->asked = bits_new(b);
	b->planned = bits_new(b);
	b->asks = g_array_new(FALSE, FALSE, sizeof(struct ask));
	b->learnt = snap_hot_new();
	b->hot = folder_read_hot(f);
	for (guint i = 0; i < b->info->ram.n; i++)
		total += b->info->ram.blocks[i].length;
	if (opts->precopy == PRECOPY_HOT)
		b->goal = UINT64_MAX;
	else if (opts->precopy > 0)
		b->goal = total / 100 * (uint64_t)opts->precopy + total % 100;
	bridge_plan_init(b);
}

/* Puts where it happened, and what becomes of the guest, around an error. */
static int explain(const struct bridge *b, int r, GError **error)
{
	bool runs = b->phase == PHASE_DRAIN || b->phase == PHASE_RESUMING ||
		    b->phase == PHASE_RECOVER;

	if (r == 0 || !error || !*error)
		return r;
	if (b->bad_count)
		g_prefix_error(error,
			       "%s/ram: RAM block %s cannot be read at "
			       "0x%" PRIx64 ": %s: ",
			       b->folder->path,
			       b->info->ram.blocks[b->bad_block].name,
			       b->bad_offset, g_strerror(b->bad_error));
	if (runs && r != -EPIPE) {
		g_autofree char *message = g_strdup((*error)->message);

		g_clear_error(error);
		return snap_fail(error, -r,
				 "%s; QEMU pauses the migration, and --resume "
				 "goes on with it",
				 message);
	}
	return r;
}

int bridge_serve(const struct bridge_opts *opts, Folder *f, GError **error)
{
	static struct bridge b;
	int signals = open_signals(error);
	int r = signals;

	if (r < 0)
		return r;
	bridge_init(&b, opts, f);
	r = wire_open(&b.wire, opts->socket, error);
	if (r == 0)
		r = pool_new(f->ram_fd, b.info->target_page, &b.pool, error);
	while (r == 0 && b.phase != PHASE_DONE)
		r = serve_round(&b, signals, error);
	if (r == 0 && !opts->quiet) {
		g_autofree char *line = stats_line(
			&b.stats, opts->resume ? "guest resumed" : "guest runs",
			b.wire.bytes);

		fprintf(stderr, "snapfs-bridge: %s\n", line);
	}
	return explain(&b, r, error);
}
