/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all phases of the parser use: items, events and errors. */
#include "format/qemu/parse-internal.h"

#include <inttypes.h>
#include <string.h>

#include "format/base/error.h"

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
		     enum snap_phase next)
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
			const uint8_t *data, size_t size, enum snap_phase next)
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

int snap_parse_skip(SnapParser *p, uint64_t n, enum snap_phase next)
{
	p->skip = n;
	p->after_skip = next;
	p->phase = SNAP_AT_SKIP;
	return SNAP_PHASE_AGAIN;
}

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
	p->phase = SNAP_AT_TAIL;
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
