/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `ram`: guest RAM, flat: the RAM blocks one after the other, each on a 2 MiB
 * boundary. Zero pages are holes. */
#include "fs/view/view-internal.h"

static bool ram_present(const SnapSealed *sealed)
{
	const struct snap_meta *meta = snap_sealed_meta(sealed);

	if (!meta || !snap_meta_split(meta))
		return false;
	/* Memory that QEMU left out must not read as zero here. */
	for (guint i = 0; i < meta->n_blocks; i++)
		if (meta->blocks[i].ignored)
			return false;
	return true;
}

static int ram_size(SnapSealed *sealed, uint64_t *ret_size)
{
	*ret_size = snap_meta_end(snap_sealed_meta(sealed), SNAP_BLOCK_RAM);
	return 0;
}

/* The page space begins with RAM. */
static int ram_give(SnapSealed *sealed, SnapVec *vec, size_t size,
		    uint64_t offset, struct snap_pages_hint *hint)
{
	return snap_pages_give(sealed->pages, vec, size, offset, hint);
}

static int ram_seek(SnapSealed *sealed, uint64_t offset, bool hole,
		    uint64_t *ret_offset)
{
	uint64_t end = snap_meta_end(snap_sealed_meta(sealed), SNAP_BLOCK_RAM);

	return snap_space_seek(sealed, 0, end, offset, hole, ret_offset);
}

const SnapView snap_view_ram = {
	.name = "ram",
	.number = 2,
	.split = true,
	.present = ram_present,
	.size = ram_size,
	.give = ram_give,
	.seek = ram_seek,
	.learns = true,
};
