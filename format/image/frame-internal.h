/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zstd frames, inside the room. */
#pragma once

#include "format/image/image.h"

/* Returns a buffer of SNAP_DISK_EXTENT_MAX bytes for the frame that the codec's
 * thread works on; owned by the codec. */
void *snap_codec_buffer(SnapCodec *codec);

/* The same as snap_codec_decompress() for a frame whose every byte has just
 * been compared with the checksum in the map: zstd's own, which costs a sixth
 * of the time, is left to verify.c. */
int snap_codec_decompress_trusted(SnapCodec *codec, const void *frame,
				  size_t size, void *ret, guint pages);

/* Examines the frame at the beginning of `size` bytes: its compressed size in
 * bytes, and its number of pages. Returns 0, or -EBADMSG where there is no
 * complete extent. */
int snap_codec_look(const void *data, size_t size, size_t *ret_size,
		    guint *ret_pages);
