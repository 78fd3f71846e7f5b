/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parser of the migration stream: bytes in, events out.
 *
 * It has no threads, files or callbacks. The caller feeds whatever it has, cut
 * anywhere, and steps until the parser asks for more:
 *
 *	snap_parser_feed(p, bytes, size);
 *	while ((r = snap_parser_step(p, &event, error)) > 0)
 *		... event ...
 *
 * The stream comes out split in two: pages (PAGE, FILL), and everything else
 * (STATE), which put together is `devstate`: the same stream without its pages,
 * which QEMU itself accepts.
 *
 * Of a mapped-ram file the parser reads what lies between the areas of bitmaps
 * and pages, and says where these are; their bytes are the caller's. Its
 * devstate is that of a classic stream: without mapped-ram in the list of
 * capabilities, and without the blocks' headers.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "format/qemu/ramlist.h"

enum snap_event_kind {
	/* The list of RAM blocks is known: snap_parser_info(). Once, before
	 * the first PAGE or FILL. */
	SNAP_EVENT_RAM = 1,
	/* `data`, `size`: one target page of `block` at `offset`. */
	SNAP_EVENT_PAGE,
	/* `size` bytes of `block` at `offset`, one or more target pages, are
	 * all `fill` (mostly 0). */
	SNAP_EVENT_FILL,
	/* `data`, `size`: the next bytes of devstate. */
	SNAP_EVENT_STATE,
	/* mapped-ram: the stream goes on at `offset` of its file, behind the
	 * bitmap and the pages of the block that was listed last. What was fed
	 * and not read is not of the stream, and dropped: feed the bytes from
	 * that offset next. */
	SNAP_EVENT_JUMP,
	/* The stream cannot be split: `why` says which section is in the way.
	 * The STATE bytes so far are the stream from its beginning; all that
	 * follows comes as STATE too, to be kept verbatim. Never after a PAGE
	 * or FILL, and never of a mapped-ram stream: a section of unknown
	 * length behind pages, which no QEMU sends, is an error, and so is one
	 * in a stream that does not lie in one piece. Where RAM was given out
	 * before, pages_at says where the section in the way begins. */
	SNAP_EVENT_OPAQUE,
};

/* An event. Pointers are good until the next call on the parser. */
struct snap_event {
	enum snap_event_kind kind;
	guint block; /* index into the RAM list */
	uint8_t fill;
	uint64_t offset; /* within the block */
	const uint8_t *data;
	size_t size;
	const char *why;
};

/* What the stream says of itself; grows as it is parsed. */
struct snap_stream_info {
	char machine[256];    /* versioned machine type; "" when not sent */
	uint32_t target_page; /* bytes */
	uint32_t ram_section; /* the RAM section's id in this stream */
	bool footers;	      /* sections end in a footer */
	uint64_t pages_at;    /* where in devstate the pages stood, or could
			       * have: behind RAM's list and the sections
			       * that begin next to it. 0 until the first
			       * section of pages, or the devices */
	uint64_t state_size;  /* bytes of devstate so far */
	uint64_t size;	      /* where in its file the stream stands: from
			       * `begin` on, the bytes read so far; of one
			       * that jumps, with what it jumped over */
	bool tail;	      /* no pages come: the rest is device state */
	bool mapped;	      /* mapped-ram: pages lie at places in the file */
	uint64_t begin;	      /* where in its file the stream begins */
	uint64_t caps_at;     /* where in devstate the list of capabilities
			       * stands, or would stand; 0 without a
			       * configuration, which alone can hold it */
	struct snap_ramlist ram;
};

typedef struct SnapParser SnapParser;

/* True when the bytes are the beginning of a stream, as far as they go: QEMU's
 * magic. */
bool snap_stream_begins(const void *data, size_t size);

/* A parser at the beginning of a stream. */
SnapParser *snap_parser_new(void);
void snap_parser_free(SnapParser *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapParser, snap_parser_free)

/* The stream is a devstate: no pages will come (one that does is an error), so
 * a device right behind the RAM list is no reason for OPAQUE (the devstate of a
 * background snapshot has no RAM END). What comes out is what went in, with
 * RAM's empty sections, which a mapped-ram stream has. To be said before the
 * first step. */
void snap_parser_expect_devstate(SnapParser *p);

/* The stream begins at this offset of its file, to which the places in a
 * mapped-ram stream are related, and offsets in sentences. To be said before
 * the first step. */
void snap_parser_begin_at(SnapParser *p, uint64_t offset);

/* Gives the parser `size` bytes; they are borrowed until it has asked for
 * more, and only then may the next be fed. */
void snap_parser_feed(SnapParser *p, const void *data, size_t size);

/* One step: 1 with an event, 0 when more bytes are needed, -EPROTO or
 * -EOPNOTSUPP with a sentence that names the offset in the stream and what was
 * expected there. After an error the parser says the same again. */
int snap_parser_step(SnapParser *p, struct snap_event *ret_event,
		     GError **error);

/* True when what was fed (and stepped through) up to now is a whole stream:
 * the end mark, and behind it the description of the device state whose length
 * ends exactly here. QEMU's last write ends so. Up to 64 KiB of zeros behind it
 * are no part of the stream and come in no event (libvirt fills up its last
 * block); should something else follow them, they were, and come then. */
bool snap_parser_complete(const SnapParser *p);

/* The input has ended. 0 when the stream is whole; so is one without a
 * description (machine property suppress-vmdesc) whose last bytes are a section
 * footer and the end mark. Of a stream with neither description nor footers
 * (machine types up to 2.2) nobody can tell. -EPROTO with a sentence
 * otherwise. */
int snap_parser_end(const SnapParser *p, GError **error);

/* What the stream has said of itself up to now; owned by the parser. */
const struct snap_stream_info *snap_parser_info(const SnapParser *p);
