/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Elements: headers and footers of sections, and commands.
 *
 * Nothing in the stream says whether sections have footers (with machine types
 * up to 2.3 they have none). The byte after the first section shows it: a
 * footer begins with a byte that no element begins with.
 */
#include "format/qemu/parse-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "format/qemu/wire.h"

/* The sections that this parser can read, with the only known version of
 * each. */
static const struct {
	const char *name;
	uint32_t version;
	enum snap_phase payload;
} section_known[SNAP_SECTION_KINDS] = {
	[SNAP_SECTION_RAM] = { WIRE_RAM, WIRE_RAM_VERSION, SNAP_AT_RAM_TOTAL },
	[SNAP_SECTION_DIRTY_BITMAP] = { WIRE_DIRTY, WIRE_DIRTY_VERSION,
					SNAP_AT_DIRTY_BITMAP },
	[SNAP_SECTION_HTAB] = { WIRE_HTAB, WIRE_HTAB_VERSION, SNAP_AT_HTAB },
	[SNAP_SECTION_STATTRIB] = { WIRE_STATTRIB, WIRE_STATTRIB_VERSION,
				    SNAP_AT_STATTRIB },
	[SNAP_SECTION_VIRTIO_MEM] = { WIRE_VIRTIO_MEM, WIRE_VIRTIO_MEM_VERSION,
				      SNAP_AT_VIRTIO_MEM },
};

/* The fields of the header of a START or FULL. */
struct section_header {
	uint32_t id;
	const uint8_t *name;
	size_t name_length;
	uint32_t version;
	size_t size;
};

static bool section_header(SnapParser *p, struct section_header *ret)
{
	const uint8_t *data = snap_parse_peek(p, 6);
	size_t length, size;

	if (!data)
		return false;
	length = data[5];
	size = 6 + length + 8;
	data = snap_parse_peek(p, size);
	if (!data)
		return false;
	*ret = (struct section_header){
		.id = snap_get_be32(data + 1),
		.name = data + 6,
		.name_length = length,
		.version = snap_get_be32(data + size - 4),
		.size = size,
	};
	return true;
}

/* True when the pages do not stand between the sections: they lie elsewhere in
 * a mapped-ram file, and a devstate has none. */
static bool pages_elsewhere(const SnapParser *p)
{
	return p->info.mapped || p->devstate;
}

static enum snap_section_kind section_kind(const struct section_header *h)
{
	enum snap_section_kind kind;

	for (kind = 0; kind < SNAP_SECTION_KINDS; kind++)
		if (h->version == section_known[kind].version &&
		    h->name_length == strlen(section_known[kind].name) &&
		    memcmp(h->name, section_known[kind].name, h->name_length) ==
			    0)
			break;
	return kind;
}

/* Finds the kind of the begun section with that id. */
static enum snap_section_kind section_find(const SnapParser *p, uint32_t id)
{
	enum snap_section_kind kind;

	for (kind = 0; kind < SNAP_SECTION_KINDS; kind++)
		if (p->sections[kind].begun && p->sections[kind].id == id)
			break;
	return kind;
}

/* Handles a section of unknown length before the pages. Where the pages do not
 * lie between the sections, the rest is device state. */
static int section_unknown(SnapParser *p, struct snap_event *ev,
			   const struct section_header *h)
{
	g_autofree char *name = snap_parse_printable(h->name, h->name_length);
	g_autofree char *why = g_strdup_printf(
		"section \"%s\" (version %" PRIu32 ") is of unknown length",
		name, h->version);

	if (!p->sections[SNAP_SECTION_RAM].begun || !pages_elsewhere(p))
		return snap_parse_opaque(p, ev, "%s", why);
	g_free(p->why);
	p->info.unknown = p->why = g_steal_pointer(&why);
	p->info.ram_parts = true;
	return snap_parse_devices(p);
}

static int section_start(SnapParser *p, struct snap_event *ev)
{
	struct section_header h;
	enum snap_section_kind kind;

	if (!section_header(p, &h))
		return SNAP_PHASE_MORE;
	kind = section_kind(&h);
	if (kind == SNAP_SECTION_KINDS)
		return section_unknown(p, ev, &h);
	if (p->sections[kind].begun)
		return snap_parse_fail(p, EPROTO,
				       "section \"%s\" begins a second time",
				       section_known[kind].name);
	if (section_find(p, h.id) != SNAP_SECTION_KINDS)
		return snap_parse_fail(p, EPROTO,
				       "section \"%s\" has the id of "
				       "another section, %" PRIu32,
				       section_known[kind].name, h.id);
	p->sections[kind] = (struct snap_section){ .begun = true, .id = h.id };
	if (kind == SNAP_SECTION_RAM)
		p->info.ram_section = h.id;
	p->kind = kind;
	p->type = WIRE_SECTION_START;
	return snap_parse_state(p, ev, h.size, section_known[kind].payload);
}

/* True for the early state of virtio-mem. Elsewhere than in a mapped-ram stream
 * it may not be split off: QEMU sends no record of memory that is not plugged
 * in, but the records of a snapshot are those of all pages. */
static bool is_virtio_mem(const SnapParser *p, const struct section_header *h)
{
	static const char name[] = WIRE_VIRTIO_MEM;
	size_t n = sizeof(name) - 1;

	return pages_elsewhere(p) && !p->pages_begun &&
	       h->version == WIRE_VIRTIO_MEM_VERSION && h->name_length >= n &&
	       memcmp(h->name + h->name_length - n, name, n) == 0;
}

/* Handles a device before any RAM PART or END. Either the stream has no pages,
 * or it is mapped-ram, or the device's state comes early; then the next section
 * cannot be found. */
static int section_full(SnapParser *p, struct snap_event *ev)
{
	g_autofree char *name = NULL;
	struct section_header h;

	if (!section_header(p, &h))
		return SNAP_PHASE_MORE;
	if (is_virtio_mem(p, &h)) {
		p->kind = SNAP_SECTION_VIRTIO_MEM;
		p->type = WIRE_SECTION_FULL;
		p->sections[p->kind].id = h.id;
		return snap_parse_state(p, ev, h.size, SNAP_AT_VIRTIO_MEM);
	}
	if (p->sections[SNAP_SECTION_RAM].begun &&
	    (p->pages_begun || pages_elsewhere(p) || p->info.ram.n == 0))
		return snap_parse_devices(p);
	name = snap_parse_printable(h.name, h.name_length);
	return snap_parse_opaque(p, ev,
				 "section \"%s\" is of unknown length and "
				 "precedes the guest's memory",
				 name);
}

/* Begins a RAM section. A PART is dropped as a whole, and an END loses its
 * records. Sections without records stay. */
static int section_ram(SnapParser *p, struct snap_event *ev)
{
	snap_parse_place(p);
	p->pages_begun = true;
	if (snap_parse_keeps(p)) {
		if (p->type == WIRE_SECTION_PART)
			p->info.ram_parts = true;
		return snap_parse_state(p, ev, 5, SNAP_AT_RAM_RECORD);
	}
	snap_parse_drop(p, 5);
	p->phase = SNAP_AT_RAM_RECORD;
	return SNAP_PHASE_AGAIN;
}

static int section_more(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, 5);
	enum snap_section_kind kind;
	struct snap_section *section;

	if (!data)
		return SNAP_PHASE_MORE;
	kind = section_find(p, snap_get_be32(data + 1));
	if (kind == SNAP_SECTION_KINDS)
		return snap_parse_fail(p, EPROTO,
				       "section %" PRIu32
				       " continues, but no section of "
				       "that id has begun",
				       snap_get_be32(data + 1));
	section = &p->sections[kind];
	if (section->ended)
		return snap_parse_fail(p, EPROTO,
				       "section \"%s\" continues after its end",
				       section_known[kind].name);
	p->kind = kind;
	p->type = data[0];
	section->ended = p->type == WIRE_SECTION_END;
	if (kind == SNAP_SECTION_RAM)
		return section_ram(p, ev);
	return snap_parse_state(p, ev, 5, section_known[kind].payload);
}

static int command(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, 5);
	uint16_t number, length;

	if (!data)
		return SNAP_PHASE_MORE;
	number = (uint16_t)(data[1] << 8 | data[2]);
	length = (uint16_t)(data[3] << 8 | data[4]);
	if (number == WIRE_CMD_PACKAGED)
		return snap_parse_fail(p, EPROTO,
				       "a packaged part of a postcopy "
				       "migration, which is no snapshot");
	snap_parse_skip(p, length, SNAP_AT_ELEMENT);
	return snap_parse_state(p, ev, 5, SNAP_AT_SKIP);
}

/* Handles an end mark in place of a section: there are no devices. */
static int element_eof(SnapParser *p)
{
	if (!p->sections[SNAP_SECTION_RAM].begun)
		return snap_parse_fail(p, EPROTO,
				       "the stream ends without the guest's "
				       "memory");
	p->only_eof = true;
	return snap_parse_devices(p);
}

int snap_phase_element(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, 1);

	if (!data)
		return SNAP_PHASE_MORE;
	/* A devstate has no PARTs. They could stand after the STARTs and the
	 * early state of devices, so their place is here. */
	if (p->sections[SNAP_SECTION_RAM].begun &&
	    data[0] != WIRE_SECTION_START && data[0] != WIRE_SECTION_FULL)
		snap_parse_place_seen(p);
	switch (data[0]) {
	case WIRE_EOF:
		return element_eof(p);
	case WIRE_SECTION_START:
		return section_start(p, ev);
	case WIRE_SECTION_PART:
	case WIRE_SECTION_END:
		return section_more(p, ev);
	case WIRE_SECTION_FULL:
		return section_full(p, ev);
	case WIRE_COMMAND:
		return command(p, ev);
	default:
		return snap_parse_fail(p, EPROTO,
				       "expected a section, found byte 0x%02x",
				       data[0]);
	}
}

static int footer(SnapParser *p, struct snap_event *ev)
{
	uint32_t id = p->sections[p->kind].id;
	const uint8_t *data = snap_parse_peek(p, 5);

	if (!data)
		return SNAP_PHASE_MORE;
	if (data[0] != WIRE_FOOTER || snap_get_be32(data + 1) != id)
		return snap_parse_fail(p, EPROTO,
				       "expected the footer of section %" PRIu32
				       " (\"%s\"), found 0x%02x and "
				       "0x%08" PRIx32,
				       id, section_known[p->kind].name, data[0],
				       snap_get_be32(data + 1));
	if (snap_parse_keeps(p))
		return snap_parse_state(p, ev, 5, SNAP_AT_ELEMENT);
	snap_parse_drop(p, 5);
	p->phase = SNAP_AT_ELEMENT;
	return SNAP_PHASE_AGAIN;
}

int snap_phase_section_end(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data;

	if (!p->footers_known) {
		data = snap_parse_peek(p, 1);
		if (!data)
			return SNAP_PHASE_MORE;
		p->info.footers = data[0] == WIRE_FOOTER;
		p->footers_known = true;
	}
	if (p->info.footers)
		return footer(p, ev);
	p->phase = SNAP_AT_ELEMENT;
	return SNAP_PHASE_AGAIN;
}
