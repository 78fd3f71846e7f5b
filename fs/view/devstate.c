/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `devstate`: the migration stream without its pages, which is a stream that
 * QEMU itself accepts. Where the capability mapped-ram was taken out of its
 * configuration, the description does not show it either. */
#include "fs/view/view-internal.h"

#include <string.h>

static const struct snap_block *state_block(const SnapSealed *sealed)
{
	return snap_meta_find(snap_sealed_meta(sealed), SNAP_BLOCK_STATE);
}

static bool devstate_present(const SnapSealed *sealed)
{
	const struct snap_meta *meta = snap_sealed_meta(sealed);

	return meta && snap_meta_split(meta) && state_block(sealed);
}

static int devstate_size(SnapSealed *sealed, uint64_t *ret_size)
{
	*ret_size = state_block(sealed)->length;
	return 0;
}

/* Applies the change of the description to bytes that were read. */
static int hide_capability(SnapSealed *sealed, uint8_t *buf, size_t size,
			   uint64_t offset)
{
	const struct snap_described *d;
	struct snap_description_change c;
	uint64_t begin, from, to;
	int r = snap_description_get(sealed, &d);

	if (r < 0 || !d->at ||
	    !snap_description_hide(d->bytes + sizeof(be32),
				   d->size - sizeof(be32), &c))
		return r;
	begin = d->at + sizeof(be32) + c.from;
	from = MAX(begin, offset);
	to = MIN(begin + c.size, offset + size);
	if (from < to)
		memcpy(buf + (from - offset), c.bytes + (from - begin),
		       to - from);
	return 0;
}

static int devstate_give(SnapSealed *sealed, SnapVec *vec, size_t size,
			 uint64_t offset, struct snap_pages_hint *hint)
{
	void *room = snap_vec_room(vec, size);
	int r = room ? snap_pages_read(sealed->pages, room, size,
				       state_block(sealed)->base + offset, hint)
		     : -ENOMEM;

	return r == 0 && snap_sealed_meta(sealed)->form == SNAP_FORM_MAPPED
		       ? hide_capability(sealed, room, size, offset)
		       : r;
}

const SnapView snap_view_devstate = {
	.name = "devstate",
	.number = 3,
	.split = true,
	.present = devstate_present,
	.size = devstate_size,
	.give = devstate_give,
};
