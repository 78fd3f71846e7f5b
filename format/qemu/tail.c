/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the device state ends.
 *
 * The state of a device has no length, so only QEMU knows where the end mark
 * is. But this parser knows what follows the mark:
 *
 *	00  06  be32 length  { … }
 *
 * This is the description of the devices (QEMU migration/savevm.c, vmdesc). Its
 * length says where the stream ends, and its text has no byte below a space
 * except tabs and line ends. So the last such beginning in the stream is the
 * true one: another one inside the text would need a 00. It is enough to
 * remember the latest one, and to forget it when a byte is not text or when the
 * stream goes on after its end. This takes one pass and a fixed amount of
 * memory for any input.
 *
 * Without a description (machine property suppress-vmdesc) the last bytes are
 *
 *	7e  be32 id  00
 *
 * where the same id followed the 04 of a section's header.
 */
#include "format/qemu/tail-internal.h"

#include <glib.h>
#include <string.h>

#include "format/base/bytes.h"
#include "format/qemu/wire.h"

/* QEMU's JSON begins with {" since version 6.0, and with { " earlier. */
static bool tail_is_text(const struct snap_tail *t, uint8_t byte)
{
	if (t->at == t->text + 1)
		return byte == '"' || byte == ' ';
	return byte >= ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

/* True when EOF, DESCRIPTION and a length precede the '{' just seen. */
static bool tail_is_begun(const struct snap_tail *t)
{
	uint32_t length = (uint32_t)t->window;

	return (t->window >> 32 & 0xffff) ==
		       (WIRE_EOF << 8 | WIRE_DESCRIPTION) &&
	       t->at >= 6 && length >= 2;
}

static void tail_see_byte(struct snap_tail *t, uint8_t byte)
{
	if (byte == '{' && tail_is_begun(t)) {
		t->text = t->at;
		t->text_end = t->at + (uint32_t)t->window;
	} else if (t->text_end &&
		   (t->at >= t->text_end || !tail_is_text(t, byte))) {
		t->text_end = 0;
	}
	t->window = t->window << 8 | byte;
	t->at++;
}

/* QEMU counts section ids up from 0, so they are small. */
static void tail_see_id(struct snap_tail *t, uint32_t id)
{
	if (id < G_N_ELEMENTS(t->ids) * 32)
		t->ids[id / 32] |= 1u << id % 32;
}

static bool tail_knows_id(const struct snap_tail *t, uint32_t id)
{
	return id < G_N_ELEMENTS(t->ids) * 32 &&
	       (t->ids[id / 32] & 1u << id % 32);
}

/* Notes every be32 after a 04. The first ones may begin in the window. */
static void tail_see_ids(struct snap_tail *t, const uint8_t *data, size_t size)
{
	const uint8_t *end = data + size;
	uint64_t window = t->window;

	for (size_t i = 0; i < MIN(size, 4); i++) {
		window = window << 8 | data[i];
		if ((window >> 32 & 0xff) == WIRE_SECTION_FULL)
			tail_see_id(t, (uint32_t)window);
	}
	for (const uint8_t *at = data; end - at >= 5; at++) {
		if (*at != WIRE_SECTION_FULL)
			at = memchr(at, WIRE_SECTION_FULL,
				    (size_t)(end - at) - 4);
		if (!at)
			break;
		tail_see_id(t, snap_get_be32(at + 1));
	}
}

void snap_tail_see(struct snap_tail *t, const uint8_t *data, size_t size)
{
	size_t i = 0;

	tail_see_ids(t, data, size);
	while (i < size) {
		if (!t->text_end && i >= 8) {
			const uint8_t *brace = memchr(data + i, '{', size - i);
			size_t next = brace ? (size_t)(brace - data) : size;

			t->at += next - i;
			t->window = snap_get_be64(data + next - 8);
			i = next;
			if (!brace)
				break;
		}
		tail_see_byte(t, data[i++]);
	}
}

bool snap_tail_described(const struct snap_tail *t)
{
	return t->text_end && t->at == t->text_end && (t->window & 0xff) == '}';
}

bool snap_tail_ended(const struct snap_tail *t)
{
	return t->at >= 6 && (t->window & 0xff) == WIRE_EOF &&
	       (t->window >> 40 & 0xff) == WIRE_FOOTER &&
	       tail_knows_id(t, (uint32_t)(t->window >> 8));
}
