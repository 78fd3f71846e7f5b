/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/qemu/record-internal.h"

#include <string.h>

#include "format/base/bytes.h"
#include "format/qemu/wire.h"

size_t snap_record_put(const char *name, uint64_t offset, bool zero,
		       uint8_t *ret)
{
	be64 word =
		snap_to_be64(offset | (zero ? WIRE_RAM_ZERO : WIRE_RAM_PAGE) |
			     (name ? 0 : WIRE_RAM_CONTINUE));
	size_t size = sizeof(word);

	memcpy(ret, word.b, sizeof(word));
	if (name) {
		size_t length = strlen(name);

		ret[size++] = (uint8_t)length;
		memcpy(ret + size, name, length);
		size += length;
	}
	if (zero)
		ret[size++] = 0;
	return size;
}
