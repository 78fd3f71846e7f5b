/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A layout in the making: runs are put one behind the other, and a run that
 * merely goes on with the one before becomes part of it. */
#pragma once

#include "format/qemu/synth.h"

/* An empty layout that owns `literals` (size bytes, g_malloc'd). */
SnapLayout *snap_layout_new(uint8_t *literals, size_t size);

/* Puts `length` bytes of devstate from `state` on. */
void snap_layout_put_state(SnapLayout *l, uint64_t state, uint64_t length);

/* Puts the literals [from, to). */
void snap_layout_put_literal(SnapLayout *l, size_t from, size_t to);

/* Puts the records of a block, `length` bytes in all. */
void snap_layout_put_records(SnapLayout *l, guint block, uint64_t length);
