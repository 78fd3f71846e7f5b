/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/base/zero.h"

#include <string.h>

/* Data differ early as a rule, so the first 16 bytes are looked at one by one;
 * then the rest is compared with itself, shifted, at the speed of memcmp. */
bool snap_is_fill(const void *data, size_t size)
{
	const uint8_t *p = data;

	for (size_t i = 1; i < 16; i++)
		if (p[i] != p[0])
			return false;
	return memcmp(p, p + 16, size - 16) == 0;
}
