/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finds pages of one byte, and zeros at both ends of data. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True when all `size` bytes (at least 16) are the same as the first. */
bool snap_is_fill(const void *data, size_t size);

/* True when all `size` bytes (at least 16) are zero. */
static inline bool snap_is_zero(const void *data, size_t size)
{
	return *(const uint8_t *)data == 0 && snap_is_fill(data, size);
}

/* The number of zeros at the beginning of the data, and at its end. */
size_t snap_zeros_before(const void *data, size_t size);
size_t snap_zeros_behind(const void *data, size_t size);
