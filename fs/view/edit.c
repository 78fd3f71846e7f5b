/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands before QEMU's stream, written again once that is sealed: libvirt
 * marks its save image complete when all else is done, and edits the XML in it.
 * The snapshot does not change; the bytes lie beside it, in its side file.
 *
 * So a write to a stream that nobody has cut is no save when it lies in what is
 * before.
 */
#include "fs/view/writing-internal.h"

#include <string.h>

#include "format/base/error.h"
#include "format/base/log.h"

/* Writes the side file with these bytes in it. */
static int write_head(SnapIncoming *in, SnapSealed *sealed, const void *buf,
		      size_t size, uint64_t offset)
{
	uint64_t before = snap_preamble_size(sealed);
	g_autofree uint8_t *head = NULL;
	g_autofree char *path = snap_folder_path(in->folder, in->view->name);
	g_autoptr(GError) error = NULL;
	int r;

	if (before > SNAP_CATALOG_PREAMBLE_MAX)
		return snap_incoming_refuse(
			in, EINVAL,
			"has more before its stream than can be changed");
	head = g_malloc(before);
	r = snap_preamble_read(sealed, head, before, 0);
	if (r < 0)
		return snap_told(r);
	memcpy(head + offset, buf, size);
	r = snap_catalog_preamble_write(
		in->node.tree->opts.catalog, snap_store_node(in->folder)->fd,
		snap_sealed_meta(sealed)->uuid, head, before, &error);
	if (r < 0)
		snap_log(SNAP_LOG_ERROR,
			 "%s: what stands before the stream cannot be "
			 "written: %s",
			 path, error->message);
	else
		snap_writers_tell(in->folder);
	return r;
}

/* The snapshot whose header may be meant, or NULL. */
static SnapSealed *sealed_locked(SnapIncoming *in)
{
	SnapSealed *sealed;

	if (in->view != &snap_view_stream)
		return NULL;
	if (!in->save)
		return snap_incoming_base_locked(in);
	if (snap_save_state(in->save, NULL) != SNAP_SAVE_DONE ||
	    snap_sealed_get(in->folder, &sealed) < 0)
		return NULL;
	if (!sealed->error)
		return sealed;
	snap_sealed_unref(sealed);
	return NULL;
}

ssize_t snap_incoming_edit_locked(SnapIncoming *in, const void *buf,
				  size_t size, uint64_t offset)
{
	g_autoptr(SnapSealed) sealed = sealed_locked(in);
	uint64_t before = sealed ? snap_preamble_size(sealed) : 0;
	int r;

	if (offset < before && size <= before - offset) {
		r = write_head(in, sealed, buf, size, offset);
		return r < 0 ? r : (ssize_t)size;
	}
	if (!before || !offset || in->save)
		return 0;
	return snap_incoming_refuse(in, EINVAL,
				    "can be changed before its stream only, or "
				    "written anew from its beginning");
}
