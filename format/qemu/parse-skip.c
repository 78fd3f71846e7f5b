/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sections other than RAM that may come before the end of RAM and whose size is
 * known. They are passed on in devstate, unread.
 */
#include "format/qemu/parse-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "format/base/units.h"
#include "format/qemu/wire.h"

/* The size of the flags of a dirty-bitmap chunk, from its first two bytes. */
static size_t dirty_flags_size(const uint8_t *data, size_t there)
{
	if (!(data[0] & WIRE_DIRTY_EXTRA_FLAGS))
		return 1;
	if (there < 2 || !(data[1] & WIRE_DIRTY_EXTRA_FLAGS))
		return 2;
	return 4;
}

/* Returns a chunk from its flags up to its bits, or NULL until it is
 * complete. */
static const uint8_t *dirty_chunk(SnapParser *p, uint8_t *ret_flags,
				  size_t *ret_size)
{
	const uint8_t *data = snap_parse_peek(p, 1);
	size_t size;
	uint8_t flags;

	if (!data)
		return NULL;
	size = dirty_flags_size(data, 1);
	if (!(data = snap_parse_peek(p, size)))
		return NULL;
	size = dirty_flags_size(data, size);
	if (!(data = snap_parse_peek(p, size)))
		return NULL;
	flags = data[size - 1];
	for (uint8_t name = WIRE_DIRTY_NODE_NAME;
	     name >= WIRE_DIRTY_BITMAP_NAME; name >>= 1) {
		if (!(flags & name))
			continue;
		if (!(data = snap_parse_peek(p, size + 1)))
			return NULL;
		size += 1 + (size_t)data[size];
	}
	if (flags & WIRE_DIRTY_START)
		size += 5;
	else if (!(flags & WIRE_DIRTY_COMPLETE) && (flags & WIRE_DIRTY_BITS))
		size += flags & WIRE_DIRTY_ZEROES ? 12 : 20;
	*ret_flags = flags;
	*ret_size = size;
	return snap_parse_peek(p, size);
}

int snap_phase_dirty_bitmap(SnapParser *p, struct snap_event *ev)
{
	enum snap_phase next;
	const uint8_t *data;
	uint64_t bits = 0;
	uint8_t flags;
	size_t size;

	data = dirty_chunk(p, &flags, &size);
	if (!data)
		return SNAP_PHASE_MORE;
	if (!(flags &
	      (WIRE_DIRTY_START | WIRE_DIRTY_COMPLETE | WIRE_DIRTY_ZEROES)) &&
	    (flags & WIRE_DIRTY_BITS))
		bits = snap_get_be64(data + size - 8);
	if (bits > WIRE_DIRTY_BITS_MAX)
		return snap_parse_fail(p, EPROTO,
				       "a dirty bitmap's chunk of %" PRIu64
				       " bytes, at most %u are possible",
				       bits, WIRE_DIRTY_BITS_MAX);
	next = flags & WIRE_DIRTY_EOS ? SNAP_AT_SECTION_END
				      : SNAP_AT_DIRTY_BITMAP;
	snap_parse_skip(p, bits, next);
	return snap_parse_state(p, ev, size, SNAP_AT_SKIP);
}

int snap_phase_htab(SnapParser *p, struct snap_event *ev)
{
	static const uint8_t zero[4];
	const uint8_t *data = snap_parse_peek(p, 4);

	if (!data)
		return SNAP_PHASE_MORE;
	return snap_parse_state(p, ev, 4,
				memcmp(data, zero, 4) == 0
					? SNAP_AT_HTAB_ENTRIES
					: SNAP_AT_SECTION_END);
}

int snap_phase_htab_entries(SnapParser *p, struct snap_event *ev)
{
	static const uint8_t zero[8];
	const uint8_t *data = snap_parse_peek(p, 8);
	uint64_t valid;

	if (!data)
		return SNAP_PHASE_MORE;
	if (memcmp(data, zero, 8) == 0)
		return snap_parse_state(p, ev, 8, SNAP_AT_SECTION_END);
	valid = (uint64_t)data[4] << 8 | data[5];
	snap_parse_skip(p, valid * WIRE_HTAB_ENTRY, SNAP_AT_HTAB_ENTRIES);
	return snap_parse_state(p, ev, 8, SNAP_AT_SKIP);
}

int snap_phase_virtio_mem(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, WIRE_VIRTIO_MEM_FIELDS);
	uint64_t region, block;

	if (!data)
		return SNAP_PHASE_MORE;
	region = snap_get_be64(data + 8);
	block = snap_get_be64(data + 16);
	if (!block || region % block)
		return snap_parse_fail(p, EPROTO,
				       "virtio-mem with 0x%" PRIx64
				       " bytes in blocks of 0x%" PRIx64,
				       region, block);
	snap_parse_skip(p, snap_div_up(region / block, 64) * 8,
			SNAP_AT_SECTION_END);
	return snap_parse_state(p, ev, WIRE_VIRTIO_MEM_FIELDS, SNAP_AT_SKIP);
}

int snap_phase_stattrib(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, 8);
	uint64_t value;

	if (!data)
		return SNAP_PHASE_MORE;
	value = snap_get_be64(data);
	switch (value & WIRE_STATTRIB_MASK) {
	case WIRE_STATTRIB_EOS:
		return snap_parse_state(p, ev, 8, SNAP_AT_SECTION_END);
	case WIRE_STATTRIB_DONE:
		return snap_parse_state(p, ev, 8, SNAP_AT_STATTRIB);
	case WIRE_STATTRIB_MORE:
		data = snap_parse_peek(p, 16);
		if (!data)
			return SNAP_PHASE_MORE;
		snap_parse_skip(p, snap_get_be64(data + 8), SNAP_AT_STATTRIB);
		return snap_parse_state(p, ev, 16, SNAP_AT_SKIP);
	default:
		return snap_parse_fail(p, EPROTO,
				       "expected storage attributes, "
				       "found 0x%016" PRIx64,
				       value);
	}
}
