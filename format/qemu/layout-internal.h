/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a layout is made: runs are appended. A run of devstate that continues the
 * last run is joined with it. */
#pragma once

#include "format/qemu/synth.h"

/* Makes an empty layout that owns `literals` (`size` bytes, g_malloc). */
SnapLayout *snap_layout_new(uint8_t *literals, size_t size);

/* Appends `length` bytes of devstate from the offset `state` on. */
void snap_layout_put_state(SnapLayout *l, uint64_t state, uint64_t length);

/* Appends the literals [from, to). */
void snap_layout_put_literal(SnapLayout *l, size_t from, size_t to);

/* Appends a run of `length` bytes that belongs to a block: its records, its
 * bitmap or its pages. */
void snap_layout_put_block(SnapLayout *l, enum snap_run_kind kind, guint block,
			   uint64_t length);

/* Appends `length` zeros. */
void snap_layout_put_zero(SnapLayout *l, uint64_t length);

/* Checks the values that a layout is made of. Returns 0 or -EBADMSG. */
int snap_synth_check(const struct snap_stream_info *info, GError **error);
