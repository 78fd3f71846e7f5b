/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The messages of a postcopy source.
 *
 * A devstate is parsed once and divided at these offsets:
 *
 *	0 ............ config_end   magic, configuration; without its subsection
 *	                            of capabilities
 *	rest_at ...... ram_at       sections that begin before RAM
 *	ram_at ....... ram_end      RAM's section with the list of blocks, which
 *	                            is written anew
 *	ram_end ...... pages_at     sections that begin after it
 *	order_at ..... order_end    the command to switch over, if QEMU gave it.
 *	                            Between the two, mapped-ram has RAM sections
 *	                            without pages, which are left out
 *	devices_at ... eof_at       the devices
 */
#include "format/qemu/postcopy.h"

#include <inttypes.h>
#include <string.h>

#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/base/units.h"
#include "format/qemu/record-internal.h"
#include "format/qemu/wire.h"

/* migration/savevm.c: the commands of enum qemu_vm_cmd that are used here. */
#define CMD_OPEN_RETURN_PATH 1u
#define CMD_PING 2u
#define CMD_POSTCOPY_ADVISE 3u
#define CMD_POSTCOPY_LISTEN 4u
#define CMD_POSTCOPY_RUN 5u
#define CMD_POSTCOPY_RAM_DISCARD 6u
#define CMD_POSTCOPY_RESUME 9u
#define CMD_RECV_BITMAP 10u

/* migration/savevm.c: MAX_VM_CMD_PACKAGED_SIZE. */
#define PACKAGE_MAX UINT32_MAX

/* Ranges in one RAM_DISCARD; the length of the message has 16 bits. */
#define DISCARD_RANGES 1024u

/* The largest page that is sent as one unit, in bytes. A larger one would block
 * the guest for too long. */
#define UNIT_MAX (32 * SNAP_MIB)

struct SnapPostcopy {
	uint8_t *state;
	size_t size;
	SnapParser *parser;
	const struct snap_stream_info *info;
	uint32_t host_page;
	uint64_t *units; /* for each block, in bytes */
	size_t config_end;
	size_t rest_at;
	size_t ram_at;
	size_t ram_end;
	size_t order_at;
	size_t order_end;
	size_t devices_at;
	size_t eof_at;
	size_t caps_at; /* the subsection of capabilities; empty if none */
	size_t caps_end;
};

static void put_u8(GByteArray *out, uint8_t n)
{
	g_byte_array_append(out, &n, 1);
}

static void put_be16(GByteArray *out, uint16_t n)
{
	be16 v = snap_to_be16(n);

	g_byte_array_append(out, v.b, sizeof(v));
}

static void put_be32(GByteArray *out, uint32_t n)
{
	be32 v = snap_to_be32(n);

	g_byte_array_append(out, v.b, sizeof(v));
}

static void put_be64(GByteArray *out, uint64_t n)
{
	be64 v = snap_to_be64(n);

	g_byte_array_append(out, v.b, sizeof(v));
}

static void put_str8(GByteArray *out, const char *text)
{
	size_t length = strlen(text);

	put_u8(out, (uint8_t)length);
	g_byte_array_append(out, (const uint8_t *)text, (guint)length);
}

static void put_state(const SnapPostcopy *p, size_t from, size_t to,
		      GByteArray *out)
{
	g_byte_array_append(out, p->state + from, (guint)(to - from));
}

static void put_command(GByteArray *out, uint16_t command, uint16_t length)
{
	put_u8(out, WIRE_COMMAND);
	put_be16(out, command);
	put_be16(out, length);
}

static void put_ping(GByteArray *out, uint32_t value)
{
	put_command(out, CMD_PING, 4);
	put_be32(out, value);
}

static void put_footer(const SnapPostcopy *p, GByteArray *out)
{
	if (!p->info->footers)
		return;
	put_u8(out, WIRE_FOOTER);
	put_be32(out, p->info->ram_section);
}

/* Appends the beginning of RAM's section, including the size of RAM. */
static void put_ram_header(const SnapPostcopy *p, GByteArray *out)
{
	const struct snap_ramlist *ram = &p->info->ram;
	uint64_t total = 0;

	for (guint i = 0; i < ram->n; i++)
		total += ram->blocks[i].length;
	put_u8(out, WIRE_SECTION_START);
	put_be32(out, p->info->ram_section);
	put_str8(out, WIRE_RAM);
	put_be32(out, 0);
	put_be32(out, WIRE_RAM_VERSION);
	put_be64(out, total | WIRE_RAM_MEM_SIZE);
}

/* Appends RAM's first section. A postcopy source lists the page size of each
 * block, except where it is the host's page or the target page, whichever is
 * larger. */
static void put_ram_start(const SnapPostcopy *p, bool postcopy, GByteArray *out)
{
	uint64_t least = MAX(p->host_page, p->info->target_page);

	put_ram_header(p, out);
	for (guint i = 0; i < p->info->ram.n; i++) {
		put_str8(out, p->info->ram.blocks[i].name);
		put_be64(out, p->info->ram.blocks[i].length);
		if (postcopy && p->units[i] != least)
			put_be64(out, p->units[i]);
	}
	put_be64(out, WIRE_RAM_EOS);
	put_footer(p, out);
}

void snap_postcopy_free(SnapPostcopy *p)
{
	if (!p)
		return;
	snap_parser_free(p->parser);
	g_free(p->units);
	g_free(p->state);
	g_free(p);
}

/* Steps over a subsection of the configuration. The parser knows it. */
static void skip_subsection(SnapPostcopy *p, struct snap_cursor *c)
{
	const uint8_t *begin = c->at;
	const uint8_t *head = snap_cursor_take(c, 2);
	const char *name = snap_cursor_take(c, head[1]);
	be32 n;

	g_assert(snap_cursor_take(c, 4));
	if (head[1] == strlen(WIRE_CONFIG_UUID) &&
	    memcmp(name, WIRE_CONFIG_UUID, head[1]) == 0) {
		g_assert(snap_cursor_take(c, WIRE_UUID_SIZE));
		return;
	}
	g_assert(snap_cursor_copy(c, &n, sizeof(n)));
	if (head[1] != strlen(WIRE_CONFIG_CAPS) ||
	    memcmp(name, WIRE_CONFIG_CAPS, head[1]) != 0)
		return;
	for (uint32_t i = 0; i < snap_be32(n); i++) {
		const uint8_t *length = snap_cursor_take(c, 1);

		g_assert(length && snap_cursor_take(c, *length));
	}
	p->caps_at = (size_t)(begin - p->state);
	p->caps_end = (size_t)(c->at - p->state);
}

/* Steps over commands. The parser has found them complete. */
static void skip_commands(struct snap_cursor *c)
{
	while (snap_cursor_left(c) && *c->at == WIRE_COMMAND) {
		const uint8_t *head = snap_cursor_take(c, 5);

		g_assert(head &&
			 snap_cursor_take(c, (size_t)(head[3] << 8 | head[4])));
	}
}

/* Finds the end of the configuration, and of the commands that follow it in a
 * save over a connection. These are replaced by this file's own. */
static void find_config(SnapPostcopy *p)
{
	struct snap_cursor c = snap_cursor(p->state, p->info->pages_at);

	g_assert(snap_cursor_take(&c, 8));
	if (snap_cursor_left(&c) && *c.at == WIRE_CONFIGURATION) {
		be32 n;

		g_assert(snap_cursor_take(&c, 1) &&
			 snap_cursor_copy(&c, &n, sizeof(n)) &&
			 snap_cursor_take(&c, snap_be32(n)));
		while (snap_cursor_left(&c) && *c.at == WIRE_SUBSECTION)
			skip_subsection(p, &c);
	}
	p->config_end = (size_t)(c.at - p->state);
	skip_commands(&c);
	p->rest_at = (size_t)(c.at - p->state);
}

/* True when the end mark is at `at`, followed by a description that ends with
 * the devstate. */
static bool is_described(const SnapPostcopy *p, size_t at)
{
	const uint8_t *d = p->state + at;
	be32 n;

	if (d[0] != WIRE_EOF || d[1] != WIRE_DESCRIPTION || d[6] != '{')
		return false;
	memcpy(&n, d + 2, sizeof(n));
	return snap_be32(n) == p->size - at - 6;
}

/* Steps over RAM's sections without pages. The parser has found them
 * complete. */
static void skip_parts(const SnapPostcopy *p, struct snap_cursor *c)
{
	uint8_t part[5];
	size_t size = snap_postcopy_part_begin(p, part);

	while (snap_cursor_left(c) >= size && !memcmp(c->at, part, size))
		g_assert(snap_cursor_take(c,
					  5 + 8 + (p->info->footers ? 5 : 0)));
}

/* Finds the devices: they begin after the command to switch over and the empty
 * end of RAM, if these are there, and end before the end mark. The description
 * after that mark has no byte 0, so the last possible beginning is the right
 * one. */
static void find_devices(SnapPostcopy *p)
{
	struct snap_cursor c = snap_cursor(p->state, p->size);
	size_t at;

	g_assert(snap_cursor_take(&c, p->info->pages_at));
	skip_parts(p, &c);
	p->order_at = (size_t)(c.at - p->state);
	skip_commands(&c);
	at = (size_t)(c.at - p->state);
	p->order_end = at;
	if (at < p->size && p->state[at] == WIRE_SECTION_END)
		at += 5 + 8 + (p->info->footers ? 5 : 0);
	p->devices_at = at;
	p->eof_at = p->size - 1;
	for (size_t i = p->size; i-- > at;) {
		if (p->size - i >= 7 && is_described(p, i)) {
			p->eof_at = i;
			break;
		}
	}
}

/* Parses the devstate. RAM's list ends where the parser gives
 * SNAP_EVENT_RAM. */
static int parse_state(SnapPostcopy *p, GError **error)
{
	struct snap_event ev;
	int r;

	snap_parser_expect_devstate(p->parser);
	snap_parser_feed(p->parser, p->state, p->size);
	while ((r = snap_parser_step(p->parser, &ev, error)) > 0) {
		if (ev.kind == SNAP_EVENT_RAM)
			p->ram_end = p->info->state_size;
		if (ev.kind == SNAP_EVENT_OPAQUE)
			return snap_fail(error, EOPNOTSUPP,
					 "it cannot be split: %s", ev.why);
	}
	if (r == 0)
		r = snap_parser_end(p->parser, error);
	return r;
}

static int find_all(SnapPostcopy *p, GError **error)
{
	g_autoptr(GByteArray) header = g_byte_array_new();
	const uint8_t *found;
	int r = parse_state(p, error);

	if (r < 0)
		return r;
	if (p->info->unknown)
		return snap_fail(error, EOPNOTSUPP, "it cannot be split: %s",
				 p->info->unknown);
	/* QEMU refuses the capability together with postcopy-ram. */
	if (p->info->ignore_shared)
		return snap_fail(error, EOPNOTSUPP,
				 "saved with x-ignore-shared, which QEMU does "
				 "not load by postcopy");
	find_config(p);
	put_ram_header(p, header);
	found = p->rest_at < p->ram_end
			? memmem(p->state + p->rest_at, p->ram_end - p->rest_at,
				 header->data, header->len)
			: NULL;
	if (!found)
		return snap_fail(error, EOPNOTSUPP,
				 "the RAM section has an unexpected form");
	p->ram_at = (size_t)(found - p->state);
	p->ram_end += p->info->footers ? 5 : 0;
	find_devices(p);
	if (p->eof_at - p->devices_at > PACKAGE_MAX - 64)
		return snap_fail(error, EOPNOTSUPP,
				 "4 GiB of device state or more");
	return 0;
}

int snap_postcopy_new(uint8_t *state, size_t size, uint32_t host_page,
		      SnapPostcopy **ret_post, GError **error)
{
	g_autoptr(SnapPostcopy) p = g_new0(SnapPostcopy, 1);
	const struct snap_ramlist *ram;
	int r;

	p->state = state;
	p->size = size;
	p->host_page = host_page;
	p->parser = snap_parser_new();
	p->info = snap_parser_info(p->parser);
	r = find_all(p, error);
	if (r < 0)
		return r;
	ram = &p->info->ram;
	p->units = g_new(uint64_t, MAX(ram->n, 1));
	for (guint i = 0; i < ram->n; i++)
		p->units[i] = MAX(host_page, p->info->target_page);
	for (guint i = 0; i < ram->n; i++) {
		if (!ram->blocks[i].page_size)
			continue;
		r = snap_postcopy_set_page_size(p, i, ram->blocks[i].page_size,
						error);
		if (r < 0)
			return r;
	}
	*ret_post = g_steal_pointer(&p);
	return 0;
}

const struct snap_stream_info *snap_postcopy_info(const SnapPostcopy *p)
{
	return p->info;
}

int snap_postcopy_set_page_size(SnapPostcopy *p, guint block,
				uint64_t page_size, GError **error)
{
	const struct snap_ram_block *b = &p->info->ram.blocks[block];

	if (page_size < p->info->target_page || page_size > UNIT_MAX ||
	    (page_size & (page_size - 1)))
		return snap_fail(error, EINVAL,
				 "RAM block %s: pages of %" PRIu64
				 " bytes cannot be sent; use an eager load",
				 b->name, page_size);
	if (b->length % page_size)
		return snap_fail(error, EINVAL,
				 "RAM block %s has 0x%" PRIx64
				 " bytes, which is no multiple of its page "
				 "size (0x%" PRIx64 ")",
				 b->name, b->length, page_size);
	p->units[block] = page_size;
	return 0;
}

uint64_t snap_postcopy_unit(const SnapPostcopy *p, guint block)
{
	return p->units[block];
}

static void put_config(const SnapPostcopy *p, GByteArray *out)
{
	put_state(p, 0, p->caps_end ? p->caps_at : p->config_end, out);
	if (p->caps_end)
		put_state(p, p->caps_end, p->config_end, out);
}

static void put_sections(const SnapPostcopy *p, bool postcopy, GByteArray *out)
{
	put_state(p, p->rest_at, p->ram_at, out);
	put_ram_start(p, postcopy, out);
	put_state(p, p->ram_end, p->info->pages_at, out);
}

void snap_postcopy_put_head(const SnapPostcopy *p, GByteArray *out)
{
	uint64_t sizes = 0;

	for (guint i = 0; i < p->info->ram.n; i++)
		sizes |= p->units[i];
	put_config(p, out);
	put_command(out, CMD_OPEN_RETURN_PATH, 0);
	put_ping(out, SNAP_POSTCOPY_PING_HEAD);
	put_command(out, CMD_POSTCOPY_ADVISE, 16);
	put_be64(out, sizes);
	put_be64(out, p->info->target_page);
	put_sections(p, true, out);
}

void snap_postcopy_put_discard(const SnapPostcopy *p, guint block,
			       const struct snap_postcopy_range *ranges,
			       size_t n, GByteArray *out)
{
	const char *name = p->info->ram.blocks[block].name;

	while (n > 0) {
		size_t now = MIN(n, DISCARD_RANGES);

		put_command(out, CMD_POSTCOPY_RAM_DISCARD,
			    (uint16_t)(3 + strlen(name) + now * 16));
		put_u8(out, 0);
		put_str8(out, name);
		put_u8(out, 0);
		for (size_t i = 0; i < now; i++) {
			put_be64(out, ranges[i].start);
			put_be64(out, ranges[i].length);
		}
		ranges += now;
		n -= now;
	}
}

void snap_postcopy_put_package(const SnapPostcopy *p, GByteArray *out)
{
	uint32_t devices = (uint32_t)(p->eof_at - p->devices_at);

	put_state(p, p->order_at, p->order_end, out);
	put_ping(out, SNAP_POSTCOPY_PING_DISCARD);
	put_command(out, WIRE_CMD_PACKAGED, 4);
	put_be32(out, 5 + devices + 9 + 5);
	put_command(out, CMD_POSTCOPY_LISTEN, 0);
	put_state(p, p->devices_at, p->eof_at, out);
	put_ping(out, SNAP_POSTCOPY_PING_RUN);
	put_command(out, CMD_POSTCOPY_RUN, 0);
}

void snap_postcopy_put_end(const SnapPostcopy *p, GByteArray *out)
{
	put_u8(out, WIRE_SECTION_END);
	put_be32(out, p->info->ram_section);
	put_be64(out, WIRE_RAM_EOS);
	put_footer(p, out);
	put_u8(out, WIRE_EOF);
}

void snap_postcopy_put_recv_bitmap(const SnapPostcopy *p, guint block,
				   GByteArray *out)
{
	const char *name = p->info->ram.blocks[block].name;

	put_command(out, CMD_RECV_BITMAP, (uint16_t)(1 + strlen(name)));
	put_str8(out, name);
}

void snap_postcopy_put_resume(const SnapPostcopy *p, GByteArray *out)
{
	put_command(out, CMD_POSTCOPY_RESUME, 0);
}

void snap_postcopy_put_plain_head(const SnapPostcopy *p, GByteArray *out)
{
	put_config(p, out);
	put_sections(p, false, out);
}

void snap_postcopy_put_plain_tail(const SnapPostcopy *p, GByteArray *out)
{
	put_state(p, p->order_at, p->size, out);
}

size_t snap_postcopy_part_begin(const SnapPostcopy *p, uint8_t *ret)
{
	be32 id = snap_to_be32(p->info->ram_section);

	ret[0] = WIRE_SECTION_PART;
	memcpy(ret + 1, id.b, sizeof(id));
	return 5;
}

size_t snap_postcopy_record(const SnapPostcopy *p, guint block, uint64_t offset,
			    bool named, bool zero, uint8_t *ret)
{
	const char *name = p->info->ram.blocks[block].name;

	return snap_record_put(named ? name : NULL, offset, zero, ret);
}

size_t snap_postcopy_part_end(const SnapPostcopy *p, uint8_t *ret)
{
	be64 eos = snap_to_be64(WIRE_RAM_EOS);
	be32 id = snap_to_be32(p->info->ram_section);

	memcpy(ret, eos.b, sizeof(eos));
	if (!p->info->footers)
		return 8;
	ret[8] = WIRE_FOOTER;
	memcpy(ret + 9, id.b, sizeof(id));
	return 13;
}
