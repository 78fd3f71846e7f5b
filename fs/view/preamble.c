/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands before QEMU's stream in the file `stream`: libvirt's header, or
 * the zeros of `file:PATH,offset=N`. It is a block of the snapshot; where the
 * side file has been written since, that counts in its place.
 */
#include "fs/view/view-internal.h"

#include <string.h>

#include "format/base/error.h"

static const struct snap_block *before_block(const SnapSealed *s)
{
	const struct snap_meta *meta = snap_sealed_meta(s);

	return meta ? snap_meta_find(meta, SNAP_BLOCK_PREAMBLE) : NULL;
}

uint64_t snap_preamble_size(const SnapSealed *sealed)
{
	const struct snap_block *block = before_block(sealed);

	return block ? block->length : 0;
}

int snap_preamble_open(SnapSealed *sealed, int folder_fd, GError **error)
{
	const struct snap_block *block = before_block(sealed);
	GBytes *head = NULL;
	int r;

	if (!block || !sealed->key.head_ino)
		return 0;
	r = snap_catalog_preamble_read(
		folder_fd, snap_sealed_meta(sealed)->uuid, &head, error);
	if (r < 0 || !head)
		return r;
	if (g_bytes_get_size(head) != block->length) {
		r = snap_fail(error, EBADMSG,
			      SNAP_CATALOG_PREAMBLE
			      ": it has %zu bytes, and %" G_GUINT64_FORMAT
			      " stand before the stream",
			      g_bytes_get_size(head), block->length);
		g_bytes_unref(head);
		return r;
	}
	sealed->head = head;
	return 0;
}

int snap_preamble_read(SnapSealed *sealed, void *buf, size_t size,
		       uint64_t offset)
{
	const struct snap_block *block = before_block(sealed);

	if (sealed->head_error)
		return sealed->head_error;
	if (!sealed->head)
		return snap_pages_read(sealed->pages, buf, size,
				       block->base + offset, NULL);
	memcpy(buf,
	       (const uint8_t *)g_bytes_get_data(sealed->head, NULL) + offset,
	       size);
	return 0;
}

int snap_preamble_seek(SnapSealed *sealed, uint64_t offset, bool hole,
		       uint64_t *ret_offset)
{
	const struct snap_block *block = before_block(sealed);

	if (!sealed->head && !sealed->head_error)
		return snap_space_seek(sealed, block->base, block->length,
				       offset, hole, ret_offset);
	*ret_offset = hole ? block->length : offset;
	return 0;
}
