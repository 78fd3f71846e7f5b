/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parser's interface, and the table of its phases. parse-config.c,
 * parse-section.c, parse-ram.c, parse-mapped.c, parse-skip.c and parse-tail.c
 * know what the items mean; parse-input.c is what they all use.
 */
#include "format/qemu/parse-internal.h"

#include <inttypes.h>
#include <string.h>

#include "format/base/error.h"

static const struct {
	int (*run)(SnapParser *p, struct snap_event *ev);
	const char *expects; /* for "the stream ends here; expected …" */
} phases[] = {
	[SNAP_AT_SKIP] = { snap_phase_skip, "the rest of a section" },
	[SNAP_AT_TAIL] = { snap_phase_tail,
			   "the end mark and the description of the devices" },
	[SNAP_AT_HEADER] = { snap_phase_header, "the magic QEVM" },
	[SNAP_AT_VERSION] = { snap_phase_version, "the stream's version" },
	[SNAP_AT_CONFIGURATION] = { snap_phase_configuration,
				    "the configuration or the first section" },
	[SNAP_AT_SUBSECTION] = { snap_phase_subsection,
				 "the rest of the configuration or the first section" },
	[SNAP_AT_PAGE_BITS] = { snap_phase_page_bits,
				"the target page's bits" },
	[SNAP_AT_CAPS] = { snap_phase_caps, "the list of capabilities" },
	[SNAP_AT_UUID] = { snap_phase_uuid, "the guest's uuid" },
	[SNAP_AT_RAM_MAPPED] = { snap_phase_ram_mapped,
				 "a RAM block's mapped-ram header" },
	[SNAP_AT_RAM_TOTAL] = { snap_phase_ram_total, "the size of RAM" },
	[SNAP_AT_RAM_BLOCK] = { snap_phase_ram_block, "a RAM block" },
	[SNAP_AT_BLOCK_EXTRA] = { snap_phase_block_extra,
				  "the rest of the list of RAM blocks" },
	[SNAP_AT_LIST_END] = { snap_phase_list_end,
			       "the end of the list of RAM blocks" },
	[SNAP_AT_LIST_KNOWN] = { snap_phase_list_known, "a section's footer" },
	[SNAP_AT_RAM_RECORD] = { snap_phase_ram_record, "a page of RAM" },
	[SNAP_AT_PAGE] = { snap_phase_page, "the bytes of a page of RAM" },
	[SNAP_AT_ELEMENT] = { snap_phase_element, "a section" },
	[SNAP_AT_SECTION_END] = { snap_phase_section_end,
				  "a section's footer" },
	[SNAP_AT_DIRTY_BITMAP] = { snap_phase_dirty_bitmap, "a dirty bitmap" },
	[SNAP_AT_HTAB] = { snap_phase_htab, "the guest's hash table" },
	[SNAP_AT_HTAB_ENTRIES] = { snap_phase_htab_entries,
				   "entries of the guest's hash table" },
	[SNAP_AT_STATTRIB] = { snap_phase_stattrib, "storage attributes" },
	[SNAP_AT_VIRTIO_MEM] = { snap_phase_virtio_mem,
				 "the early state of virtio-mem" },
};

SnapParser *snap_parser_new(void)
{
	SnapParser *p = g_new0(SnapParser, 1);

	p->phase = SNAP_AT_HEADER;
	p->hold = g_malloc(SNAP_HOLD_SIZE);
	p->block = -1;
	return p;
}

void snap_parser_free(SnapParser *p)
{
	if (!p)
		return;
	g_clear_pointer(&p->ram_names, g_hash_table_unref);
	snap_ramlist_clear(&p->info.ram);
	g_clear_error(&p->error);
	g_free(p->ram_name);
	g_free(p->why);
	g_free(p->hold);
	g_free(p);
}

void snap_parser_expect_devstate(SnapParser *p)
{
	p->devstate = true;
}

void snap_parser_begin_at(SnapParser *p, uint64_t offset)
{
	p->info.begin = offset;
	p->info.size = offset;
}

void snap_parser_feed(SnapParser *p, const void *data, size_t size)
{
	g_assert(snap_cursor_left(&p->in) == 0 || p->error);
	p->in = snap_cursor(data, size);
}

int snap_parser_step(SnapParser *p, struct snap_event *ret_event,
		     GError **error)
{
	struct snap_event ev = { 0 };
	int r = SNAP_PHASE_AGAIN;

	while (r == SNAP_PHASE_AGAIN && !p->error)
		r = phases[p->phase].run(p, &ev);
	if (p->error) {
		if (error)
			*error = g_error_copy(p->error);
		return -p->error->code;
	}
	if (r == SNAP_PHASE_EVENT)
		*ret_event = ev;
	return r;
}

bool snap_parser_complete(const SnapParser *p)
{
	return !p->error && snap_cursor_left(&p->in) == 0 && p->held == 0 &&
	       p->phase == SNAP_AT_TAIL && snap_tail_described(&p->tail);
}

int snap_parser_end(const SnapParser *p, GError **error)
{
	if (p->error) {
		if (error)
			*error = g_error_copy(p->error);
		return -p->error->code;
	}
	if (snap_parser_complete(p))
		return 0;
	if (p->phase == SNAP_AT_TAIL && p->held == 0 &&
	    (snap_tail_ended(&p->tail) || (p->only_eof && p->tail.at == 1)))
		return 0;
	return snap_fail(error, EPROTO,
			 "offset %" PRIu64
			 ": the stream ends here; expected %s",
			 p->info.size, phases[p->phase].expects);
}

const struct snap_stream_info *snap_parser_info(const SnapParser *p)
{
	return &p->info;
}
