/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `stream`: the preamble, and the migration stream in the form in which it was
 * saved.
 *
 * A verbatim stream is stored as it came. A classic stream follows from its
 * layout, a mapped-ram stream from the layout of a mapped-ram file that begins
 * behind the preamble.
 */
#include "fs/view/view-internal.h"

#include <string.h>

#include "format/base/error.h"

static enum snap_form form(const SnapSealed *s)
{
	return snap_sealed_meta(s)->form;
}

static bool stream_present(const SnapSealed *s)
{
	return s->layout || (s->pages && snap_meta_find(snap_sealed_meta(s),
							SNAP_BLOCK_STREAM));
}

static int stream_size(SnapSealed *s, uint64_t *ret_size)
{
	const SnapLayout *layout = s->layout;
	uint64_t preamble = snap_preamble_size(s);
	int r;

	if (form(s) == SNAP_FORM_VERBATIM) {
		*ret_size = preamble + snap_meta_find(snap_sealed_meta(s),
						      SNAP_BLOCK_STREAM)
					       ->length;
		return 0;
	}
	if (form(s) == SNAP_FORM_MAPPED) {
		/* The layout's offsets count from the beginning of the file. */
		r = snap_mapped_layout(s, preamble, &layout);
		if (r < 0)
			return r;
		preamble = 0;
	}
	*ret_size = preamble + snap_layout_size(layout);
	return 0;
}

/* Gives bytes behind the preamble. */
static int give_behind(SnapSealed *s, SnapVec *vec, size_t size,
		       uint64_t offset, uint64_t preamble,
		       struct snap_pages_hint *hint)
{
	const SnapLayout *layout;
	const struct snap_block *whole;
	int r;

	switch (form(s)) {
	case SNAP_FORM_VERBATIM:
		whole = snap_meta_find(snap_sealed_meta(s), SNAP_BLOCK_STREAM);
		return snap_pages_give(s->pages, vec, size,
				       whole->base + offset - preamble, hint);
	case SNAP_FORM_MAPPED:
		r = snap_mapped_layout(s, preamble, &layout);
		return r < 0 ? r
			     : snap_runs_give(s, layout, vec, size, offset,
					      hint);
	case SNAP_FORM_CLASSIC:
		break;
	}
	return snap_runs_give(s, s->layout, vec, size, offset - preamble, hint);
}

static int stream_give(SnapSealed *s, SnapVec *vec, size_t size,
		       uint64_t offset, struct snap_pages_hint *hint)
{
	uint64_t preamble = snap_preamble_size(s), n = 0;

	if (offset < preamble) {
		int r;

		n = MIN(size, preamble - offset);
		r = snap_preamble_give(s, vec, n, offset, hint);
		if (r < 0 || n == size)
			return r;
	}
	return give_behind(s, vec, size - n, offset + n, preamble, hint);
}

static int stream_seek(SnapSealed *s, uint64_t offset, bool hole,
		       uint64_t *ret_offset)
{
	uint64_t preamble = snap_preamble_size(s), size = 0;
	const SnapLayout *layout;
	int r = stream_size(s, &size);

	if (r < 0)
		return r;
	if (offset < preamble) {
		r = snap_preamble_seek(s, offset, hole, &offset);
		if (r < 0 || offset < preamble) {
			*ret_offset = offset;
			return r;
		}
	}
	if (form(s) != SNAP_FORM_MAPPED) {
		*ret_offset = hole ? size : offset;
		return 0;
	}
	r = snap_mapped_layout(s, preamble, &layout);
	return r < 0 ? r : snap_runs_seek(s, layout, offset, hole, ret_offset);
}

const SnapView snap_view_stream = {
	.name = "stream",
	.number = 0,
	.present = stream_present,
	.size = stream_size,
	.give = stream_give,
	.seek = stream_seek,
};
