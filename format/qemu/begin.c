/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where in a file a stream begins. Any program may have written a header of its
 * own before it, so the place is recognized by what the stream begins with:
 *
 *	QEVM, version 3, 0x07, length, machine type      machine types from 2.4
 *on QEVM, version 3, 0x01, section, length, name     older ones
 *
 * The name, of a machine or a section, is printable. The four bytes QEVM alone
 * may well stand in a header.
 */
#include "format/qemu/parse.h"

#include <string.h>

#include "format/base/bytes.h"
#include "format/qemu/wire.h"

/* Magic and version. */
#define HEAD 8u

bool snap_stream_begins(const void *data, size_t size)
{
	be32 magic = snap_to_be32(WIRE_MAGIC);

	return memcmp(data, magic.b, MIN(size, sizeof(magic))) == 0;
}

static bool is_printable(const uint8_t *text, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (!g_ascii_isprint(text[i]))
			return false;
	return size > 0;
}

/* True when `data`, of `size` bytes, begins with the beginning of a stream. */
static bool is_beginning(const uint8_t *data, size_t size)
{
	uint32_t length;

	if (size < HEAD + 6 || !snap_stream_begins(data, size) ||
	    snap_get_be32(data + 4) != WIRE_VERSION)
		return false;
	data += HEAD;
	size -= HEAD;
	if (data[0] == WIRE_CONFIGURATION) {
		length = snap_get_be32(data + 1);
		return length <= UINT8_MAX && length <= size - 5 &&
		       is_printable(data + 5, length);
	}
	return data[0] == WIRE_SECTION_START && data[5] <= size - 6 &&
	       is_printable(data + 6, data[5]);
}

bool snap_stream_find(const void *data, size_t size, size_t *ret_at)
{
	const uint8_t *from = data, *p = from;

	while ((p = memmem(p, size - (size_t)(p - from), "QEVM", 4)) != NULL) {
		if (is_beginning(p, size - (size_t)(p - from))) {
			*ret_at = (size_t)(p - from);
			return true;
		}
		p++;
	}
	return false;
}
