/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The input of a save that is copied in: `ram`, `devstate` and `preamble`
 * instead of a stream. Inside fs/save.
 */
#pragma once

#include "fs/save/ingest.h"
#include "fs/save/save.h"

typedef struct SnapParts SnapParts;

/* Takes over the descriptors. */
SnapParts *snap_parts_new(const struct snap_save_parts *parts);
void snap_parts_free(SnapParts *p);

/* Makes snap_parts_check() and snap_parts_feed() return -ECANCELED. Any thread.
 */
void snap_parts_stop(SnapParts *p);

/* Bytes of the preamble. */
uint64_t snap_parts_hole(const SnapParts *p);

/* Checks that `devstate` is a whole stream without pages and that `ram` has the
 * size that `devstate` says. SNAP_SAVE_NOTHING where a part is missing, or is
 * not whole and its writer does not wait. -EPROTO, -ECANCELED, -errno. */
int snap_parts_check(SnapParts *p, GError **error);

/* Puts the parts together as a mapped-ram stream, which goes into `in` from its
 * beginning to its end. Of the memory it holds what is no hole. -ECANCELED,
 * -errno. */
int snap_parts_feed(SnapParts *p, SnapIngest *in, GError **error);
