/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A record of a page, as all that write pages write it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes the header of the record of the page at `offset`, for a zero page the
 * whole record, to `ret` (SNAP_RECORD_HEADER_MAX bytes); returns its size.
 * `name` is the block's, or NULL where it is that of the record before. */
size_t snap_record_put(const char *name, uint64_t offset, bool zero,
		       uint8_t *ret);
