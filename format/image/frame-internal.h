/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zstd frames, inside the room. */
#pragma once

#include "format/image/image.h"

/* Returns a buffer of SNAP_DISK_EXTENT_MAX bytes for the frame that the codec's
 * thread works on; owned by the codec. */
void *snap_codec_buffer(SnapCodec *codec);

/* Examines the frame at the beginning of `size` bytes: its compressed size in
 * bytes, and its number of pages. Returns 0, or -EBADMSG where there is no
 * complete extent. */
int snap_codec_look(const void *data, size_t size, size_t *ret_size,
		    guint *ret_pages);
