/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The fields of a reader, for verify.c too. */
#pragma once

#include "format/image/disk-internal.h"
#include "format/image/image.h"

struct SnapReader {
	SnapFile *file;
	struct snap_trailer trailer;
	struct snap_superblock superblock;
	struct snap_meta meta;
	struct snap_entry *top;
	guint n_top;
	uint64_t bytes_read; /* atomic */
};

/* Reads exactly `size` bytes at `offset` and counts them. Returns 0, -EBADMSG
 * where the file ends earlier, or -errno. */
int snap_reader_read(SnapReader *r, void *buf, size_t size, uint64_t offset);
