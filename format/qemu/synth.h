/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The synthesizer of streams: it describes a stream and does no I/O.
 *
 * From the properties of a snapshot it makes a layout, which finds any offset
 * of the stream without reading the bytes before it. The classic stream:
 *
 *	devstate up to pages_at
 *	for each RAM block, in order, one section:
 *		section header                    literal
 *		a record for each target page     records
 *		end of records, footer            literal
 *	devstate from pages_at to its end
 *
 * (A block that QEMU left out has no section.)
 *
 * A record is a header of 8 bytes (the first one of a block also names the
 * block) and the page, or one zero byte for a zero page. So the offset of a
 * page in a run of records follows from the number of stored pages before it.
 * The caller finds it with the map; the layout only knows the sums.
 *
 * The mapped-ram stream, in its file:
 *
 *	zeros up to where the stream begins
 *	devstate, with mapped-ram in its list of capabilities, up to the end of
 *	a block's entry in the RAM list
 *	for each RAM block, in order:
 *		mapped-ram header                 literal
 *		a bit for each target page        bitmap
 *		up to the next MiB                zeros
 *		the block's memory                pages
 *		devstate up to the next block's entry
 *	devstate to its end
 *
 * (A block that QEMU left out has only a header.)
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "format/qemu/parse.h"

enum snap_run_kind {
	SNAP_RUN_STATE,	  /* bytes of devstate from `state` on */
	SNAP_RUN_LITERAL, /* bytes at `data` */
	SNAP_RUN_RECORDS, /* the page records of `block` */
	/* the bitmap of `block`: a bit per target page, set if any byte of the
	 * page is not 0; page i is bit i % 8 of byte i / 8; padded with zeros
	 * to 8 bytes */
	SNAP_RUN_BITMAP,
	SNAP_RUN_PAGES, /* the memory of `block`, as it is */
	SNAP_RUN_ZERO,	/* zeros */
};

/* A run of the stream: the bytes [offset, offset + length). */
struct snap_run {
	enum snap_run_kind kind;
	uint64_t offset;
	uint64_t length;
	uint64_t state;
	const uint8_t *data;
	guint block;
};

/* The most device state before the pages that callers keep in memory. */
#define SNAP_LAYOUT_HEAD_MAX (64 * SNAP_MIB)

typedef struct SnapLayout SnapLayout;

/* Makes the layout of the classic stream that `info` describes. It uses the RAM
 * list with `stored` filled in (a target page is stored if any byte of it is
 * not 0), pages_at, state_size, ram_section, target_page and footers. Returns
 * 0, or -EBADMSG where they contradict each other. */
int snap_layout_classic(const struct snap_stream_info *info,
			SnapLayout **ret_layout, GError **error);

/* Makes the layout of the same guest as a mapped-ram stream that begins at
 * `begin` of its file. `head` is devstate up to pages_at, `head_size` bytes,
 * which are parsed here; `info` is used as in snap_layout_classic(). Offsets in
 * the layout count from the beginning of the file; up to `begin` there is a
 * SNAP_RUN_ZERO. The bytes are those that QEMU 9.0 and later write: each bitmap
 * right after the header of its block, the pages at the next multiple of 1 MiB
 * (migration/ram.c: mapped_ram_setup_ramblock). `described` is
 * devstate from description_at on, up to SNAP_DESCRIPTION_HEAD bytes of text;
 * with NULL, the description stays as it is. Returns 0, -EBADMSG where `head`
 * and `info` contradict each other, or -EOPNOTSUPP without a configuration
 * (machine types up to 2.3), the only place to say that the stream is
 * mapped-ram. */
int snap_layout_mapped(const struct snap_stream_info *info, const void *head,
		       size_t head_size, const void *described,
		       size_t described_size, uint64_t begin,
		       SnapLayout **ret_layout, GError **error);

void snap_layout_free(SnapLayout *l);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapLayout, snap_layout_free)

/* The size of the whole stream in bytes. */
uint64_t snap_layout_size(const SnapLayout *l);

/* Finds the run that holds `offset`. Returns false at or past the end. */
bool snap_layout_find(const SnapLayout *l, uint64_t offset,
		      struct snap_run *ret_run);

/* The sizes in bytes of a block's records: of a stored page, of a zero page,
 * and what the block's first record has in addition. */
struct snap_record_sizes {
	uint32_t stored;
	uint32_t zero;
	uint32_t first_extra;
};
struct snap_record_sizes snap_record_sizes(const struct snap_stream_info *info,
					   guint block);

#define SNAP_RECORD_HEADER_MAX (8 + 1 + 255 + 1)

/* Writes the header of the record of the page at `offset` in `block` to `ret`;
 * for a zero page, the whole record. Returns its size in bytes. */
size_t snap_record_header(const struct snap_stream_info *info, guint block,
			  uint64_t offset, bool zero,
			  uint8_t ret[SNAP_RECORD_HEADER_MAX]);
