/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The synthesizer of streams: it describes, it does not read.
 *
 * From what a snapshot says of itself it makes a layout, in which any offset of
 * the stream is found without what lies before it. Of the classic stream:
 *
 *	devstate up to pages_at
 *	for each RAM block, in order, one section:
 *		section header                    literal
 *		a record for each target page     records
 *		end of records, footer            literal
 *	devstate from pages_at to its end
 *
 * (A block that x-ignore-shared left out has no section.)
 *
 * A record is a header of 8 bytes (the block's first names the block too) and
 * the page, or a zero byte in its place. So in a run of records the position of
 * a page follows from the number of stored pages before it, and whoever holds
 * the map can find it; the layout knows only their sums.
 *
 * Of the mapped-ram stream, in its file:
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
 * (A block that x-ignore-shared left out has a header alone.)
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "format/qemu/parse.h"

enum snap_run_kind {
	SNAP_RUN_STATE,	  /* bytes of devstate, from `state` on */
	SNAP_RUN_LITERAL, /* bytes at `data` */
	SNAP_RUN_RECORDS, /* the page records of `block` */
	SNAP_RUN_BITMAP,  /* of `block`: a bit a target page, set when any byte
			   * of it is not 0; page i is bit i % 8 of byte i / 8;
			   * filled up with zeros to 8 bytes */
	SNAP_RUN_PAGES,	  /* the memory of `block`, as it is */
	SNAP_RUN_ZERO,	  /* zeros */
};

/* A piece of the stream: [offset, offset + length). */
struct snap_run {
	enum snap_run_kind kind;
	uint64_t offset;
	uint64_t length;
	uint64_t state;
	const uint8_t *data;
	guint block;
};

typedef struct SnapLayout SnapLayout;

/* The layout of the stream that `info` describes: its ram list with `stored`
 * filled in (a target page is stored when any byte of it is not 0), pages_at,
 * state_size, ram_section, target_page and footers are used. -EBADMSG where
 * they contradict each other. */
int snap_layout_classic(const struct snap_stream_info *info,
			SnapLayout **ret_layout, GError **error);

/* The layout of the same guest as a mapped-ram stream that begins at `begin` of
 * its file. `head` is devstate up to pages_at, `head_size` bytes, which are
 * parsed; of `info`, what snap_layout_classic() uses. Offsets in the layout are
 * those of the file; up to `begin` it is a SNAP_RUN_ZERO. Byte for byte what
 * QEMU 9.0 and later write: each bitmap right behind its block's header, the
 * pages at the next multiple of 1 MiB (migration/ram.c:
 * mapped_ram_setup_ramblock). -EBADMSG where head and info contradict each
 * other; -EOPNOTSUPP without a configuration (machine types up to 2.3), in
 * which the stream would say what it is. */
int snap_layout_mapped(const struct snap_stream_info *info, const void *head,
		       size_t head_size, uint64_t begin,
		       SnapLayout **ret_layout, GError **error);

void snap_layout_free(SnapLayout *l);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapLayout, snap_layout_free)

/* The size of the whole stream in bytes. */
uint64_t snap_layout_size(const SnapLayout *l);

/* The run that holds `offset`; false at or past the end. */
bool snap_layout_find(const SnapLayout *l, uint64_t offset,
		      struct snap_run *ret_run);

/* The size of a stored and of a zero page's record of a block, and by how much
 * the block's first record is longer. */
struct snap_record_sizes {
	uint32_t stored;
	uint32_t zero;
	uint32_t first_extra;
};
struct snap_record_sizes snap_record_sizes(const struct snap_stream_info *info,
					   guint block);

#define SNAP_RECORD_HEADER_MAX (8 + 1 + 255 + 1)

/* Writes the header of the record of the page at `offset` in `block` (for a
 * zero page the whole record) to `ret`; returns its size. */
size_t snap_record_header(const struct snap_stream_info *info, guint block,
			  uint64_t offset, bool zero,
			  uint8_t ret[SNAP_RECORD_HEADER_MAX]);
