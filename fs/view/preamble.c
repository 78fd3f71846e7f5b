/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `preamble`: the bytes before QEMU's stream in the file `stream`: libvirt's
 * header and XML, the zeros of `file:PATH,offset=N`, or another manager's
 * header.
 *
 * They are a block of the snapshot. A side file in the folder replaces the
 * block once the preamble was written anew, or when it was copied into the
 * folder after the snapshot.
 */
#include "fs/view/view-internal.h"

#include <string.h>

#include "format/base/error.h"

static const struct snap_block *preamble_block(const SnapSealed *s)
{
	const struct snap_meta *meta = snap_sealed_meta(s);

	return meta ? snap_meta_find(meta, SNAP_BLOCK_PREAMBLE) : NULL;
}

uint64_t snap_preamble_size(const SnapSealed *sealed)
{
	const struct snap_block *block = preamble_block(sealed);

	if (block)
		return block->length;
	return sealed->preamble ? g_bytes_get_size(sealed->preamble) : 0;
}

int snap_preamble_open(SnapSealed *sealed, int folder_fd, GError **error)
{
	const struct snap_block *block = preamble_block(sealed);
	GBytes *bytes = NULL;
	int r;

	if (!sealed->key.side_ino)
		return 0;
	r = snap_catalog_preamble_read(
		folder_fd, snap_sealed_meta(sealed)->uuid, &bytes, error);
	if (r < 0 || !bytes)
		return r;
	if (block && g_bytes_get_size(bytes) != block->length) {
		r = snap_fail(error, EBADMSG,
			      SNAP_CATALOG_PREAMBLE
			      ": it has %zu bytes, but the preamble has "
			      "%" G_GUINT64_FORMAT,
			      g_bytes_get_size(bytes), block->length);
		g_bytes_unref(bytes);
		return r;
	}
	sealed->preamble = bytes;
	return 0;
}

int snap_preamble_give(SnapSealed *sealed, SnapVec *vec, size_t size,
		       uint64_t offset, struct snap_pages_hint *hint)
{
	const uint8_t *bytes;

	if (sealed->preamble_error)
		return sealed->preamble_error;
	if (!sealed->preamble)
		return snap_pages_give(sealed->pages, vec, size,
				       preamble_block(sealed)->base + offset,
				       hint);
	bytes = g_bytes_get_data(sealed->preamble, NULL);
	return snap_vec_point(vec, bytes + offset, size);
}

int snap_preamble_seek(SnapSealed *sealed, uint64_t offset, bool hole,
		       uint64_t *ret_offset)
{
	const struct snap_block *block = preamble_block(sealed);

	if (block && !sealed->preamble && !sealed->preamble_error)
		return snap_space_seek(sealed, block->base, block->length,
				       offset, hole, ret_offset);
	*ret_offset = hole ? snap_preamble_size(sealed) : offset;
	return 0;
}

static bool preamble_present(const SnapSealed *sealed)
{
	return snap_preamble_size(sealed) > 0;
}

static int preamble_size(SnapSealed *sealed, uint64_t *ret_size)
{
	*ret_size = snap_preamble_size(sealed);
	return 0;
}

const SnapView snap_view_preamble = {
	.name = "preamble",
	.number = 4,
	.split = true,
	.present = preamble_present,
	.size = preamble_size,
	.give = snap_preamble_give,
	.seek = snap_preamble_seek,
};
