/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The runs of a region: sorted, without gaps, and neighbours that could be one
 * run are joined.
 *
 * When pages of an extent are replaced, some of its bytes are dead. With k of
 * its pages replaced, length * k / pages bytes are dead. Each splice counts the
 * difference, so that the parts add up.
 */
#include "format/image/leaf-internal.h"

#include <string.h>

void snap_leaf_clear(struct snap_leaf *leaf)
{
	leaf->n = 1;
	leaf->segments[0] = (struct snap_segment){
		.kind = SNAP_SEGMENT_ZERO,
		.count = SNAP_REGION_PAGES,
	};
}

guint snap_leaf_stored(const struct snap_leaf *leaf)
{
	guint stored = 0;

	for (guint i = 0; i < leaf->n; i++)
		if (leaf->segments[i].kind != SNAP_SEGMENT_ZERO)
			stored += leaf->segments[i].count;
	return stored;
}

guint snap_leaf_end(const struct snap_leaf *leaf)
{
	guint i = leaf->n;

	while (i > 0 && leaf->segments[i - 1].kind == SNAP_SEGMENT_ZERO)
		i--;
	return i ? leaf->segments[i - 1].page + leaf->segments[i - 1].count : 0;
}

bool snap_leaf_same(const struct snap_segment *a, const struct snap_segment *b)
{
	return a->kind == SNAP_SEGMENT_EXTENT &&
	       b->kind == SNAP_SEGMENT_EXTENT && a->layer == b->layer &&
	       a->offset == b->offset;
}

guint snap_leaf_live(const struct snap_segment *s, guint n,
		     const struct snap_segment *of)
{
	guint live = 0;

	for (guint i = 0; i < n; i++)
		if (snap_leaf_same(&s[i], of))
			live += s[i].count;
	return live;
}

void snap_leaf_used(const struct snap_leaf *leaf,
		    uint64_t used[SNAP_LAYERS_MAX + 1])
{
	for (guint i = 0; i < leaf->n; i++) {
		const struct snap_segment *s = &leaf->segments[i];

		if (s->kind == SNAP_SEGMENT_EXTENT &&
		    !snap_leaf_live(leaf->segments, i, s))
			used[s->layer] += s->length;
	}
}

guint snap_leaf_runs(const struct snap_leaf *leaf)
{
	const struct snap_segment *last = NULL;
	guint runs = 0;

	for (guint i = 0; i < leaf->n; i++) {
		const struct snap_segment *s = &leaf->segments[i];

		if (s->kind != SNAP_SEGMENT_EXTENT)
			continue;
		runs += !last || !snap_leaf_same(last, s) ||
			last->first + last->count != s->first;
		last = s;
	}
	return runs;
}

/* ---- what a splice replaces ---- */

/* The number of pages that a segment and a run share. */
static guint overlap(const struct snap_segment *s,
		     const struct snap_segment *run)
{
	guint begin = MAX(s->page, run->page);
	guint end = MIN(s->page + s->count, run->page + run->count);

	return end > begin ? end - begin : 0;
}

static uint64_t share(const struct snap_segment *s, guint gone)
{
	return (uint64_t)s->length * gone / s->pages;
}

/* Counts what the extents in s[begin..end) lose, each extent once. */
static void count_gone(const struct snap_segment *s, guint n, guint begin,
		       guint end, const struct snap_segment *run,
		       struct snap_splice *gone)
{
	for (guint i = begin; i < end; i++) {
		guint lost = 0, dead;

		if (s[i].kind != SNAP_SEGMENT_EXTENT ||
		    snap_leaf_live(s + begin, i - begin, &s[i]))
			continue;
		for (guint j = i; j < end; j++)
			if (snap_leaf_same(&s[j], &s[i]))
				lost += overlap(&s[j], run);
		gone->pages += lost;
		if (s[i].layer)
			continue;
		dead = s[i].pages - snap_leaf_live(s, n, &s[i]);
		gone->dead += share(&s[i], dead + lost) - share(&s[i], dead);
	}
}

/* ---- the splice ---- */

/* Finds the run that holds a page. */
static guint find(const struct snap_segment *s, guint n, guint page)
{
	guint low = 0, high = n;

	while (high - low > 1) {
		guint middle = low + (high - low) / 2;

		if (s[middle].page <= page)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static bool can_join(const struct snap_segment *a, const struct snap_segment *b)
{
	if (a->kind != b->kind)
		return false;
	switch (a->kind) {
	case SNAP_SEGMENT_ZERO:
		return true;
	case SNAP_SEGMENT_FILL:
		return a->fill == b->fill;
	case SNAP_SEGMENT_EXTENT:
		return snap_leaf_same(a, b) && a->first + a->count == b->first;
	}
	return false;
}

/* Appends a run to the pieces, or extends the last one. */
static void push(struct snap_segment *pieces, guint *n,
		 const struct snap_segment *s)
{
	if (*n && can_join(&pieces[*n - 1], s))
		pieces[*n - 1].count += s->count;
	else
		pieces[(*n)++] = *s;
}

/* Appends the part of a run within [begin, end). */
static void push_part(struct snap_segment *pieces, guint *n,
		      const struct snap_segment *s, guint begin, guint end)
{
	struct snap_segment part = *s;

	if (begin >= end)
		return;
	if (s->kind == SNAP_SEGMENT_EXTENT)
		part.first += (uint8_t)(begin - s->page);
	part.page = (uint16_t)begin;
	part.count = (uint16_t)(end - begin);
	push(pieces, n, &part);
}

guint snap_leaf_splice(struct snap_segment *s, guint n,
		       const struct snap_segment *run,
		       struct snap_splice *ret_gone)
{
	guint run_end = run->page + run->count;
	guint begin = find(s, n, run->page);
	guint end = find(s, n, run_end - 1) + 1;
	guint from = begin > 0 ? begin - 1 : begin;
	guint to = end < n ? end + 1 : end;
	struct snap_segment pieces[5];
	struct snap_segment *last = &s[end - 1];
	guint k = 0;

	memset(ret_gone, 0, sizeof(*ret_gone));
	count_gone(s, n, begin, end, run, ret_gone);
	if (from < begin)
		push(pieces, &k, &s[from]);
	push_part(pieces, &k, &s[begin], s[begin].page, run->page);
	push(pieces, &k, run);
	push_part(pieces, &k, last, run_end, last->page + last->count);
	if (to > end)
		push(pieces, &k, &s[end]);
	memmove(s + from + k, s + to, (n - to) * sizeof(*s));
	memcpy(s + from, pieces, k * sizeof(*s));
	return n - (to - from) + k;
}

guint snap_leaf_run(const uint16_t *pages, guint n, guint i,
		    const struct snap_segment *like,
		    struct snap_segment *ret_run)
{
	guint next = i + 1;

	while (next < n && pages[next] == pages[i] + (next - i))
		next++;
	*ret_run = *like;
	ret_run->page = pages[i];
	ret_run->count = (uint16_t)(next - i);
	ret_run->first = (uint8_t)i;
	return next;
}
