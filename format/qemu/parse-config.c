/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The beginning of a stream: magic, version, and the configuration section
 * with its subsections. Machine types up to 2.3 send no configuration.
 */
#include "format/qemu/parse-internal.h"

#include <inttypes.h>

#include "format/base/error.h"
#include "format/qemu/wire.h"

static const struct snap_phase phase_version;
static const struct snap_phase phase_configuration;
static const struct snap_phase phase_subsection;
static const struct snap_phase phase_page_bits;
static const struct snap_phase phase_caps;
static const struct snap_phase phase_cap;
static const struct snap_phase phase_uuid;

static int header_run(SnapParser *p, struct snap_event *ev)
{
	be32 magic = snap_to_be32(WIRE_MAGIC);
	const uint8_t *data = snap_parse_peek(p, sizeof(magic));
	const uint8_t *have = data ? data : p->hold;

	/* Byte by byte: what is no stream is refused at its first. */
	for (size_t i = 0; i < (data ? sizeof(magic) : p->held); i++)
		if (have[i] != magic.b[i])
			return snap_parse_fail(p, EPROTO,
					       "expected the magic QEVM, but "
					       "byte %zu is 0x%02x",
					       i, have[i]);
	if (!data)
		return SNAP_PHASE_MORE;
	p->info.target_page = 1u << WIRE_PAGE_BITS_DEFAULT;
	return snap_parse_state(p, ev, sizeof(magic), &phase_version);
}

const struct snap_phase snap_phase_header = { header_run, "the magic QEVM" };

static int version_run(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, 4);

	if (!data)
		return SNAP_PHASE_MORE;
	if (snap_parse_be32(data) != WIRE_VERSION)
		return snap_parse_fail(p, EPROTO,
				       "expected version %u of the stream, "
				       "found %" PRIu32 "%s",
				       WIRE_VERSION, snap_parse_be32(data),
				       snap_parse_be32(data) ==
						       WIRE_VERSION_OBSOLETE
					       ? " (obsolete)"
					       : "");
	return snap_parse_state(p, ev, 4, &phase_configuration);
}

static const struct snap_phase phase_version = { version_run,
						 "the stream's version" };

/* The target page's bits, if no subsection gives them. */
static uint32_t machine_page_bits(const char *machine)
{
	static const char *const other[] = WIRE_PAGE_BITS_MACHINES;

	for (size_t i = 0; i < G_N_ELEMENTS(other); i++)
		if (strcmp(machine, other[i]) == 0)
			return WIRE_PAGE_BITS_OTHER;
	return WIRE_PAGE_BITS_DEFAULT;
}

static int configuration_run(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, 1);
	uint32_t length;

	if (!data)
		return SNAP_PHASE_MORE;
	if (data[0] != WIRE_CONFIGURATION) {
		p->phase = &snap_phase_element;
		return SNAP_PHASE_AGAIN;
	}
	data = snap_parse_peek(p, 5);
	if (!data)
		return SNAP_PHASE_MORE;
	length = snap_parse_be32(data + 1);
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
	return snap_parse_state(p, ev, 5 + length, &phase_subsection);
}

static const struct snap_phase phase_configuration = {
	configuration_run, "the configuration or the first section"
};

/* The phase that reads the fields of the subsection of that name, or NULL. */
static const struct snap_phase *subsection_find(const uint8_t *name,
						size_t length, uint32_t version)
{
	static const struct {
		const char *name;
		const struct snap_phase *phase;
	} known[] = {
		{ WIRE_CONFIG_PAGE_BITS, &phase_page_bits },
		{ WIRE_CONFIG_CAPS, &phase_caps },
		{ WIRE_CONFIG_UUID, &phase_uuid },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
		if (version == WIRE_CONFIG_VERSION &&
		    strlen(known[i].name) == length &&
		    memcmp(known[i].name, name, length) == 0)
			return known[i].phase;
	return NULL;
}

static int subsection_run(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, 1);
	const struct snap_phase *phase;
	uint32_t version;
	size_t length;

	if (!data)
		return SNAP_PHASE_MORE;
	if (data[0] != WIRE_SUBSECTION) {
		p->phase = &snap_phase_element;
		return SNAP_PHASE_AGAIN;
	}
	data = snap_parse_peek(p, 2);
	if (!data)
		return SNAP_PHASE_MORE;
	length = data[1];
	data = snap_parse_peek(p, 2 + length + 4);
	if (!data)
		return SNAP_PHASE_MORE;
	version = snap_parse_be32(data + 2 + length);
	phase = subsection_find(data + 2, length, version);
	if (!phase) {
		g_autofree char *name = snap_parse_printable(data + 2, length);

		return snap_parse_opaque(p, ev,
					 "\"%s\" (version %" PRIu32
					 ") of the configuration is of "
					 "unknown length",
					 name, version);
	}
	return snap_parse_state(p, ev, 2 + length + 4, phase);
}

static const struct snap_phase phase_subsection = {
	subsection_run, "the rest of the configuration or the first section"
};

static int page_bits_run(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, 4);
	uint32_t bits;

	if (!data)
		return SNAP_PHASE_MORE;
	bits = snap_parse_be32(data);
	if (bits < WIRE_PAGE_BITS_DEFAULT || bits > WIRE_PAGE_BITS_MAX)
		return snap_parse_fail(
			p, EOPNOTSUPP,
			"target pages of %" PRIu32 " bits; %u to %u are known",
			bits, WIRE_PAGE_BITS_DEFAULT, WIRE_PAGE_BITS_MAX);
	p->info.target_page = 1u << bits;
	return snap_parse_state(p, ev, 4, &phase_subsection);
}

static const struct snap_phase phase_page_bits = { page_bits_run,
						   "the target page's bits" };

static int caps_run(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, 4);

	if (!data)
		return SNAP_PHASE_MORE;
	p->caps_left = snap_parse_be32(data);
	return snap_parse_state(p, ev, 4, &phase_cap);
}

static const struct snap_phase phase_caps = { caps_run,
					      "the number of capabilities" };

static bool cap_is(const uint8_t *data, const char *name)
{
	return data[0] == strlen(name) && memcmp(data + 1, name, data[0]) == 0;
}

static int cap_run(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data;
	size_t length;

	if (p->caps_left == 0) {
		p->phase = &phase_subsection;
		return SNAP_PHASE_AGAIN;
	}
	data = snap_parse_peek(p, 1);
	if (!data)
		return SNAP_PHASE_MORE;
	length = data[0];
	data = snap_parse_peek(p, 1 + length);
	if (!data)
		return SNAP_PHASE_MORE;
	if (cap_is(data, WIRE_CAP_MAPPED_RAM))
		return snap_parse_fail(p, EOPNOTSUPP,
				       "the stream was saved with the "
				       "capability mapped-ram; turn it off");
	if (!cap_is(data, WIRE_CAP_IGNORE_SHARED)) {
		g_autofree char *name = snap_parse_printable(data + 1, length);

		return snap_parse_opaque(p, ev,
					 "capability \"%s\" has an unknown "
					 "effect on the stream",
					 name);
	}
	p->ignore_shared = true;
	p->caps_left--;
	return snap_parse_state(p, ev, 1 + length, &phase_cap);
}

static const struct snap_phase phase_cap = { cap_run, "a capability's name" };

static int uuid_run(SnapParser *p, struct snap_event *ev)
{
	if (!snap_parse_peek(p, WIRE_UUID_SIZE))
		return SNAP_PHASE_MORE;
	return snap_parse_state(p, ev, WIRE_UUID_SIZE, &phase_subsection);
}

static const struct snap_phase phase_uuid = { uuid_run, "the guest's uuid" };
