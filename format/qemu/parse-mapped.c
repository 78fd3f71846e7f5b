/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The header that follows each entry in the list of RAM blocks of a mapped-ram
 * stream. It names the offsets of the block's bitmap and pages; the stream goes
 * on after the pages.
 *
 *	… name length | version page bitmap pages | (bitmap) (pages) name …
 *	                       the header           jumped over
 *
 * Every offset must lie after the end of the part before it, so parts never
 * overlap.
 */
#include "format/qemu/parse-internal.h"

#include <errno.h>
#include <inttypes.h>

#include "format/base/units.h"

/* The fields of the header: offsets in the file. */
struct mapped_header {
	uint64_t bitmap;
	uint64_t pages;
	uint64_t end; /* where the pages end */
};

/* Checks the offsets against each other and against the end of the header. */
static int mapped_check(SnapParser *p, const struct snap_ram_block *block,
			struct mapped_header *h)
{
	uint64_t bitmap = snap_ram_bitmap(block, p->info.target_page);
	uint64_t behind = snap_parse_at(p) + WIRE_MAPPED_HEADER;
	uint64_t end;

	if (h->bitmap < behind)
		return snap_parse_fail(
			p, EPROTO,
			"RAM block %s: its bitmap at 0x%" PRIx64
			" begins before its header ends (0x%" PRIx64 ")",
			block->name, h->bitmap, behind);
	if (!snap_add(h->bitmap, bitmap, &end) || h->pages < end)
		return snap_parse_fail(
			p, EPROTO,
			"RAM block %s: its pages at 0x%" PRIx64
			" begin before its bitmap ends (0x%" PRIx64
			" and 0x%" PRIx64 " bytes)",
			block->name, h->pages, h->bitmap, bitmap);
	if (h->pages % p->info.target_page)
		return snap_parse_fail(p, EPROTO,
				       "RAM block %s: its pages at 0x%" PRIx64
				       " begin within a target page (%u)",
				       block->name, h->pages,
				       p->info.target_page);
	if (!snap_add(h->pages, block->length, &h->end) || h->end > INT64_MAX)
		return snap_parse_fail(p, EPROTO,
				       "RAM block %s: its pages at 0x%" PRIx64
				       " end past the largest file offset",
				       block->name, h->pages);
	return 0;
}

static int mapped_read(SnapParser *p, const uint8_t *data,
		       const struct snap_ram_block *block,
		       struct mapped_header *ret)
{
	uint64_t page = snap_get_be64(data + 4);

	if (page != p->info.target_page)
		return snap_parse_fail(p, EPROTO,
				       "RAM block %s: mapped pages of %" PRIu64
				       " bytes, but the target page has %u",
				       block->name, page, p->info.target_page);
	*ret = (struct mapped_header){
		.bitmap = snap_get_be64(data + 12),
		.pages = snap_get_be64(data + 20),
	};
	/* A block whose memory QEMU does not send. */
	if (!ret->bitmap && !ret->pages)
		return 0;
	return mapped_check(p, block, ret);
}

int snap_phase_ram_mapped(SnapParser *p, struct snap_event *ev)
{
	guint index = p->info.ram.n - 1;
	struct snap_ram_block *block = &p->info.ram.blocks[index];
	const uint8_t *data = snap_parse_peek(p, 4);
	struct mapped_header h = { 0 };
	int r;

	if (!data)
		return SNAP_PHASE_MORE;
	if (snap_get_be32(data) != WIRE_MAPPED_VERSION)
		return snap_parse_fail(p, EOPNOTSUPP,
				       "RAM block %s: a mapped-ram header of "
				       "version %" PRIu32 ", only %u is known",
				       block->name, snap_get_be32(data),
				       WIRE_MAPPED_VERSION);
	data = snap_parse_peek(p, WIRE_MAPPED_HEADER);
	if (!data)
		return SNAP_PHASE_MORE;
	r = mapped_read(p, data, block, &h);
	if (r < 0)
		return r;
	snap_parse_drop(p, WIRE_MAPPED_HEADER);
	block->behind = snap_parse_at(p);
	p->phase = SNAP_AT_RAM_BLOCK;
	block->ignored = h.end == 0;
	if (block->ignored)
		return SNAP_PHASE_AGAIN;
	block->bitmap = h.bitmap;
	block->pages = h.pages;
	p->in = snap_cursor(NULL, 0);
	p->info.size = h.end;
	ev->kind = SNAP_EVENT_JUMP;
	ev->block = index;
	ev->offset = h.end;
	return SNAP_PHASE_EVENT;
}
