/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The payload of RAM sections: the list of blocks in START, the page records in
 * PART and END.
 *
 * A record is a be64: an offset in a block, with flags in the bits below the
 * target page. A record without CONTINUE names its block, and the block is
 * remembered from section to section. A mapped-ram stream and a devstate have
 * no records.
 */
#include "format/qemu/parse-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "format/base/units.h"
#include "format/qemu/wire.h"

/* A page size is recognized by its value among the items that may follow a
 * block: all flags are smaller. */
#define RAM_PAGE_SIZE_MIN 1024u

/* Bits that no record has with target pages of 4 KiB or more. */
#define RAM_SMALL_PAGES 0xc00u

int snap_phase_ram_total(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, 8);
	uint64_t total;

	if (!data)
		return SNAP_PHASE_MORE;
	total = snap_get_be64(data);
	if ((total & (p->info.target_page - 1)) != WIRE_RAM_MEM_SIZE)
		return snap_parse_fail(p, EPROTO,
				       "expected the size of RAM, "
				       "found 0x%016" PRIx64,
				       total);
	p->ram_left = total - WIRE_RAM_MEM_SIZE;
	return snap_parse_state(p, ev, 8, SNAP_AT_RAM_BLOCK);
}

/* Adds the block that was read to the list. `extra` bytes of its entry are
 * still to come. */
static int block_add(SnapParser *p, uint64_t page_size, uint64_t gpa,
		     size_t extra)
{
	struct snap_ramlist *ram = &p->info.ram;
	struct snap_ram_block *block;
	g_autoptr(GError) error = NULL;
	int r;

	r = snap_ramlist_add(ram, p->ram_name, p->ram_length, page_size, gpa,
			     p->info.target_page, &error);
	if (r < 0)
		return snap_parse_fail(p, -r, "%s", error->message);
	block = &ram->blocks[ram->n - 1];
	/* Until a record of it comes. QEMU sends each page of a block that it
	 * sends at all, also zero pages: all are dirty at first
	 * (migration/ram.c, ram_list_init_bitmaps). */
	block->ignored = block->length && !p->devstate && !p->info.mapped;
	block->listed = p->info.state_size + extra;
	g_clear_pointer(&p->ram_name, g_free);
	return 0;
}

int snap_phase_ram_block(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data;
	size_t length;

	if (p->ram_left == 0) {
		p->phase = SNAP_AT_LIST_END;
		return SNAP_PHASE_AGAIN;
	}
	data = snap_parse_peek(p, 1);
	if (!data)
		return SNAP_PHASE_MORE;
	length = data[0];
	data = snap_parse_peek(p, 1 + length + 8);
	if (!data)
		return SNAP_PHASE_MORE;
	if (length == 0 || memchr(data + 1, '\0', length))
		return snap_parse_fail(p, EPROTO,
				       "expected the name of a RAM block");
	p->ram_length = snap_get_be64(data + 1 + length);
	if (p->ram_length > p->ram_left)
		return snap_parse_fail(p, EPROTO,
				       "a RAM block of 0x%" PRIx64
				       " bytes, but only 0x%" PRIx64
				       " are left of the size of RAM",
				       p->ram_length, p->ram_left);
	p->ram_left -= p->ram_length;
	g_free(p->ram_name);
	p->ram_name = g_strndup((const char *)data + 1, length);
	return snap_parse_state(p, ev, 1 + length + 8, SNAP_AT_BLOCK_EXTRA);
}

/* Decides whether `value` is a page size. In a mapped-ram header the first four
 * bytes are its version, and no page has 4 GiB. */
static int block_page_size(SnapParser *p, uint64_t value, bool *ret_listed)
{
	*ret_listed = value >= RAM_PAGE_SIZE_MIN &&
		      !(p->info.mapped && value > UINT32_MAX);
	if (!*ret_listed)
		return 0;
	if (!p->info.caps_at && value >> 32 == WIRE_MAPPED_VERSION)
		return snap_parse_fail(p, EOPNOTSUPP,
				       "a mapped-ram stream without a "
				       "configuration section");
	if (value & (value - 1))
		return snap_parse_fail(p, EPROTO,
				       "a page size of 0x%" PRIx64
				       " for RAM block %s",
				       value, p->ram_name);
	return 0;
}

/* With x-ignore-shared each block has an address. Without it, a block may have
 * a page size (with postcopy-ram; QEMU refuses the two together). */
int snap_phase_block_extra(SnapParser *p, struct snap_event *ev)
{
	enum snap_phase next =
		p->info.mapped ? SNAP_AT_RAM_MAPPED : SNAP_AT_RAM_BLOCK;
	const uint8_t *data = snap_parse_peek(p, 1);
	uint64_t value = 0;
	bool listed = false;
	int r = 0;

	if (!data)
		return SNAP_PHASE_MORE;
	if (p->info.ignore_shared || p->info.mapped || data[0] == 0) {
		data = snap_parse_peek(p, 8);
		if (!data)
			return SNAP_PHASE_MORE;
		value = snap_get_be64(data);
	}
	if (!p->info.ignore_shared)
		r = block_page_size(p, value, &listed);
	if (r < 0)
		return r;
	if (!p->info.ignore_shared && !listed) {
		p->phase = next;
		r = block_add(p, 0, 0, 0);
		return r < 0 ? r : SNAP_PHASE_AGAIN;
	}
	r = block_add(p, listed ? value : 0, listed ? 0 : value, 8);
	return r < 0 ? r : snap_parse_state(p, ev, 8, next);
}

int snap_phase_list_end(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, 8);
	uint64_t value;

	if (!data)
		return SNAP_PHASE_MORE;
	value = snap_get_be64(data);
	if (value == WIRE_RAM_MULTIFD_FLUSH)
		return snap_parse_state(p, ev, 8, SNAP_AT_LIST_END);
	if (value != WIRE_RAM_EOS)
		return snap_parse_fail(p, EPROTO,
				       "expected the end of the list of RAM "
				       "blocks, found 0x%016" PRIx64,
				       value);
	return snap_parse_state(p, ev, 8, SNAP_AT_LIST_KNOWN);
}

int snap_phase_list_known(SnapParser *p, struct snap_event *ev)
{
	p->ram_names = g_hash_table_new(g_str_hash, g_str_equal);
	for (guint i = 0; i < p->info.ram.n; i++)
		g_hash_table_insert(p->ram_names, p->info.ram.blocks[i].name,
				    GUINT_TO_POINTER(i + 1));
	ev->kind = SNAP_EVENT_RAM;
	p->phase = SNAP_AT_SECTION_END;
	return SNAP_PHASE_EVENT;
}

/* Remembers the block that a record names. */
static int record_block(SnapParser *p, const uint8_t *name, size_t length)
{
	g_autofree char *text = NULL;
	char key[256];
	guint found;

	if (length == 0)
		return snap_parse_fail(p, EPROTO,
				       "a page of a RAM block without name");
	memcpy(key, name, length);
	key[length] = '\0';
	found = GPOINTER_TO_UINT(g_hash_table_lookup(p->ram_names, key));
	if (found && strlen(key) == length) {
		p->block = (int)found - 1;
		return 0;
	}
	text = snap_parse_printable(name, length);
	return snap_parse_fail(
		p, EPROTO, "a page of RAM block \"%s\", which is not listed",
		text);
}

/* Checks that the record's page lies in its block. */
static int record_page(SnapParser *p, uint64_t offset)
{
	struct snap_ram_block *block;

	if (p->block < 0)
		return snap_parse_fail(p, EPROTO,
				       "the first page names no RAM block");
	block = &p->info.ram.blocks[p->block];
	if (offset >= block->length)
		return snap_parse_fail(p, EPROTO,
				       "a page at 0x%" PRIx64
				       " of RAM block %s, which has "
				       "0x%" PRIx64 " bytes",
				       offset, block->name, block->length);
	block->ignored = false;
	p->page = offset;
	return 0;
}

/* Joins the zero records that continue the last one, as long as they are
 * complete in the input. Most of a fresh guest is zero. */
static uint64_t record_run_on(SnapParser *p, uint8_t fill)
{
	uint64_t end =
		MIN(p->info.ram.blocks[p->block].length, p->page + SNAP_GIB);
	uint64_t at = p->page + p->info.target_page;

	while (at < end && snap_cursor_left(&p->in) >= 9) {
		const uint8_t *data = p->in.at;

		if (snap_get_be64(data) !=
			    (at | WIRE_RAM_ZERO | WIRE_RAM_CONTINUE) ||
		    data[8] != fill)
			break;
		snap_parse_drop(p, 9);
		at += p->info.target_page;
	}
	return at - p->page;
}

static int record_zero(SnapParser *p, struct snap_event *ev, uint8_t fill,
		       size_t size)
{
	snap_parse_drop(p, size);
	ev->kind = SNAP_EVENT_FILL;
	ev->block = (guint)p->block;
	ev->offset = p->page;
	ev->fill = fill;
	ev->size = record_run_on(p, fill);
	return SNAP_PHASE_EVENT;
}

/* Handles a record without a page. */
static int record_other(SnapParser *p, struct snap_event *ev, uint64_t value,
			uint64_t flags)
{
	if (value == WIRE_RAM_MULTIFD_FLUSH) {
		snap_parse_drop(p, 8);
		return SNAP_PHASE_AGAIN;
	}
	if (value == WIRE_RAM_EOS && !snap_parse_keeps(p)) {
		snap_parse_drop(p, 8);
		p->phase = SNAP_AT_SECTION_END;
		return SNAP_PHASE_AGAIN;
	}
	if (value == WIRE_RAM_EOS)
		return snap_parse_state(p, ev, 8, SNAP_AT_SECTION_END);
	switch (flags) {
	case WIRE_RAM_XBZRLE:
		return snap_parse_fail(p, EOPNOTSUPP,
				       "a page encoded as a delta; turn the "
				       "capability xbzrle off");
	case WIRE_RAM_COMPRESS_PAGE:
		return snap_parse_fail(p, EOPNOTSUPP,
				       "a compressed page; turn the "
				       "capability compress off");
	case WIRE_RAM_HOOK:
		return snap_parse_fail(p, EOPNOTSUPP,
				       "a page sent by RDMA; turn the "
				       "capability rdma-pin-all off and "
				       "save to a file");
	default:
		if (value & RAM_SMALL_PAGES)
			return snap_parse_fail(p, EOPNOTSUPP,
					       "target pages of less than %u "
					       "bytes",
					       SNAP_PAGE);
		return snap_parse_fail(p, EPROTO,
				       "expected a page of RAM, "
				       "found 0x%016" PRIx64,
				       value);
	}
}

int snap_phase_ram_record(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, 8);
	uint64_t value, flags;
	size_t size = 8;
	int r = 0;

	if (!data)
		return SNAP_PHASE_MORE;
	value = snap_get_be64(data);
	if ((p->info.mapped || p->devstate) && value != WIRE_RAM_EOS)
		return snap_parse_fail(p, EPROTO,
				       "expected the end of a section of RAM "
				       "(%s), found 0x%016" PRIx64,
				       p->info.mapped
					       ? "its pages lie elsewhere"
					       : "there are no pages",
				       value);
	flags = value & (p->info.target_page - 1) &
		~(uint64_t)WIRE_RAM_CONTINUE;
	if (flags != WIRE_RAM_PAGE && flags != WIRE_RAM_ZERO)
		return record_other(p, ev, value, flags);

	if (!(value & WIRE_RAM_CONTINUE)) {
		data = snap_parse_peek(p, 9);
		if (!data)
			return SNAP_PHASE_MORE;
		size += 1 + (size_t)data[8];
	}
	if (flags == WIRE_RAM_ZERO)
		size++;
	data = snap_parse_peek(p, size);
	if (!data)
		return SNAP_PHASE_MORE;
	if (!(value & WIRE_RAM_CONTINUE))
		r = record_block(p, data + 9, data[8]);
	if (r == 0)
		r = record_page(p,
				value & ~(uint64_t)(p->info.target_page - 1));
	if (r < 0)
		return r;
	if (flags == WIRE_RAM_ZERO)
		return record_zero(p, ev, data[size - 1], size);
	snap_parse_drop(p, size);
	p->phase = SNAP_AT_PAGE;
	return SNAP_PHASE_AGAIN;
}

int snap_phase_page(SnapParser *p, struct snap_event *ev)
{
	const uint8_t *data = snap_parse_peek(p, p->info.target_page);

	if (!data)
		return SNAP_PHASE_MORE;
	ev->kind = SNAP_EVENT_PAGE;
	ev->block = (guint)p->block;
	ev->offset = p->page;
	ev->data = data;
	ev->size = p->info.target_page;
	snap_parse_drop(p, p->info.target_page);
	p->phase = SNAP_AT_RAM_RECORD;
	return SNAP_PHASE_EVENT;
}
