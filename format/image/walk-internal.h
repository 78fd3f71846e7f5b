/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Walks the frames of a snapshot file in order, for verify.c. */
#pragma once

#include "format/image/reader-internal.h"

enum snap_walk_kind {
	SNAP_WALK_SUPERBLOCK,
	SNAP_WALK_LEAF,
	SNAP_WALK_NODE,
	SNAP_WALK_TOP,
	SNAP_WALK_PROPERTIES,
	SNAP_WALK_EXTENT,
};
#define SNAP_WALK_KINDS 6

/* A frame in the file. */
struct snap_walk_frame {
	enum snap_walk_kind kind;
	uint64_t offset;
	uint32_t length;
	uint32_t crc32c; /* of an extent */
	guint pages;	 /* in an extent */
};

typedef struct SnapWalk SnapWalk;

/* Begins a walk over all bytes before the trailer of the file of a layer. */
SnapWalk *snap_walk_new(SnapReader *r, guint layer);
void snap_walk_free(SnapWalk *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapWalk, snap_walk_free)

/* Finds the next frame. An extent is decompressed, which checks zstd's own
 * checksum. Returns 1, 0 at the end, -EBADMSG with a sentence, or -errno. */
int snap_walk_next(SnapWalk *w, struct snap_walk_frame *ret_frame,
		   GError **error);

/* The CRC-32C of all bytes walked over. */
uint32_t snap_walk_crc32c(const SnapWalk *w);

/* The bytes read so far. */
uint64_t snap_walk_position(const SnapWalk *w);
