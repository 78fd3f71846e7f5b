/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first bytes of a stream. Zeros at its beginning are a hole and begin
 * nothing. The first other byte begins the save.
 */
#include "fs/incoming/incoming-internal.h"

#include <fcntl.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "format/base/zero.h"

/* The most zeros before a stream. */
#define ZEROS_MAX (64 * SNAP_MIB)

/* The number of the mount that a file lies on; 0 where it is not known. */
static uint64_t mount_number(int fd)
{
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_MNT_ID,
		  &stx) < 0 ||
	    !(stx.stx_mask & STATX_MNT_ID))
		return 0;
	return stx.stx_mnt_id;
}

/* Checks that the snapshot can be moved into the folder at the end. */
static int check_mount(SnapIncoming *in, int folder_fd)
{
	uint64_t here = mount_number(folder_fd);
	uint64_t there =
		mount_number(snap_catalog_tmp_fd(in->table->opts.catalog));

	if (!here || !there || here == there)
		return 0;
	return snap_incoming_refuse_locked(
		in, EXDEV,
		"the folder is on another file system than the store's " SNAP_CATALOG_TMP
		", from where a snapshot is moved into it");
}

/* The save is over: the stream leaves the table, and the names in its folder
 * stand for other nodes. Runs in the save's thread, before the last write is
 * answered. */
static void on_over(void *data, SnapSave *save)
{
	SnapIncoming *in = data;
	SnapIncomingTable *table = in->table;
	bool current;

	g_mutex_lock(&in->lock);
	current = in->save == save;
	g_mutex_unlock(&in->lock);
	if (current)
		snap_incoming_drop(in);
	snap_incoming_end_save(table, save);
	snap_folder_changed(in->folder);
	if (snap_save_state(save, NULL) == SNAP_SAVE_DONE)
		snap_parts_replaced(table, in->folder, true);
	snap_node_unref(&in->node, 1);
}

/* Begins the save. */
static int begin_locked(SnapIncoming *in, const struct snap_writer *writer)
{
	SnapIncomingTable *table = in->table;
	g_autofree char *path = snap_folder_path(in->folder, NULL);
	snap_autofd int at = snap_store_open(in->folder);
	snap_autofd int fd = at < 0 ? at : snap_open_folder(at);
	struct snap_save_opts opts = { .folder_fd = fd,
				       .path = path,
				       .name = snap_incoming_name(in),
				       .owner = in->former.owner,
				       .uid = writer->uid,
				       .hole = in->hole,
				       .over = on_over,
				       .over_data = in };
	g_autoptr(GError) error = NULL;
	int r;

	if (fd < 0)
		return fd;
	r = check_mount(in, fd);
	if (r < 0)
		return r;
	snap_node_ref(&in->node);
	r = snap_save_new(table->opts.saver, &opts, &in->save, &error);
	if (r < 0) {
		snap_node_unref(&in->node, 1);
		return snap_incoming_refuse_locked(in, -r, error->message);
	}
	if (snap_incoming_begin_save(table, in->save) < 0)
		snap_save_abort(in->save,
				"the mount was ended while it was being saved");
	snap_incoming_put(in);
	in->state = SNAP_INCOMING_SAVING;
	return 0;
}

/* Refuses a write that is not where the stream goes on. */
static int refuse_place(SnapIncoming *in, uint64_t offset, uint64_t stands)
{
	g_autofree char *why = g_strdup_printf(
		"a write at offset %" G_GUINT64_FORMAT
		" was refused: the stream continues at offset %" G_GUINT64_FORMAT
		"; only mapped-ram may be written in any order",
		offset, stands);

	return snap_incoming_refuse_locked(in, EINVAL, why);
}

ssize_t snap_incoming_first_locked(SnapIncoming *in,
				   const struct snap_writer *writer,
				   const uint8_t *buf, size_t size,
				   uint64_t offset, size_t *ret_skip)
{
	size_t zeros = snap_zeros_before(buf, size);
	int r;

	/* A program that copies a file leaves out its holes, also the first. */
	if (offset && offset != in->hole &&
	    (size - zeros < 4 || !snap_save_begins(buf + zeros, size - zeros)))
		return refuse_place(in, offset, in->hole);
	if (zeros == size) {
		if (offset + size > ZEROS_MAX)
			return snap_incoming_refuse_locked(
				in, EPROTO,
				"it begins with more zeros than any stream");
		in->hole = offset + size;
		in->state = SNAP_INCOMING_ZEROS;
		return (ssize_t)size;
	}
	in->hole = offset + zeros;
	r = begin_locked(in, writer);
	if (r == 0)
		in->writer = writer;
	*ret_skip = zeros;
	return r;
}
