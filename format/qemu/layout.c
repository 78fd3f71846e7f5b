/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A layout: the runs of a stream in order, without gaps. There are a few runs
 * per RAM block, so all of them are kept, and a binary search finds an offset.
 */
#include "format/qemu/layout-internal.h"

struct SnapLayout {
	GArray *runs; /* struct snap_run */
	uint8_t *literals;
	size_t literals_size;
	uint64_t size;
};

SnapLayout *snap_layout_new(uint8_t *literals, size_t size)
{
	SnapLayout *l = g_new0(SnapLayout, 1);

	l->runs = g_array_new(FALSE, FALSE, sizeof(struct snap_run));
	l->literals = literals;
	l->literals_size = size;
	return l;
}

void snap_layout_free(SnapLayout *l)
{
	if (!l)
		return;
	g_array_unref(l->runs);
	g_free(l->literals);
	g_free(l);
}

static void layout_put(SnapLayout *l, struct snap_run run)
{
	if (run.length == 0)
		return;
	run.offset = l->size;
	l->size += run.length;
	g_array_append_val(l->runs, run);
}

void snap_layout_put_state(SnapLayout *l, uint64_t state, uint64_t length)
{
	struct snap_run *last;

	if (l->runs->len > 0) {
		last = &g_array_index(l->runs, struct snap_run,
				      l->runs->len - 1);
		if (last->kind == SNAP_RUN_STATE &&
		    last->state + last->length == state) {
			last->length += length;
			l->size += length;
			return;
		}
	}
	layout_put(l, (struct snap_run){ .kind = SNAP_RUN_STATE,
					 .state = state,
					 .length = length });
}

void snap_layout_put_literal(SnapLayout *l, size_t from, size_t to)
{
	g_assert(from <= to && to <= l->literals_size);
	layout_put(l, (struct snap_run){ .kind = SNAP_RUN_LITERAL,
					 .data = l->literals + from,
					 .length = to - from });
}

void snap_layout_put_block(SnapLayout *l, enum snap_run_kind kind, guint block,
			   uint64_t length)
{
	layout_put(l, (struct snap_run){
			      .kind = kind, .block = block, .length = length });
}

void snap_layout_put_zero(SnapLayout *l, uint64_t length)
{
	layout_put(l, (struct snap_run){ .kind = SNAP_RUN_ZERO,
					 .length = length });
}

uint64_t snap_layout_size(const SnapLayout *l)
{
	return l->size;
}

bool snap_layout_find(const SnapLayout *l, uint64_t offset,
		      struct snap_run *ret_run)
{
	guint low = 0, high = l->runs->len;

	if (offset >= l->size)
		return false;
	while (high - low > 1) {
		guint middle = low + (high - low) / 2;

		if (g_array_index(l->runs, struct snap_run, middle).offset <=
		    offset)
			low = middle;
		else
			high = middle;
	}
	*ret_run = g_array_index(l->runs, struct snap_run, low);
	return true;
}
