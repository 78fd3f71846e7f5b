/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A snapshot that is looked at in the order of its memory, for `map`. Errors
 * name its file. */
#pragma once

#include "format/image/image.h"

typedef struct SnapSide SnapSide;

/* Owns `reader` from then on; `file` is the name of its file. */
SnapSide *snap_side_new(SnapReader *reader, const char *file);
void snap_side_free(SnapSide *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapSide, snap_side_free)

SnapReader *snap_side_reader(const SnapSide *s);

/* Goes to the region of a page of the page space. *ret_leaf is valid until the
 * next call. Returns 0 or -errno. */
int snap_side_region(SnapSide *s, uint64_t page,
		     const struct snap_leaf **ret_leaf, GError **error);

/* Reads the bytes of page `page` of the region, which lies in `run`. They are
 * valid until the next call. Returns 0 or -errno. */
int snap_side_page(SnapSide *s, const struct snap_segment *run, guint page,
		   const void **ret_bytes, GError **error);
