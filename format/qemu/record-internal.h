/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record of a page, for all that write pages. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes the header of the record of the page at `offset` to `ret`
 * (SNAP_RECORD_HEADER_MAX bytes); for a zero page, the whole record. `name` is
 * the block's name, or NULL if the block is that of the last record. Returns
 * the size in bytes. */
size_t snap_record_put(const char *name, uint64_t offset, bool zero,
		       uint8_t *ret);
