/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the description of the devices stands in the device state: known when
 * all of that has been read once, by the first process that reads `devstate` or
 * `mapped`.
 */
#include "fs/view/view-internal.h"

#include <string.h>

#include "format/base/cleanup.h"

#define CHUNK (256 * SNAP_KIB)

static int feed(SnapParser *p, const uint8_t *data, size_t size)
{
	struct snap_event ev;
	int r;

	snap_parser_feed(p, data, size);
	while ((r = snap_parser_step(p, &ev, NULL)) > 0)
		;
	return r;
}

/* Feeds the whole device state to the parser. */
static int parse(SnapSealed *s, SnapParser *p, uint8_t *buf)
{
	const struct snap_block *state =
		snap_meta_find(snap_sealed_meta(s), SNAP_BLOCK_STATE);
	int r = 0;

	snap_parser_expect_devstate(p);
	for (uint64_t at = 0; r == 0 && at < state->length; at += CHUNK) {
		size_t n = MIN(state->length - at, CHUNK);

		r = snap_pages_read(s->pages, buf, n, state->base + at, NULL);
		if (r == 0)
			r = feed(p, buf, n);
	}
	return r == 0 ? snap_parser_end(p, NULL) : r;
}

/* Finds it, and keeps its beginning. */
static int find(SnapSealed *s, struct snap_described *d)
{
	const struct snap_block *state =
		snap_meta_find(snap_sealed_meta(s), SNAP_BLOCK_STATE);
	uint8_t *buf = g_try_malloc(CHUNK);
	g_autoptr(SnapParser) p = snap_parser_new();
	uint64_t at;
	int r = buf ? parse(s, p, buf) : -ENOMEM;

	g_free(buf);
	if (r < 0)
		return r;
	at = snap_parser_info(p)->description_at;
	if (!at)
		return 0;
	d->size = MIN(state->length - at, sizeof(d->bytes));
	r = snap_pages_read(s->pages, d->bytes, d->size, state->base + at,
			    NULL);
	if (r == 0)
		d->at = at;
	return r;
}

int snap_description_get(SnapSealed *s, const struct snap_described **ret)
{
	struct snap_described *d = &s->described;
	SNAP_LOCKED(&d->lock);
	int r = d->known ? 0 : find(s, d);

	/* What can be read of a damaged one is shown as it is. */
	if (r < 0 && !snap_is_damage(r))
		return r;
	d->known = true;
	*ret = d;
	return 0;
}
