/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first bytes of a stream. Zeros at its beginning are a hole, and begin
 * nothing; what comes behind them begins the save.
 */
#include "fs/view/writing-internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/zero.h"

/* More zeros than that are not written before a stream. */
#define ZEROS_MAX (64 * SNAP_MIB)

/* The number of the mount that something lies on; 0 when it is not known. */
static uint64_t mount_number(int fd, const char *name)
{
	struct statx stx;

	if (statx(fd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_MNT_ID,
		  &stx) < 0 ||
	    !(stx.stx_mask & STATX_MNT_ID))
		return 0;
	return stx.stx_mnt_id;
}

/* Checks that what is saved can be moved into the folder at the end. */
static int check_mount(SnapIncoming *in, int folder_fd)
{
	int store_fd = snap_catalog_fd(in->node.tree->opts.catalog);
	uint64_t here = mount_number(folder_fd, "");
	uint64_t there = mount_number(store_fd, SNAP_CATALOG_TMP);

	if (!here || !there || here == there)
		return 0;
	return snap_incoming_refuse(
		in, EXDEV,
		"the folder is on another file system than the store's " SNAP_CATALOG_TMP
		", from where a snapshot is moved into "
		"it");
}

/* Begins the save. */
static int begin_locked(SnapIncoming *in)
{
	SnapTree *tree = in->node.tree;
	g_autofree char *path = snap_folder_path(in->folder, NULL);
	snap_autofd int fd = openat(snap_store_node(in->folder)->fd, ".",
				    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct snap_save_opts opts = { .folder_fd = fd,
				       .path = path,
				       .name = in->view->name,
				       .owner = in->owner,
				       .hole = in->hole,
				       .classic =
					       in->view != &snap_view_stream };
	g_autoptr(GError) error = NULL;
	int r;

	if (fd < 0)
		return -errno;
	r = check_mount(in, fd);
	if (r < 0)
		return r;
	r = snap_save_new(tree->opts.saver, &opts, &in->save, &error);
	if (r < 0)
		return snap_incoming_refuse_once(in, -r, error->message);
	snap_writers_watch(tree, in->save);
	snap_writers_put(in);
	return 0;
}

/* A write where the stream does not stand. */
static int refuse_place(SnapIncoming *in, uint64_t offset, uint64_t stands)
{
	g_autofree char *why = g_strdup_printf(
		"a write at offset %" G_GUINT64_FORMAT
		" where the stream stands at %" G_GUINT64_FORMAT
		"; a stream that is not mapped-ram is written from its "
		"beginning to its end",
		offset, stands);

	return snap_incoming_refuse_once(in, EINVAL, why);
}

/* More of the hole was written, up to `end`. */
static int extend_hole_locked(SnapIncoming *in, uint64_t end)
{
	if (end > ZEROS_MAX)
		return snap_incoming_refuse(
			in, EPROTO,
			"begins with more zeros than any stream does");
	in->hole = end;
	in->zeros = true;
	return 0;
}

ssize_t snap_incoming_first_locked(SnapIncoming *in, SnapHandle *handle,
				   const uint8_t *buf, size_t size,
				   uint64_t offset, size_t *ret_skip)
{
	size_t zeros = snap_zeros_before(buf, size);
	int r;

	/* Who copies a file leaves its holes out, also the first. */
	if (offset && offset != in->hole &&
	    (size - zeros < 4 ||
	     !snap_stream_begins(buf + zeros, size - zeros)))
		return refuse_place(in, offset, in->hole);
	if (zeros == size) {
		r = extend_hole_locked(in, offset + size);
		return r < 0 ? r : (ssize_t)size;
	}
	in->hole = offset + zeros;
	r = begin_locked(in);
	if (r == 0)
		in->writer = handle;
	*ret_skip = zeros;
	return r;
}
