/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Being the source of a postcopy migration: what is said to QEMU.
 *
 * There is no I/O here: messages are appended to an array of bytes, or written
 * to a place that the caller has. What QEMU answers is read by
 * postcopy-return.h. One conversation is understood by every QEMU since 6.0:
 *
 *	head        magic, configuration, OPEN_RETURN_PATH, PING, ADVISE,
 *	            and the list of RAM blocks
 *	parts       pages that are there before the guest runs, if any
 *	discards    of all that was not sent; at least one, or QEMU hangs
 *	package     LISTEN, the devices, PING, RUN
 *	parts       pages, those that QEMU asks for before all others; no page
 *	            twice, and of a huge page all target pages in order
 *	end         what was not sent until here becomes zero
 *
 * After a break, the conversation goes on without a head:
 *
 *	RECV_BITMAP for each block; QEMU says which pages it has
 *	RESUME      QEMU acknowledges, and asks again for what it waits for
 *	parts, end
 *
 * The same devstate also makes a plain stream, for a guest whose largest blocks
 * are mapped from files: plain head, parts, plain tail.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "format/qemu/parse.h"

/* The PING within the package: its PONG says that the devices are loaded and
 * that the guest runs. */
#define SNAP_POSTCOPY_PING_HEAD 1u
#define SNAP_POSTCOPY_PING_DISCARD 2u
#define SNAP_POSTCOPY_PING_RUN 3u

typedef struct SnapPostcopy SnapPostcopy;

/* Takes `state`, `size` bytes of a devstate (g_malloc'd; freed on failure,
 * too). `host_page` is the page size of QEMU's host. -EPROTO where it is no
 * devstate, -EOPNOTSUPP where it is one that cannot be sent so. */
int snap_postcopy_new(uint8_t *state, size_t size, uint32_t host_page,
		      SnapPostcopy **ret_post, GError **error);
void snap_postcopy_free(SnapPostcopy *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapPostcopy, snap_postcopy_free)

/* What the devstate says of itself. */
const struct snap_stream_info *snap_postcopy_info(const SnapPostcopy *p);

/* Says that a block lies in huge pages of `page_size` bytes at the
 * destination, which a snapshot does not know. -EINVAL where it cannot. */
int snap_postcopy_set_page_size(SnapPostcopy *p, guint block,
				uint64_t page_size, GError **error);

/* How much of a block has to be sent at one go: its page size. */
uint64_t snap_postcopy_unit(const SnapPostcopy *p, guint block);

/* All that comes before the first page. */
void snap_postcopy_put_head(const SnapPostcopy *p, GByteArray *out);

/* A piece of a block. */
struct snap_postcopy_range {
	uint64_t start;
	uint64_t length;
};

/* Says that these pieces of a block, which begin and end on a page of it, will
 * come later. */
void snap_postcopy_put_discard(const SnapPostcopy *p, guint block,
			       const struct snap_postcopy_range *ranges,
			       size_t n, GByteArray *out);

/* The devices, and the order to run. */
void snap_postcopy_put_package(const SnapPostcopy *p, GByteArray *out);

/* The end of RAM and of the conversation. */
void snap_postcopy_put_end(const SnapPostcopy *p, GByteArray *out);

/* Asks which pages of a block have arrived. */
void snap_postcopy_put_recv_bitmap(const SnapPostcopy *p, guint block,
				   GByteArray *out);

/* Says that the conversation goes on. */
void snap_postcopy_put_resume(const SnapPostcopy *p, GByteArray *out);

/* A plain stream up to its first page, and from behind its last page to its
 * end. */
void snap_postcopy_put_plain_head(const SnapPostcopy *p, GByteArray *out);
void snap_postcopy_put_plain_tail(const SnapPostcopy *p, GByteArray *out);

/* Room that what stands around pages needs. */
#define SNAP_POSTCOPY_BEGIN_SIZE 5u
#define SNAP_POSTCOPY_END_SIZE 13u
#define SNAP_POSTCOPY_RECORD_MAX (8u + 1 + 255 + 1)

/* Writes what begins a part; gives its size. */
size_t snap_postcopy_part_begin(const SnapPostcopy *p, uint8_t *ret);

/* Writes what stands before the page at `offset`, or in place of a zero page;
 * gives its size. A part's first record is `named`: it says which block it is
 * of, and those behind it are of the same. */
size_t snap_postcopy_record(const SnapPostcopy *p, guint block, uint64_t offset,
			    bool named, bool zero, uint8_t *ret);

/* Writes what ends a part; gives its size. */
size_t snap_postcopy_part_end(const SnapPostcopy *p, uint8_t *ret);
