/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The preamble of a sealed snapshot is written again: libvirt marks its save
 * image complete when all else is done, and edits the XML in it. The snapshot
 * does not change; the new preamble goes to the side file.
 */
#include "fs/view/view-internal.h"

#include <string.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/log.h"

int snap_preamble_edit(SnapSealed *sealed, SnapNode *folder, const void *buf,
		       size_t size, uint64_t offset)
{
	uint64_t length = snap_preamble_size(sealed);
	g_autofree char *path = snap_folder_path(folder, snap_view_stream.name);
	g_autofree uint8_t *bytes = NULL;
	g_autoptr(GError) error = NULL;
	snap_autofd int at = -1;
	SNAP_LOCKED(&sealed->snapshots->edits);
	int r;

	if (length > SNAP_CATALOG_PREAMBLE_MAX) {
		snap_log(SNAP_LOG_WARNING,
			 "%s: the preamble is too long to be changed", path);
		return -EINVAL;
	}
	bytes = g_try_malloc(MAX(length, 1));
	r = bytes ? (int)snap_view_read(&snap_view_preamble, sealed, bytes,
					length, 0)
		  : -ENOMEM;
	if (r < 0)
		return r;
	memcpy(bytes + offset, buf, size);
	at = snap_store_open(folder);
	if (at < 0)
		return at;
	r = snap_catalog_preamble_write(
		sealed->snapshots->opts.catalog, at, sealed->fd,
		snap_sealed_meta(sealed)->uuid, bytes, length, &error);
	if (r < 0)
		snap_log(SNAP_LOG_ERROR,
			 "%s: the preamble cannot be written: %s", path,
			 error->message);
	else
		snap_folder_changed(folder);
	return r;
}
