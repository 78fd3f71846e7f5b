/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parser's interface and what all phases use: feeding, items, events and
 * errors. parse-config.c, parse-section.c, parse-ram.c, parse-mapped.c and
 * parse-skip.c know what the items mean; tail.c finds the end of the stream.
 */
#include "format/qemu/parse-internal.h"

#include <inttypes.h>
#include <string.h>

#include "format/base/error.h"
#include "format/base/zero.h"

/* At most so many zeros may follow the description without belonging to the
 * stream. */
#define PARSE_ZEROS_MAX 65536u

SnapParser *snap_parser_new(void)
{
	SnapParser *p = g_new0(SnapParser, 1);

	p->phase = &snap_phase_header;
	p->hold = g_malloc(SNAP_HOLD_SIZE);
	p->block = -1;
	return p;
}

void snap_parser_free(SnapParser *p)
{
	if (!p)
		return;
	g_clear_pointer(&p->ram_names, g_hash_table_unref);
	snap_ramlist_clear(&p->info.ram);
	g_clear_error(&p->error);
	g_free(p->ram_name);
	g_free(p->why);
	g_free(p->hold);
	g_free(p);
}

void snap_parser_expect_devstate(SnapParser *p)
{
	p->devstate = true;
}

void snap_parser_begin_at(SnapParser *p, uint64_t offset)
{
	p->info.begin = offset;
	p->info.size = offset;
}

void snap_parser_feed(SnapParser *p, const void *data, size_t size)
{
	g_assert(snap_cursor_left(&p->in) == 0 || p->error);
	p->in = snap_cursor(data, size);
}

int snap_parser_step(SnapParser *p, struct snap_event *ret_event,
		     GError **error)
{
	struct snap_event ev = { 0 };
	int r = SNAP_PHASE_AGAIN;

	while (r == SNAP_PHASE_AGAIN && !p->error)
		r = p->phase->run(p, &ev);
	if (p->error) {
		if (error)
			*error = g_error_copy(p->error);
		return -p->error->code;
	}
	if (r == SNAP_PHASE_EVENT)
		*ret_event = ev;
	return r;
}

const uint8_t *snap_parse_peek(SnapParser *p, size_t n)
{
	size_t left = snap_cursor_left(&p->in);

	g_assert(n <= SNAP_HOLD_SIZE);
	if (p->held == 0 && left >= n)
		return p->in.at;
	if (p->held < n) {
		size_t more = MIN(n - p->held, left);

		snap_cursor_copy(&p->in, p->hold + p->held, more);
		p->held += more;
		p->info.size += more;
	}
	return p->held >= n ? p->hold : NULL;
}

void snap_parse_drop(SnapParser *p, size_t n)
{
	if (p->held) {
		g_assert(p->held == n);
		p->held = 0;
	} else {
		g_assert(snap_cursor_take(&p->in, n));
		p->info.size += n;
	}
}

int snap_parse_state(SnapParser *p, struct snap_event *ev, size_t n,
		     const struct snap_phase *next)
{
	ev->kind = SNAP_EVENT_STATE;
	ev->data = p->held ? p->hold : p->in.at;
	ev->size = n;
	snap_parse_drop(p, n);
	p->info.state_size += n;
	p->phase = next;
	return SNAP_PHASE_EVENT;
}

int snap_parse_state_as(SnapParser *p, struct snap_event *ev, size_t n,
			const uint8_t *data, size_t size,
			const struct snap_phase *next)
{
	if (n > 0)
		snap_parse_drop(p, n);
	ev->kind = SNAP_EVENT_STATE;
	ev->data = data;
	ev->size = size;
	p->info.state_size += size;
	p->phase = next;
	return SNAP_PHASE_EVENT;
}

/* Passes on at most `n` of the bytes that are here, in the same phase. */
static int parse_state_upto(SnapParser *p, struct snap_event *ev, uint64_t n)
{
	size_t there = p->held ? p->held : snap_cursor_left(&p->in);

	if (there == 0)
		return SNAP_PHASE_MORE;
	return snap_parse_state(p, ev, (size_t)MIN(n, there), p->phase);
}

static int skip_run(SnapParser *p, struct snap_event *ev)
{
	int r;

	if (p->skip == 0) {
		p->phase = p->after_skip;
		return SNAP_PHASE_AGAIN;
	}
	r = parse_state_upto(p, ev, p->skip);
	if (r == SNAP_PHASE_EVENT)
		p->skip -= ev->size;
	return r;
}

const struct snap_phase snap_phase_skip = { skip_run, "the rest of a section" };

int snap_parse_skip(SnapParser *p, uint64_t n, const struct snap_phase *next)
{
	p->skip = n;
	p->after_skip = next;
	p->phase = &snap_phase_skip;
	return SNAP_PHASE_AGAIN;
}

/* Passes on the zeros that were held back: they belong to the stream. */
static int tail_give_back(SnapParser *p, struct snap_event *ev)
{
	size_t n = p->zeros;

	p->zeros = 0;
	memset(p->hold, 0, n);
	return snap_parse_state_as(p, ev, 0, p->hold, n, p->phase);
}

/* Passes on the bytes that are here except the `zeros` at their end, which are
 * read later or held back. */
static int tail_pass(SnapParser *p, struct snap_event *ev, size_t zeros)
{
	size_t held = p->held;

	if (!held)
		return parse_state_upto(p, ev,
					snap_cursor_left(&p->in) - zeros);
	p->zeros = zeros;
	return snap_parse_state_as(p, ev, held, p->hold, held - zeros,
				   p->phase);
}

/* Treats zeros at the end of the input by themselves, so that zeros after the
 * description can be held back. */
static int tail_run(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = p->held ? p->hold : p->in.at;
	size_t there = p->held ? p->held : snap_cursor_left(&p->in);
	bool described = snap_tail_described(&p->tail);
	size_t zeros = snap_zeros_behind(data, there);
	int r;

	if (p->zeros && !described) {
		r = tail_give_back(p, ev);
	} else if (there == 0) {
		return SNAP_PHASE_MORE;
	} else if (described && zeros == there &&
		   zeros <= PARSE_ZEROS_MAX - p->zeros) {
		snap_parse_drop(p, zeros);
		p->zeros += zeros;
		return SNAP_PHASE_AGAIN;
	} else if (p->zeros) {
		r = tail_give_back(p, ev);
	} else {
		r = tail_pass(p, ev, zeros < there ? zeros : 0);
	}
	snap_tail_see(&p->tail, ev->data, ev->size);
	return r;
}

const struct snap_phase snap_phase_tail = {
	tail_run, "the end mark and the description of the devices"
};

void snap_parse_place_seen(SnapParser *p)
{
	if (!p->place_seen)
		p->place = p->info.state_size;
	p->place_seen = true;
}

void snap_parse_place(SnapParser *p)
{
	snap_parse_place_seen(p);
	if (!p->pages_placed)
		p->info.pages_at = p->place;
	p->pages_placed = true;
}

int snap_parse_devices(SnapParser *p)
{
	snap_parse_place(p);
	p->info.tail = true;
	p->phase = &snap_phase_tail;
	return SNAP_PHASE_AGAIN;
}

int snap_parse_fail(SnapParser *p, int code, const char *format, ...)
{
	g_autofree char *sentence = NULL;
	va_list args;

	va_start(args, format);
	sentence = g_strdup_vprintf(format, args);
	va_end(args);
	return snap_fail(&p->error, code, "offset %" PRIu64 ": %s",
			 snap_parse_at(p), sentence);
}

int snap_parse_opaque(SnapParser *p, struct snap_event *ev, const char *format,
		      ...)
{
	va_list args;

	g_free(p->why);
	va_start(args, format);
	p->why = g_strdup_vprintf(format, args);
	va_end(args);
	if (p->pages_begun)
		return snap_parse_fail(p, EOPNOTSUPP, "%s", p->why);
	if (p->info.mapped)
		return snap_parse_fail(p, EOPNOTSUPP,
				       "%s; such a guest cannot be saved with "
				       "mapped-ram",
				       p->why);
	p->place_seen = false;
	snap_parse_devices(p);
	ev->kind = SNAP_EVENT_OPAQUE;
	ev->why = p->why;
	return SNAP_PHASE_EVENT;
}

char *snap_parse_printable(const void *data, size_t size)
{
	char *text = g_strndup(data, size);

	for (size_t i = 0; i < size; i++)
		if (!g_ascii_isprint(text[i]))
			text[i] = '?';
	return text;
}

bool snap_parser_complete(const SnapParser *p)
{
	return !p->error && snap_cursor_left(&p->in) == 0 && p->held == 0 &&
	       p->phase == &snap_phase_tail && snap_tail_described(&p->tail);
}

int snap_parser_end(const SnapParser *p, GError **error)
{
	if (p->error) {
		if (error)
			*error = g_error_copy(p->error);
		return -p->error->code;
	}
	if (snap_parser_complete(p))
		return 0;
	if (p->phase == &snap_phase_tail && p->held == 0 &&
	    (snap_tail_ended(&p->tail) || (p->only_eof && p->tail.at == 1)))
		return 0;
	return snap_fail(error, EPROTO,
			 "offset %" PRIu64
			 ": the stream ends here; expected %s",
			 p->info.size, p->phase->expects);
}

const struct snap_stream_info *snap_parser_info(const SnapParser *p)
{
	return &p->info;
}
