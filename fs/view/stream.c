/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `stream`: the migration stream, written again from the snapshot in the form
 * that it was saved in, behind what stood before it in its file.
 *
 * A verbatim one is read as it lies, a classic one by its layout, one saved as
 * mapped-ram by that of the mapped-ram file that begins where it did.
 */
#include "fs/view/writing-internal.h"

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
	uint64_t before = snap_preamble_size(s);
	int r;

	if (form(s) == SNAP_FORM_VERBATIM) {
		*ret_size = before + snap_meta_find(snap_sealed_meta(s),
						    SNAP_BLOCK_STREAM)
					     ->length;
		return 0;
	}
	if (form(s) == SNAP_FORM_MAPPED) {
		/* Places in it are those of the file. */
		r = snap_mapped_layout(s, before, &layout);
		if (r < 0)
			return r;
		before = 0;
	}
	*ret_size = before + snap_layout_size(layout);
	return 0;
}

/* Reads what stands behind the first `before` bytes. */
static int read_stream(SnapSealed *s, void *buf, size_t size, uint64_t offset,
		       uint64_t before, struct snap_pages_hint *hint)
{
	const SnapLayout *layout;
	const struct snap_block *whole;
	int r;

	switch (form(s)) {
	case SNAP_FORM_VERBATIM:
		whole = snap_meta_find(snap_sealed_meta(s), SNAP_BLOCK_STREAM);
		return snap_pages_read(s->pages, buf, size,
				       whole->base + offset - before, hint);
	case SNAP_FORM_MAPPED:
		r = snap_mapped_layout(s, before, &layout);
		return r < 0 ? r
			     : snap_runs_read(s, layout, buf, size, offset,
					      hint);
	case SNAP_FORM_CLASSIC:
		break;
	}
	return snap_runs_read(s, s->layout, buf, size, offset - before, hint);
}

static int stream_read(SnapSealed *s, void *buf, size_t size, uint64_t offset,
		       struct snap_pages_hint *hint)
{
	uint64_t before = snap_preamble_size(s), n = 0;

	if (offset < before) {
		int r;

		n = MIN(size, before - offset);
		r = snap_preamble_read(s, buf, n, offset);
		if (r < 0 || n == size)
			return r;
	}
	return read_stream(s, (uint8_t *)buf + n, size - n, offset + n, before,
			   hint);
}

static int stream_seek(SnapSealed *s, uint64_t offset, bool hole,
		       uint64_t *ret_offset)
{
	uint64_t before = snap_preamble_size(s), size = 0;
	const SnapLayout *layout;
	int r = stream_size(s, &size);

	if (r < 0)
		return r;
	if (offset < before) {
		r = snap_preamble_seek(s, offset, hole, &offset);
		if (r < 0 || offset < before) {
			*ret_offset = offset;
			return r;
		}
	}
	if (form(s) != SNAP_FORM_MAPPED) {
		*ret_offset = hole ? size : offset;
		return 0;
	}
	r = snap_mapped_layout(s, before, &layout);
	return r < 0 ? r : snap_runs_seek(s, layout, offset, hole, ret_offset);
}

/* A stream that is written does not touch the node of the one that is there:
 * the kernel would lengthen its size for those who read it. So the writer is
 * sent to look the name up again (-ESTALE: the kernel does that by itself) and
 * finds the new stream. One that comes here a second time, because another
 * lookup was faster or because it holds the node by other means, is served. */
static int stream_open_to_write(SnapNode *node,
				const struct snap_caller *caller,
				SnapHandle **ret_handle)
{
	SnapViewNode *v = (SnapViewNode *)node;
	struct snap_catalog_owner owner;
	struct stat st;

	if (caller->pid && !snap_ticket_issue(v->folder, caller->pid))
		return -ESTALE;
	if (fstat(v->sealed->fd, &st) < 0)
		return -errno;
	owner.uid = st.st_uid;
	owner.gid = st.st_gid;
	owner.mode = st.st_mode & 07777;
	*ret_handle =
		snap_writers_open(v->folder, &snap_view_stream, &owner, node);
	return 0;
}

const struct snap_view snap_view_stream = {
	.name = "stream",
	.present = stream_present,
	.size = stream_size,
	.read = stream_read,
	.seek = stream_seek,
	.saves = true,
	.open_to_write = stream_open_to_write,
};
