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

/* Puts what a block has in the stream, `length` bytes of a kind: its records,
 * its bitmap or its pages. */
void snap_layout_put_block(SnapLayout *l, enum snap_run_kind kind, guint block,
			   uint64_t length);

/* Puts zeros. */
void snap_layout_put_zero(SnapLayout *l, uint64_t length);

/* Checks what a layout is made of. -EBADMSG. */
int snap_synth_check(const struct snap_stream_info *info, GError **error);
