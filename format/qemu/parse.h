/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parser of the migration stream: bytes in, events out.
 *
 * It has no threads, files or callbacks. The caller feeds bytes, cut anywhere,
 * and steps until the parser needs more:
 *
 *	snap_parser_feed(p, bytes, size);
 *	while ((r = snap_parser_step(p, &event, error)) > 0)
 *		... event ...
 *
 * The stream is split in two: pages (PAGE, FILL) and everything else (STATE).
 * The STATE bytes together are `devstate`: the same stream without its pages,
 * which QEMU itself accepts.
 *
 * Of a mapped-ram file, the parser reads what lies between the bitmaps and
 * pages, and says where these are; the caller reads them. The devstate is that
 * of a classic stream: without mapped-ram in the list of capabilities, and
 * without the headers of the blocks.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "format/qemu/ramlist.h"

enum snap_event_kind {
	/* The list of RAM blocks is known: see snap_parser_info(). Comes once,
	 * before the first PAGE or FILL. */
	SNAP_EVENT_RAM = 1,
	/* `data`, `size`: one target page of `block` at `offset`. */
	SNAP_EVENT_PAGE,
	/* All `size` bytes of `block` at `offset`, one or more target pages,
	 * are `fill` (mostly 0). */
	SNAP_EVENT_FILL,
	/* `data`, `size`: the next bytes of devstate. */
	SNAP_EVENT_STATE,
	/* mapped-ram: the stream goes on at `offset` of its file, after the
	 * bitmap and the pages of the block that was listed last. The parser
	 * drops the bytes that were fed and not read; feed those from `offset`
	 * on next. */
	SNAP_EVENT_JUMP,
	/* The stream cannot be split: `why` says which section prevents it. The
	 * STATE bytes so far are the stream from its beginning, and all the
	 * rest comes as STATE too, to be kept verbatim. Never comes after a
	 * PAGE or FILL, and never for a mapped-ram stream; there a section of
	 * unknown length is an error. (No QEMU sends such a section after
	 * pages.) If RAM came before, pages_at says where that section
	 * begins. */
	SNAP_EVENT_OPAQUE,
};

/* An event. Pointers are valid until the next call of the parser. */
struct snap_event {
	enum snap_event_kind kind;
	guint block; /* index into the RAM list */
	uint8_t fill;
	uint64_t offset; /* within the block */
	const uint8_t *data;
	size_t size;
	const char *why;
};

/* What is known of the stream so far. Sizes and offsets in bytes. */
struct snap_stream_info {
	char machine[256];    /* versioned machine type; "" if not sent */
	uint32_t target_page; /* bytes */
	uint32_t ram_section; /* the RAM section's id in this stream */
	bool footers;	      /* sections end in a footer */
	/* offset in devstate of the pages, or where they would be: after RAM's
	 * list and the sections that begin right after it. 0 until the first
	 * section of pages or the devices */
	uint64_t pages_at;
	uint64_t state_size; /* of devstate so far */
	/* offset in the file that was reached: `begin` and the bytes read so
	 * far, or after a jump its target */
	uint64_t size;
	bool tail;	    /* only device state follows */
	bool mapped;	    /* mapped-ram: the file has a place for each page */
	bool ignore_shared; /* x-ignore-shared: each block lists an address */
	/* devstate has RAM PART sections, which are empty: the stream was
	 * mapped-ram. QEMU sends at least one, since all RAM is dirty at first
	 * (migration/migration.c, migration_iteration_run) */
	bool ram_parts;
	/* why the sections after RAM's list cannot be told apart, which a
	 * stream without pages between them can do without; NULL */
	const char *unknown;
	/* offset in devstate of the length of the description, which its text
	 * follows; 0: there is none. Certain when the stream is complete */
	uint64_t description_at;
	uint64_t begin; /* offset in the file where the stream begins */
	/* offset in devstate of the list of capabilities, or where it would be;
	 * 0 without a configuration, the only place for it */
	uint64_t caps_at;
	struct snap_ramlist ram;
};

typedef struct SnapParser SnapParser;

/* True when the bytes are QEMU's magic, or the beginning of it. */
bool snap_stream_begins(const void *data, size_t size);

/* The most bytes that snap_stream_find() needs to recognize a stream. */
#define SNAP_STREAM_FIND 269u

/* Finds the first place in `data` that looks like the beginning of a stream: up
 * to the name of the machine type or of the first section. */
bool snap_stream_find(const void *data, size_t size, size_t *ret_at);

/* Makes a parser that expects the beginning of a stream. */
SnapParser *snap_parser_new(void);
void snap_parser_free(SnapParser *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapParser, snap_parser_free)

/* Says that the stream is a devstate, before the first step. No pages come (a
 * page is an error), so a device right after the RAM list does not make the
 * stream OPAQUE (the devstate of a background snapshot has no RAM END). The
 * STATE bytes are the input, including the empty RAM sections of a mapped-ram
 * stream. */
void snap_parser_expect_devstate(SnapParser *p);

/* Says that the stream begins at this offset of its file, before the first
 * step. Offsets in a mapped-ram stream and in sentences count from the
 * beginning of the file. */
void snap_parser_begin_at(SnapParser *p, uint64_t offset);

/* Gives the parser `size` bytes. They are borrowed until the parser needs more;
 * only then may the next bytes be fed. */
void snap_parser_feed(SnapParser *p, const void *data, size_t size);

/* Does one step. Returns 1 with an event, 0 where more bytes are needed,
 * -EPROTO or -EOPNOTSUPP with a sentence that names the offset and what was
 * expected there. After an error, every step returns that error. */
int snap_parser_step(SnapParser *p, struct snap_event *ret_event,
		     GError **error);

/* True when all bytes so far, stepped through, are a complete stream: the end
 * mark and the description of the device state, whose length ends exactly here.
 * QEMU's last write ends so. Up to 64 KiB of zeros after it do not belong to
 * the stream and come in no event (libvirt pads its last block); if other bytes
 * follow the zeros, the zeros do belong to it and come then. */
bool snap_parser_complete(const SnapParser *p);

/* Says that the input has ended. Returns 0 where the stream is complete. That
 * includes a stream without description (machine property suppress-vmdesc)
 * whose last bytes are a section footer and the end mark. With neither
 * description nor footers (machine types up to 2.2) the end cannot be
 * recognized. Returns -EPROTO with a sentence otherwise. */
int snap_parser_end(const SnapParser *p, GError **error);

/* What is known of the stream so far; owned by the parser. */
const struct snap_stream_info *snap_parser_info(const SnapParser *p);
