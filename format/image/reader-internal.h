/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The fields of a reader, for verify.c too. */
#pragma once

#include "format/image/disk-internal.h"
#include "format/image/image.h"

struct SnapReader {
	/* the snapshot's own file and those of its parents; NULL: missing */
	SnapFile *files[SNAP_LAYERS_MAX + 1];
	struct snap_trailer trailer;
	/* of the parents; of those that are there */
	struct snap_trailer parents[SNAP_LAYERS_MAX];
	struct snap_superblock superblock;
	struct snap_meta meta;
	struct snap_entry *top;
	guint n_top;
	uint64_t bytes_read; /* atomic */
};

/* The size of the file of a layer in bytes. */
static inline uint64_t snap_reader_layer_size(const SnapReader *r, guint layer)
{
	return layer ? r->meta.layers[layer - 1].size : r->trailer.file_size;
}

/* Reads exactly `size` bytes at `offset` of the file of a layer, and counts
 * them. Returns 0, -EBADMSG where the file ends earlier, -ENOLINK where it is
 * missing, or -errno. */
int snap_reader_read(SnapReader *r, guint layer, void *buf, size_t size,
		     uint64_t offset);

/* Reads and checks the trailer of the file of a layer, as
 * snap_disk_get_trailer() does. */
int snap_reader_trailer(SnapReader *r, guint layer, struct snap_trailer *ret,
			GError **error);
