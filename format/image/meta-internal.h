/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The properties of a snapshot, inside the room. */
#pragma once

#include "format/image/image.h"

/* Checks the rules that writer and reader share: which blocks exist, where they
 * are, what describes a stream. Returns 0, or -EBADMSG with a sentence. */
int snap_meta_check(const struct snap_meta *meta, GError **error);

/* Writes the properties frame of `meta`. The caller frees it with g_free(). */
void *snap_properties_put(const struct snap_meta *meta, size_t *ret_size);

/* Reads a properties frame of `size` bytes; it does not hold the uuid. Returns
 * 0, or -EBADMSG or -EOPNOTSUPP with a sentence. */
int snap_properties_get(const void *frame, size_t size,
			struct snap_meta *ret_meta, GError **error);
