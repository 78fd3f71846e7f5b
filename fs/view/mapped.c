/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `mapped`: the snapshot as a mapped-ram file, however it was saved.
 *
 * Its layout follows from the device state before the pages. It is made when a
 * process first asks for the file's size, not for every snapshot that is
 * listed.
 */
#include "fs/view/view-internal.h"

#include "format/base/cleanup.h"
#include "format/base/error.h"

/* Memory that QEMU left out must not read as zero, so the snapshot must have
 * `ram`. */
static bool mapped_present(const SnapSealed *s)
{
	return s->layout && snap_view_ram.present(s);
}

/* Finds the description, which a snapshot that was saved as mapped-ram has as
 * the layout must have it. */
static int describe(SnapSealed *s, const struct snap_described **ret)
{
	return snap_sealed_meta(s)->form == SNAP_FORM_MAPPED
		       ? 0
		       : snap_description_get(s, ret);
}

static int layout_make(SnapSealed *s, uint64_t begin, SnapLayout **ret_layout,
		       GError **error)
{
	const struct snap_block *state =
		snap_meta_find(snap_sealed_meta(s), SNAP_BLOCK_STATE);
	struct snap_stream_info info = s->info;
	const struct snap_described *d = NULL;
	uint64_t size = info.pages_at;
	g_autofree void *head = NULL;
	int r = describe(s, &d);

	if (r < 0)
		return snap_fail_errno(error, -r, "reading the description");
	info.description_at = d ? d->at : 0;

	if (size > SNAP_LAYOUT_HEAD_MAX)
		return snap_fail(
			error, EBADMSG,
			"%" G_GUINT64_FORMAT
			" bytes of device state stand before the pages",
			size);
	head = g_try_malloc(MAX(size, 1));
	r = head ? snap_pages_read(s->pages, head, size, state->base, NULL)
		 : -ENOMEM;
	if (r < 0)
		return snap_fail_errno(error, -r, "reading the device state");
	return snap_layout_mapped(&info, head, size, d ? d->bytes : NULL,
				  d ? d->size : 0, begin, ret_layout, error);
}

/* Makes a layout unless it is there. A failure is logged once. */
static int layout_get(SnapSealed *s, struct snap_mapped *m, uint64_t begin)
{
	g_autoptr(GError) error = NULL;
	SNAP_LOCKED(&m->lock);
	SnapLayout *layout = NULL;
	int r;

	if (m->layout || m->error)
		return m->error;
	r = layout_make(s, begin, &layout, &error);
	if (r == 0)
		g_atomic_pointer_set(&m->layout, layout);
	else if (snap_is_damage(r)) {
		snap_fail_prefix(&error, r,
				 "no mapped-ram file can be made of it");
		snap_sealed_log(s, snap_pages_name(s->pages),
				SNAP_DAMAGE_MAPPED, error->message);
		r = m->error = -EBADMSG;
	}
	return r;
}

int snap_mapped_layout(SnapSealed *sealed, uint64_t begin,
		       const SnapLayout **ret_layout)
{
	struct snap_mapped *m = begin ? &sealed->behind : &sealed->mapped;
	SnapLayout *layout = g_atomic_pointer_get(&m->layout);
	int r;

	if (!layout) {
		r = layout_get(sealed, m, begin);
		if (r < 0)
			return r;
		layout = g_atomic_pointer_get(&m->layout);
	}
	*ret_layout = layout;
	return 0;
}

static int mapped_size(SnapSealed *s, uint64_t *ret_size)
{
	const SnapLayout *layout;
	int r = snap_mapped_layout(s, 0, &layout);

	if (r == 0)
		*ret_size = snap_layout_size(layout);
	return r;
}

static int mapped_give(SnapSealed *s, SnapVec *vec, size_t size,
		       uint64_t offset, struct snap_pages_hint *hint)
{
	const SnapLayout *layout;
	int r = snap_mapped_layout(s, 0, &layout);

	return r < 0 ? r : snap_runs_give(s, layout, vec, size, offset, hint);
}

static int mapped_seek(SnapSealed *s, uint64_t offset, bool hole,
		       uint64_t *ret_offset)
{
	const SnapLayout *layout;
	int r = snap_mapped_layout(s, 0, &layout);

	return r < 0 ? r : snap_runs_seek(s, layout, offset, hole, ret_offset);
}

const SnapView snap_view_mapped = {
	.name = "mapped",
	.number = 1,
	.present = mapped_present,
	.size = mapped_size,
	.give = mapped_give,
	.seek = mapped_seek,
};
