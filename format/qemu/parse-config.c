/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The beginning of a stream: magic, version, and the configuration section
 * with its subsections. Machine types up to 2.3 send no configuration.
 */
#include "format/qemu/parse-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "format/qemu/wire.h"

int snap_phase_header(SnapParser *p, struct snap_event *ev)
{
	be32 magic = snap_to_be32(WIRE_MAGIC);
	const uint8_t *data = snap_parse_peek(p, sizeof(magic));
	const uint8_t *have = data ? data : p->hold;

	/* Compares byte by byte, to refuse a wrong file at its first byte. */
	for (size_t i = 0; i < (data ? sizeof(magic) : p->held); i++)
		if (have[i] != magic.b[i])
			return snap_parse_fail(p, EPROTO,
					       "expected the magic QEVM, but "
					       "byte %zu is 0x%02x",
					       i, have[i]);
	if (!data)
		return SNAP_PHASE_MORE;
	p->info.target_page = 1u << WIRE_PAGE_BITS_DEFAULT;
	return snap_parse_state(p, ev, sizeof(magic), SNAP_AT_VERSION);
}

int snap_phase_version(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, 4);

	if (!data)
		return SNAP_PHASE_MORE;
	if (snap_get_be32(data) != WIRE_VERSION)
		return snap_parse_fail(p, EPROTO,
				       "expected version %u of the stream, "
				       "found %" PRIu32 "%s",
				       WIRE_VERSION, snap_get_be32(data),
				       snap_get_be32(data) ==
						       WIRE_VERSION_OBSOLETE
					       ? " (obsolete)"
					       : "");
	return snap_parse_state(p, ev, 4, SNAP_AT_CONFIGURATION);
}

/* The bits of a target page, if no subsection gives them. */
static uint32_t machine_page_bits(const char *machine)
{
	static const char *const other[] = WIRE_PAGE_BITS_MACHINES;

	for (size_t i = 0; i < G_N_ELEMENTS(other); i++)
		if (strcmp(machine, other[i]) == 0)
			return WIRE_PAGE_BITS_OTHER;
	return WIRE_PAGE_BITS_DEFAULT;
}

int snap_phase_configuration(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, 1);
	uint32_t length;

	if (!data)
		return SNAP_PHASE_MORE;
	if (data[0] != WIRE_CONFIGURATION) {
		p->phase = SNAP_AT_ELEMENT;
		return SNAP_PHASE_AGAIN;
	}
	data = snap_parse_peek(p, 5);
	if (!data)
		return SNAP_PHASE_MORE;
	length = snap_get_be32(data + 1);
	if (length >= sizeof(p->info.machine))
		return snap_parse_fail(p, EPROTO,
				       "the machine type's name has %" PRIu32
				       " bytes, at most 255 are possible",
				       length);
	data = snap_parse_peek(p, 5 + length);
	if (!data)
		return SNAP_PHASE_MORE;
	if (memchr(data + 5, '\0', length))
		return snap_parse_fail(p, EPROTO,
				       "the machine type's name holds a NUL");
	memcpy(p->info.machine, data + 5, length);
	p->info.machine[length] = '\0';
	p->info.target_page = 1u << machine_page_bits(p->info.machine);
	p->info.caps_at = p->info.state_size + 5 + length;
	return snap_parse_state(p, ev, 5 + length, SNAP_AT_SUBSECTION);
}

/* Finds the phase that reads the fields of a subsection, or SNAP_AT_NONE. */
static enum snap_phase subsection_find(const uint8_t *name, size_t length,
				       uint32_t version)
{
	static const struct {
		const char *name;
		enum snap_phase phase;
	} known[] = {
		{ WIRE_CONFIG_PAGE_BITS, SNAP_AT_PAGE_BITS },
		{ WIRE_CONFIG_CAPS, SNAP_AT_CAPS },
		{ WIRE_CONFIG_UUID, SNAP_AT_UUID },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
		if (version == WIRE_CONFIG_VERSION &&
		    strlen(known[i].name) == length &&
		    memcmp(known[i].name, name, length) == 0)
			return known[i].phase;
	return SNAP_AT_NONE;
}

/* Passes a subsection on up to its fields. The list of capabilities is held
 * until it is known whether it stays. */
int snap_phase_subsection(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, 1);
	enum snap_phase phase;
	uint32_t version;
	size_t length;

	if (!data)
		return SNAP_PHASE_MORE;
	if (data[0] != WIRE_SUBSECTION) {
		p->phase = SNAP_AT_ELEMENT;
		return SNAP_PHASE_AGAIN;
	}
	data = snap_parse_peek(p, 2);
	if (!data)
		return SNAP_PHASE_MORE;
	length = data[1];
	data = snap_parse_peek(p, 2 + length + 4);
	if (!data)
		return SNAP_PHASE_MORE;
	version = snap_get_be32(data + 2 + length);
	phase = subsection_find(data + 2, length, version);
	if (phase == SNAP_AT_NONE) {
		g_autofree char *name = snap_parse_printable(data + 2, length);

		return snap_parse_opaque(p, ev,
					 "\"%s\" (version %" PRIu32
					 ") of the configuration is of "
					 "unknown length",
					 name, version);
	}
	if (phase == SNAP_AT_CAPS) {
		p->phase = phase;
		return SNAP_PHASE_AGAIN;
	}
	return snap_parse_state(p, ev, 2 + length + 4, phase);
}

int snap_phase_page_bits(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, 4);
	uint32_t bits;

	if (!data)
		return SNAP_PHASE_MORE;
	bits = snap_get_be32(data);
	if (bits < WIRE_PAGE_BITS_DEFAULT || bits > WIRE_PAGE_BITS_MAX)
		return snap_parse_fail(
			p, EOPNOTSUPP,
			"target pages of %" PRIu32 " bits; %u to %u are known",
			bits, WIRE_PAGE_BITS_DEFAULT, WIRE_PAGE_BITS_MAX);
	p->info.target_page = 1u << bits;
	if (!p->caps_seen)
		p->info.caps_at = p->info.state_size + 4;
	return snap_parse_state(p, ev, 4, SNAP_AT_SUBSECTION);
}

/* The size of the subsection of capabilities up to their number, and up to the
 * names. */
#define CAPS_COUNT (2 + sizeof(WIRE_CONFIG_CAPS) - 1 + 4)
#define CAPS_NAMES (CAPS_COUNT + 4)

/* More capabilities than QEMU has. */
#define CAPS_MAX 64u

struct caps {
	uint32_t shared; /* how often x-ignore-shared is listed */
	uint32_t mapped; /* how often mapped-ram is listed */
	char *unknown;	 /* the first other capability, or NULL; g_free */
	size_t size;	 /* bytes of the subsection */
};

static bool cap_is(const uint8_t *data, const char *name)
{
	return data[0] == strlen(name) && memcmp(data + 1, name, data[0]) == 0;
}

/* Reads the `n` names. Returns false until they are there. */
static bool caps_read(SnapParser *p, uint32_t n, struct caps *ret)
{
	struct caps caps = { .size = CAPS_NAMES };

	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *data = snap_parse_peek(p, caps.size + 1);

		if (data)
			data = snap_parse_peek(
				p, caps.size + 1 + (size_t)data[caps.size]);
		if (!data) {
			g_free(caps.unknown);
			return false;
		}
		data += caps.size;
		if (cap_is(data, WIRE_CAP_IGNORE_SHARED))
			caps.shared++;
		else if (cap_is(data, WIRE_CAP_MAPPED_RAM))
			caps.mapped++;
		else if (!caps.unknown)
			caps.unknown = snap_parse_printable(data + 1, data[0]);
		caps.size += 1 + (size_t)data[0];
	}
	*ret = caps;
	return true;
}

/* Applies the list to the parser. */
static int caps_apply(SnapParser *p, const struct caps *caps)
{
	if (p->caps_seen || caps->shared > 1 || caps->mapped > 1)
		return snap_parse_fail(p, EPROTO,
				       "capabilities are listed twice");
	if (caps->mapped && p->devstate)
		return snap_parse_fail(p, EPROTO,
				       "the capability mapped-ram in a stream "
				       "without pages");
	p->caps_seen = true;
	p->info.ignore_shared = caps->shared;
	p->info.mapped = caps->mapped;
	p->info.caps_at = p->info.state_size;
	return 0;
}

/* Passes the list on without mapped-ram, which means nothing in a stream
 * without pages. So devstate does not depend on how the stream was saved. */
static int caps_give(SnapParser *p, struct snap_event *ev,
		     const struct caps *caps)
{
	be32 one = snap_to_be32(1);
	size_t name = strlen(WIRE_CAP_IGNORE_SHARED);
	const uint8_t *data = snap_parse_peek(p, caps->size);

	if (!caps->mapped)
		return snap_parse_state(p, ev, caps->size, SNAP_AT_SUBSECTION);
	if (!caps->shared) {
		snap_parse_drop(p, caps->size);
		p->phase = SNAP_AT_SUBSECTION;
		return SNAP_PHASE_AGAIN;
	}
	G_STATIC_ASSERT(sizeof(p->caps) >=
			CAPS_NAMES + 1 + sizeof(WIRE_CAP_IGNORE_SHARED));
	memcpy(p->caps, data, CAPS_COUNT);
	memcpy(p->caps + CAPS_COUNT, one.b, sizeof(one));
	p->caps[CAPS_NAMES] = (uint8_t)name;
	memcpy(p->caps + CAPS_NAMES + 1, WIRE_CAP_IGNORE_SHARED, name);
	return snap_parse_state_as(p, ev, caps->size, p->caps,
				   CAPS_NAMES + 1 + name, SNAP_AT_SUBSECTION);
}

int snap_phase_caps(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, CAPS_NAMES);
	g_autofree char *unknown = NULL;
	struct caps caps;
	uint32_t n;
	int r;

	if (!data)
		return SNAP_PHASE_MORE;
	n = snap_get_be32(data + CAPS_COUNT);
	if (n == 0 || n > CAPS_MAX)
		return snap_parse_fail(p, EPROTO,
				       "a list of %" PRIu32
				       " capabilities; 1 to %u are possible",
				       n, CAPS_MAX);
	if (!caps_read(p, n, &caps))
		return SNAP_PHASE_MORE;
	unknown = caps.unknown;
	r = caps_apply(p, &caps);
	if (r < 0)
		return r;
	if (unknown)
		return snap_parse_opaque(p, ev,
					 "capability \"%s\" has an unknown "
					 "effect on the stream",
					 unknown);
	return caps_give(p, ev, &caps);
}

int snap_phase_uuid(SnapParser *p, struct snap_event *ev)
{
	if (!snap_parse_peek(p, WIRE_UUID_SIZE))
		return SNAP_PHASE_MORE;
	return snap_parse_state(p, ev, WIRE_UUID_SIZE, SNAP_AT_SUBSECTION);
}
