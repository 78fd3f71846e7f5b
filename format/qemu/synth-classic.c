/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The classic stream: devstate, and one RAM PART for each block at the place of
 * the pages. All bytes of a PART except its records are the same for each
 * block:
 *
 *	EOS footer PART id
 *	           └─────┘  before the first block
 *	└────────────────┘  between two blocks
 *	└────────┘          after the last block
 *
 * So the layout has these literals once.
 */
#include <inttypes.h>
#include <string.h>

#include "format/base/bytes.h"
#include "format/base/error.h"
#include "format/qemu/layout-internal.h"
#include "format/qemu/record-internal.h"
#include "format/qemu/wire.h"

/* Sizes on the wire. */
#define SYNTH_HEADER 5u /* PART, be32 id */
#define SYNTH_EOS 8u
#define SYNTH_RECORD 8u

static void synth_put_be32(GByteArray *bytes, uint8_t type, uint32_t value)
{
	be32 v = snap_to_be32(value);

	g_byte_array_append(bytes, &type, 1);
	g_byte_array_append(bytes, v.b, sizeof(v));
}

static GByteArray *synth_literals(const struct snap_stream_info *info)
{
	GByteArray *bytes = g_byte_array_new();
	be64 eos = snap_to_be64(WIRE_RAM_EOS);

	g_byte_array_append(bytes, eos.b, sizeof(eos));
	if (info->footers)
		synth_put_be32(bytes, WIRE_FOOTER, info->ram_section);
	synth_put_be32(bytes, WIRE_SECTION_PART, info->ram_section);
	return bytes;
}

struct snap_record_sizes snap_record_sizes(const struct snap_stream_info *info,
					   guint block)
{
	return (struct snap_record_sizes){
		.stored = SYNTH_RECORD + info->target_page,
		.zero = SYNTH_RECORD + 1,
		.first_extra =
			1 + (uint32_t)strlen(info->ram.blocks[block].name),
	};
}

size_t snap_record_header(const struct snap_stream_info *info, guint block,
			  uint64_t offset, bool zero,
			  uint8_t ret[SNAP_RECORD_HEADER_MAX])
{
	const char *name = info->ram.blocks[block].name;

	return snap_record_put(offset ? NULL : name, offset, zero, ret);
}

/* True for a block without records in the stream. */
static bool synth_is_left_out(const struct snap_ram_block *block)
{
	return block->ignored || block->length == 0;
}

/* The bytes of all records of a block. */
static uint64_t synth_records(const struct snap_stream_info *info, guint i)
{
	const struct snap_ram_block *block = &info->ram.blocks[i];
	struct snap_record_sizes sizes = snap_record_sizes(info, i);
	uint64_t stored = block->stored / info->target_page;
	uint64_t all = block->length / info->target_page;

	return sizes.first_extra + stored * sizes.stored +
	       (all - stored) * sizes.zero;
}

static int synth_check_block(const struct snap_ram_block *block,
			     uint32_t target_page, GError **error)
{
	size_t length = strnlen(block->name, sizeof(block->name));

	if (length == 0 || length > 255)
		return snap_fail(error, EBADMSG,
				 "a RAM block's name has %zu bytes", length);
	if (block->length % target_page || block->length > SNAP_RAM_BYTES_MAX)
		return snap_fail(error, EBADMSG,
				 "RAM block %s: length 0x%" PRIx64
				 " with a target page of %u",
				 block->name, block->length, target_page);
	if (block->stored % target_page || block->stored > block->length)
		return snap_fail(error, EBADMSG,
				 "RAM block %s: 0x%" PRIx64
				 " bytes stored of 0x%" PRIx64,
				 block->name, block->stored, block->length);
	if (block->ignored && block->stored)
		return snap_fail(
			error, EBADMSG,
			"RAM block %s: has stored bytes, but was not in "
			"the stream",
			block->name);
	return 0;
}

/* With at most 2^46 bytes of RAM and 2^62 of devstate, no sum can overflow. */
int snap_synth_check(const struct snap_stream_info *info, GError **error)
{
	uint32_t page = info->target_page;
	uint64_t ram = 0;

	if (page < 1u << WIRE_PAGE_BITS_DEFAULT ||
	    page > 1u << WIRE_PAGE_BITS_MAX || (page & (page - 1)))
		return snap_fail(error, EBADMSG, "a target page of %u bytes",
				 page);
	if (info->pages_at > info->state_size ||
	    info->state_size > (uint64_t)1 << 62)
		return snap_fail(error, EBADMSG,
				 "pages at 0x%" PRIx64
				 " of a devstate of 0x%" PRIx64 " bytes",
				 info->pages_at, info->state_size);
	if (info->ram.n > SNAP_RAM_BLOCKS_MAX)
		return snap_fail(error, EBADMSG, "%u RAM blocks", info->ram.n);
	for (guint i = 0; i < info->ram.n; i++) {
		int r = synth_check_block(&info->ram.blocks[i], page, error);

		if (r < 0)
			return r;
		ram += info->ram.blocks[i].length;
	}
	if (ram > SNAP_RAM_BYTES_MAX)
		return snap_fail(error, EBADMSG, "0x%" PRIx64 " bytes of RAM",
				 ram);
	return 0;
}

int snap_layout_classic(const struct snap_stream_info *info,
			SnapLayout **ret_layout, GError **error)
{
	g_autoptr(SnapLayout) l = NULL;
	GByteArray *literals;
	size_t size, next;
	bool begun = false;
	int r;

	r = snap_synth_check(info, error);
	if (r < 0)
		return r;
	literals = synth_literals(info);
	size = literals->len;
	next = size - SYNTH_HEADER;
	l = snap_layout_new(g_byte_array_free(literals, FALSE), size);
	snap_layout_put_state(l, 0, info->pages_at);
	for (guint i = 0; i < info->ram.n; i++) {
		if (synth_is_left_out(&info->ram.blocks[i]))
			continue;
		snap_layout_put_literal(l, begun ? 0 : next, size);
		snap_layout_put_block(l, SNAP_RUN_RECORDS, i,
				      synth_records(info, i));
		begun = true;
	}
	if (begun)
		snap_layout_put_literal(l, 0, next);
	snap_layout_put_state(l, info->pages_at,
			      info->state_size - info->pages_at);
	*ret_layout = g_steal_pointer(&l);
	return 0;
}
