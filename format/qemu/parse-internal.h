/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of the parser.
 *
 * The parser is in one phase at a time. A phase reads one item of the stream:
 *
 *	header → configuration → subsections ┐
 *	┌────────────────────────────────────┘
 *	└→ element ─→ START, PART, END ─→ payload ─→ section end ─→ element …
 *	      ├────→ COMMAND ──────────────────────────────────────→ element …
 *	      └────→ FULL, EOF, or what cannot be split ─→ tail
 *
 * (In a mapped-ram stream, the payload of RAM's START has a header for each
 * block, and each header ends in a jump.)
 *
 * A phase gets its item from snap_parse_peek(), which returns the complete item
 * and holds the beginning of an item that was cut. Then the phase passes the
 * item on with snap_parse_state(), or drops it with snap_parse_drop() and gives
 * a page instead, and names the next phase. Only complete items are dropped or
 * passed on, so the meaning of an item never depends on where the input was
 * cut.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "format/base/bytes.h"
#include "format/qemu/parse.h"
#include "format/qemu/tail-internal.h"
#include "format/qemu/wire.h"

/* The largest item: a target page. */
#define SNAP_HOLD_SIZE 65536u

/* What a phase returns, besides -errno. */
enum snap_phase_result {
	SNAP_PHASE_MORE = 0,  /* its item is not complete yet */
	SNAP_PHASE_EVENT = 1, /* an event */
	SNAP_PHASE_AGAIN = 2, /* no event; run p->phase next */
};

/* The phases; the table of them is in parse.c. */
enum snap_phase {
	SNAP_AT_NONE,
	SNAP_AT_SKIP,
	SNAP_AT_TAIL,
	SNAP_AT_HEADER,
	SNAP_AT_VERSION,
	SNAP_AT_CONFIGURATION,
	SNAP_AT_SUBSECTION,
	SNAP_AT_PAGE_BITS,
	SNAP_AT_CAPS,
	SNAP_AT_UUID,
	SNAP_AT_RAM_MAPPED,
	SNAP_AT_RAM_TOTAL,
	SNAP_AT_RAM_BLOCK,
	SNAP_AT_BLOCK_EXTRA,
	SNAP_AT_LIST_END,
	SNAP_AT_LIST_KNOWN,
	SNAP_AT_RAM_RECORD,
	SNAP_AT_PAGE,
	SNAP_AT_ELEMENT,
	SNAP_AT_SECTION_END,
	SNAP_AT_DIRTY_BITMAP,
	SNAP_AT_HTAB,
	SNAP_AT_HTAB_ENTRIES,
	SNAP_AT_STATTRIB,
	SNAP_AT_VIRTIO_MEM,
};

/* What each phase does. */
int snap_phase_skip(SnapParser *p, struct snap_event *ev);
int snap_phase_tail(SnapParser *p, struct snap_event *ev);
int snap_phase_header(SnapParser *p, struct snap_event *ev);
int snap_phase_version(SnapParser *p, struct snap_event *ev);
int snap_phase_configuration(SnapParser *p, struct snap_event *ev);
int snap_phase_subsection(SnapParser *p, struct snap_event *ev);
int snap_phase_page_bits(SnapParser *p, struct snap_event *ev);
int snap_phase_caps(SnapParser *p, struct snap_event *ev);
int snap_phase_uuid(SnapParser *p, struct snap_event *ev);
int snap_phase_ram_mapped(SnapParser *p, struct snap_event *ev);
int snap_phase_ram_total(SnapParser *p, struct snap_event *ev);
int snap_phase_ram_block(SnapParser *p, struct snap_event *ev);
int snap_phase_block_extra(SnapParser *p, struct snap_event *ev);
int snap_phase_list_end(SnapParser *p, struct snap_event *ev);
int snap_phase_list_known(SnapParser *p, struct snap_event *ev);
int snap_phase_ram_record(SnapParser *p, struct snap_event *ev);
int snap_phase_page(SnapParser *p, struct snap_event *ev);
int snap_phase_element(SnapParser *p, struct snap_event *ev);
int snap_phase_section_end(SnapParser *p, struct snap_event *ev);
int snap_phase_dirty_bitmap(SnapParser *p, struct snap_event *ev);
int snap_phase_htab(SnapParser *p, struct snap_event *ev);
int snap_phase_htab_entries(SnapParser *p, struct snap_event *ev);
int snap_phase_stattrib(SnapParser *p, struct snap_event *ev);
int snap_phase_virtio_mem(SnapParser *p, struct snap_event *ev);

/* The sections whose payload this parser can read. */
enum snap_section_kind {
	SNAP_SECTION_RAM,
	SNAP_SECTION_DIRTY_BITMAP,
	SNAP_SECTION_HTAB,
	SNAP_SECTION_STATTRIB,
	SNAP_SECTION_VIRTIO_MEM, /* a FULL, of which there may be several */
	SNAP_SECTION_KINDS,
};

/* A section of a known kind in this stream. */
struct snap_section {
	bool begun; /* START was seen */
	bool ended; /* END was seen */
	uint32_t id;
};

struct SnapParser {
	enum snap_phase phase;
	struct snap_cursor in; /* bytes that were fed and not yet read */
	uint8_t *hold;	       /* the beginning of an item that was cut */
	size_t held;
	struct snap_stream_info info;
	GError *error; /* every later step returns it again */

	bool devstate; /* no pages will come */
	struct snap_section sections[SNAP_SECTION_KINDS];
	enum snap_section_kind kind; /* of the current section */
	uint8_t type;		     /* its element: START, PART or END */
	bool footers_known;	     /* info.footers is known */

	bool caps_seen;	   /* the list of capabilities came */
	uint8_t caps[64];  /* the list as it is passed on, without mapped-ram */
	uint64_t ram_left; /* bytes of RAM still to be listed */
	char *ram_name;	   /* name of the block that is being listed */
	uint64_t ram_length;
	GHashTable *ram_names; /* name → index + 1 */
	bool pages_begun;      /* a RAM PART or END was seen */
	bool pages_placed;     /* info.pages_at is known */
	bool place_seen;       /* `place` is known: */
	uint64_t place;
	int block;     /* of the last page record, or -1 */
	uint64_t page; /* offset of the next page in its block */

	uint64_t skip; /* bytes to pass on unread */
	enum snap_phase after_skip;

	bool only_eof; /* the tail began with EOF: there are no devices */
	size_t zeros;  /* zeros after the description, held back */
	struct snap_tail tail;
	char *why;
};

/* The offset of the current item in the stream. */
static inline uint64_t snap_parse_at(const SnapParser *p)
{
	return p->info.size - p->held;
}

/* Returns the next `n` bytes (at most SNAP_HOLD_SIZE), or NULL until they are
 * there. They are valid until the next call of the parser. */
const uint8_t *snap_parse_peek(SnapParser *p, size_t n);

/* Passes the `n` bytes that were peeked at last on as STATE. */
int snap_parse_state(SnapParser *p, struct snap_event *ev, size_t n,
		     enum snap_phase next);

/* Passes `size` other bytes on as STATE in place of the `n` bytes that were
 * peeked at last. */
int snap_parse_state_as(SnapParser *p, struct snap_event *ev, size_t n,
			const uint8_t *data, size_t size, enum snap_phase next);

/* Drops the `n` bytes that were peeked at last. */
void snap_parse_drop(SnapParser *p, size_t n);

/* Passes on the next `n` bytes unread, then continues with `next`. Returns
 * SNAP_PHASE_AGAIN. */
int snap_parse_skip(SnapParser *p, uint64_t n, enum snap_phase next);

/* Fails for good, with "offset N: " in front of the sentence. */
int snap_parse_fail(SnapParser *p, int code, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

/* Says that the stream cannot be split. Gives an event, or fails if pages were
 * given already or the stream is mapped-ram. */
int snap_parse_opaque(SnapParser *p, struct snap_event *ev, const char *format,
		      ...) G_GNUC_PRINTF(3, 4);

/* Makes foreign bytes printable, for a sentence. */
char *snap_parse_printable(const void *data, size_t size);

/* Says that the pages would begin here, if there are any. */
void snap_parse_place_seen(SnapParser *p);

/* Says that there are pages. They begin here, or where snap_parse_place_seen()
 * was called first. */
void snap_parse_place(SnapParser *p);

/* True when the current section stays in devstate; a RAM section does so
 * without its records. */
static inline bool snap_parse_keeps(const SnapParser *p)
{
	return p->kind != SNAP_SECTION_RAM || p->type != WIRE_SECTION_PART ||
	       p->info.mapped || p->devstate;
}

/* Says that the device state begins here. Returns SNAP_PHASE_AGAIN. */
int snap_parse_devices(SnapParser *p);
