/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `devstate`: the migration stream without its pages, which is a stream that
 * QEMU itself accepts. */
#include "fs/view/view-internal.h"

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

static int devstate_read(SnapSealed *sealed, void *buf, size_t size,
			 uint64_t offset, struct snap_pages_hint *hint)
{
	return snap_pages_read(sealed->pages, buf, size,
			       state_block(sealed)->base + offset, hint);
}

const SnapView snap_view_devstate = {
	.name = "devstate",
	.number = 3,
	.split = true,
	.present = devstate_present,
	.size = devstate_size,
	.read = devstate_read,
};
