/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/base/zero.h"

#include <string.h>

/* Most data differ early, so the first 16 bytes are compared one by one. Then
 * memcmp compares the data with itself, shifted by 16 bytes. */
bool snap_is_fill(const void *data, size_t size)
{
	const uint8_t *p = data;

	for (size_t i = 1; i < 16; i++)
		if (p[i] != p[0])
			return false;
	return memcmp(p, p + 16, size - 16) == 0;
}

/* The bytes that are compared at once. */
#define STRIDE 4096u

size_t snap_zeros_before(const void *data, size_t size)
{
	const uint8_t *p = data;
	size_t n = 0;

	while (size - n >= STRIDE && snap_is_zero(p + n, STRIDE))
		n += STRIDE;
	while (n < size && !p[n])
		n++;
	return n;
}

size_t snap_zeros_behind(const void *data, size_t size)
{
	const uint8_t *p = data;
	size_t left = size;

	while (left >= STRIDE && snap_is_zero(p + left - STRIDE, STRIDE))
		left -= STRIDE;
	while (left && !p[left - 1])
		left--;
	return size - left;
}
