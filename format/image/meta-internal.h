/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a snapshot says of itself, within the room. */
#pragma once

#include "format/image/image.h"

/* Holds `meta` to the rules that writer and reader share: which blocks there
 * are, where they lie, what a stream is. -EBADMSG with a sentence. */
int snap_meta_check(const struct snap_meta *meta, GError **error);

/* The properties frame of `meta` (g_free). */
void *snap_properties_put(const struct snap_meta *meta, size_t *ret_size);

/* Reads a properties frame; the uuid is not in it. -EBADMSG, -EOPNOTSUPP with a
 * sentence. */
int snap_properties_get(const void *frame, size_t size,
			struct snap_meta *ret_meta, GError **error);
