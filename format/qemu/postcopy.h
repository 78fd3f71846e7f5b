/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages of a postcopy source to QEMU.
 *
 * There is no I/O here: messages are appended to an array of bytes, or written
 * to the caller's memory. postcopy-return.h reads QEMU's answers. Every QEMU
 * since 6.0 understands this order:
 *
 *	head        magic, configuration, OPEN_RETURN_PATH, PING, ADVISE,
 *	            and the list of RAM blocks
 *	parts       pages that are sent before the guest runs, if any
 *	discards    of all pages that were not sent; at least one, or QEMU hangs
 *	package     LISTEN, the devices, PING, RUN
 *	parts       pages, first those that QEMU asks for; each page once, and
 *	            all target pages of a huge page in order
 *	end         pages that were not sent become zero
 *
 * After a broken connection, it goes on without a head:
 *
 *	RECV_BITMAP for each block; QEMU answers which pages it has
 *	RESUME      QEMU acknowledges, and repeats its open requests
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

/* The values of the PINGs. The PONG to the one in the package says that the
 * devices are loaded and the guest runs. */
#define SNAP_POSTCOPY_PING_HEAD 1u
#define SNAP_POSTCOPY_PING_DISCARD 2u
#define SNAP_POSTCOPY_PING_RUN 3u

typedef struct SnapPostcopy SnapPostcopy;

/* Parses a devstate: `state`, `size` bytes from g_malloc(), which it owns from
 * then on, also on failure. `host_page` is the page size of QEMU's host in
 * bytes. Returns 0, -EPROTO where it is not a devstate, or -EOPNOTSUPP where it
 * cannot be sent by postcopy. */
int snap_postcopy_new(uint8_t *state, size_t size, uint32_t host_page,
		      SnapPostcopy **ret_post, GError **error);
void snap_postcopy_free(SnapPostcopy *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapPostcopy, snap_postcopy_free)

/* What the devstate says of itself; owned by `p`. */
const struct snap_stream_info *snap_postcopy_info(const SnapPostcopy *p);

/* Says that the destination has a block in huge pages of `page_size` bytes,
 * which a snapshot does not record. Returns 0, or -EINVAL for an impossible
 * size. */
int snap_postcopy_set_page_size(SnapPostcopy *p, guint block,
				uint64_t page_size, GError **error);

/* The unit in which a block must be sent, in bytes: its page size. */
uint64_t snap_postcopy_unit(const SnapPostcopy *p, guint block);

/* Appends everything before the first page. */
void snap_postcopy_put_head(const SnapPostcopy *p, GByteArray *out);

/* A range of a block, in bytes. */
struct snap_postcopy_range {
	uint64_t start;
	uint64_t length;
};

/* Appends the message that these ranges of a block come later. They must begin
 * and end on a page of the block. */
void snap_postcopy_put_discard(const SnapPostcopy *p, guint block,
			       const struct snap_postcopy_range *ranges,
			       size_t n, GByteArray *out);

/* Appends the package: the devices, and the command to run. */
void snap_postcopy_put_package(const SnapPostcopy *p, GByteArray *out);

/* Appends the end of RAM and of the stream. */
void snap_postcopy_put_end(const SnapPostcopy *p, GByteArray *out);

/* Appends the question which pages of a block have arrived. */
void snap_postcopy_put_recv_bitmap(const SnapPostcopy *p, guint block,
				   GByteArray *out);

/* Appends the message that the migration resumes. */
void snap_postcopy_put_resume(const SnapPostcopy *p, GByteArray *out);

/* Appends a plain stream up to its first page; the same from after its last
 * page to its end. */
void snap_postcopy_put_plain_head(const SnapPostcopy *p, GByteArray *out);
void snap_postcopy_put_plain_tail(const SnapPostcopy *p, GByteArray *out);

/* The sizes in bytes of what surrounds pages. */
#define SNAP_POSTCOPY_BEGIN_SIZE 5u
#define SNAP_POSTCOPY_END_SIZE 13u
#define SNAP_POSTCOPY_RECORD_MAX (8u + 1 + 255 + 1)

/* Writes the beginning of a part. Returns its size in bytes. */
size_t snap_postcopy_part_begin(const SnapPostcopy *p, uint8_t *ret);

/* Writes the header of the page at `offset`, or the whole record of a zero
 * page. Returns its size in bytes. The first record of a part is `named`: it
 * names its block, and the following records belong to the same block. */
size_t snap_postcopy_record(const SnapPostcopy *p, guint block, uint64_t offset,
			    bool named, bool zero, uint8_t *ret);

/* Writes the end of a part. Returns its size in bytes. */
size_t snap_postcopy_part_end(const SnapPostcopy *p, uint8_t *ret);
