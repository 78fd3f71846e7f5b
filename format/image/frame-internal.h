/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zstd frames, within the room. */
#pragma once

#include "format/image/image.h"

/* A buffer of SNAP_DISK_EXTENT_MAX bytes that belongs to the codec, for the
 * frame that its thread works on. */
void *snap_codec_buffer(SnapCodec *codec);

/* Looks at the frame at the beginning of `size` bytes: its size compressed, and
 * the pages in it. -EBADMSG when no whole frame of ours lies there. */
int snap_codec_look(const void *data, size_t size, size_t *ret_size,
		    guint *ret_pages);
