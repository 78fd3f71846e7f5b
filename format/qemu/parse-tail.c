/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bytes that are passed on unread, and the device state up to the end of the
 * stream, which tail.c finds. */
#include "format/qemu/parse-internal.h"

#include <string.h>

#include "format/base/zero.h"

/* At most so many zeros may follow the description without belonging to the
 * stream. */
#define PARSE_ZEROS_MAX 65536u

/* Passes on at most `n` of the bytes that are here, in the same phase. */
static int parse_state_upto(SnapParser *p, struct snap_event *ev, uint64_t n)
{
	size_t there = p->held ? p->held : snap_cursor_left(&p->in);

	if (there == 0)
		return SNAP_PHASE_MORE;
	return snap_parse_state(p, ev, (size_t)MIN(n, there), p->phase);
}

int snap_phase_skip(SnapParser *p, struct snap_event *ev)
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
int snap_phase_tail(SnapParser *p, struct snap_event *ev)
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
	p->info.description_at = p->tail.text_end
					 ? p->info.state_size - p->tail.at +
						   p->tail.text - sizeof(be32)
					 : 0;
	return r;
}
