/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Moving the pages of a region into new extents, for share.c too. */
#pragma once

#include "format/image/image.h"

/* Moves the pages of a region, also those that lie in parents, into new extents
 * of the same file. */
int snap_compact_region(SnapWriter *w, uint64_t region, SnapCodec *codec);
