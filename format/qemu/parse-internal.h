/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of the parser.
 *
 * The parser is in one phase at a time; a phase reads one item of the stream:
 *
 *	header → configuration → subsections ┐
 *	┌────────────────────────────────────┘
 *	└→ element ─→ START, PART, END ─→ payload ─→ section end ─→ element …
 *	      ├────→ COMMAND ──────────────────────────────────────→ element …
 *	      └────→ FULL, EOF, or what cannot be split ─→ tail
 *
 * (In the payload of RAM's START, where the stream is mapped-ram, each block's
 * header ends in a jump.)
 *
 * A phase looks at its item with snap_parse_peek(), which wants it whole and
 * keeps the beginning of one that is cut. Having understood it, it passes it
 * on with snap_parse_state(), or drops it with snap_parse_drop() and gives a
 * page instead, and names the phase that follows. Nothing is dropped or passed
 * on before it was whole, so an item's meaning never depends on where the
 * input was cut.
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

/* What a phase answers, besides -errno. */
enum snap_phase_result {
	SNAP_PHASE_MORE = 0,  /* its item is not whole yet */
	SNAP_PHASE_EVENT = 1, /* an event */
	SNAP_PHASE_AGAIN = 2, /* no event; on with p->phase */
};

struct snap_phase {
	int (*run)(SnapParser *p, struct snap_event *ev);
	const char *expects; /* "the stream ends here; expected …" */
};

extern const struct snap_phase snap_phase_header;
extern const struct snap_phase snap_phase_element;
extern const struct snap_phase snap_phase_section_end;
extern const struct snap_phase snap_phase_skip;
extern const struct snap_phase snap_phase_tail;
extern const struct snap_phase snap_phase_ram_total;
extern const struct snap_phase snap_phase_ram_block;
extern const struct snap_phase snap_phase_ram_mapped;
extern const struct snap_phase snap_phase_ram_record;
extern const struct snap_phase snap_phase_dirty_bitmap;
extern const struct snap_phase snap_phase_htab;
extern const struct snap_phase snap_phase_stattrib;

/* The sections whose payload we can read. */
enum snap_section_kind {
	SNAP_SECTION_RAM,
	SNAP_SECTION_DIRTY_BITMAP,
	SNAP_SECTION_HTAB,
	SNAP_SECTION_STATTRIB,
	SNAP_SECTION_KINDS,
};

/* A section of a known kind in this stream. */
struct snap_section {
	bool begun; /* START was seen */
	bool ended; /* END was seen */
	uint32_t id;
};

struct SnapParser {
	const struct snap_phase *phase;
	struct snap_cursor in; /* fed and not yet read */
	uint8_t *hold;	       /* the beginning of an item that was cut */
	size_t held;
	struct snap_stream_info info;
	GError *error; /* said again at every step */

	bool devstate;	    /* no pages will come */
	bool ignore_shared; /* x-ignore-shared is on */
	struct snap_section sections[SNAP_SECTION_KINDS];
	enum snap_section_kind kind; /* of the section we are in */
	uint8_t type;		     /* its element: START, PART or END */
	bool footers_known;	     /* info.footers has been found out */

	bool caps_seen;	   /* the list of capabilities was there */
	uint8_t caps[64];  /* as it is passed on without mapped-ram */
	uint64_t ram_left; /* of the RAM list's total */
	char *ram_name;	   /* of the block that is being listed */
	uint64_t ram_length;
	GHashTable *ram_names; /* name → index + 1 */
	bool pages_begun;      /* a RAM PART or END was seen */
	bool pages_placed;     /* info.pages_at has been found out */
	bool place_seen;       /* so has where the pages may stand: */
	uint64_t place;
	int block;     /* of the last page record, or -1 */
	uint64_t page; /* offset of the page that comes next */

	uint64_t skip; /* bytes to pass on unread */
	const struct snap_phase *after_skip;

	bool only_eof; /* in the tail by EOF: no devices */
	size_t zeros;  /* behind the description, not passed on */
	struct snap_tail tail;
	char *why;
};

/* Where the current item begins in the stream. */
static inline uint64_t snap_parse_at(const SnapParser *p)
{
	return p->info.size - p->held;
}

/* The next `n` bytes (at most SNAP_HOLD_SIZE), or NULL until they are there.
 * Good until the next call of the parser. */
const uint8_t *snap_parse_peek(SnapParser *p, size_t n);

/* Passes the `n` bytes last peeked at on as STATE. */
int snap_parse_state(SnapParser *p, struct snap_event *ev, size_t n,
		     const struct snap_phase *next);

/* Passes `size` bytes of the parser's own on in place of the `n` last peeked
 * at. */
int snap_parse_state_as(SnapParser *p, struct snap_event *ev, size_t n,
			const uint8_t *data, size_t size,
			const struct snap_phase *next);

/* Steps over the `n` bytes last peeked at. */
void snap_parse_drop(SnapParser *p, size_t n);

/* Passes on `n` bytes from here unread, then goes on with `next`. Returns
 * SNAP_PHASE_AGAIN. */
int snap_parse_skip(SnapParser *p, uint64_t n, const struct snap_phase *next);

/* Fails for good; puts "offset N: " before the sentence. */
int snap_parse_fail(SnapParser *p, int code, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

/* The stream cannot be split from here on: an event, or an error where pages
 * have been given out already, or lie elsewhere in the file. */
int snap_parse_opaque(SnapParser *p, struct snap_event *ev, const char *format,
		      ...) G_GNUC_PRINTF(3, 4);

/* Foreign bytes as they may stand in a sentence. */
char *snap_parse_printable(const void *data, size_t size);

/* What may stand between RAM's list and its pages begins here: the place of
 * the pages, should snap_parse_place() find that there are any. */
void snap_parse_place_seen(SnapParser *p);

/* The pages stand here, unless they could have stood before. */
void snap_parse_place(SnapParser *p);

/* The section we are in stays in devstate, of RAM without its records. */
static inline bool snap_parse_keeps(const SnapParser *p)
{
	return p->kind != SNAP_SECTION_RAM || p->type != WIRE_SECTION_PART ||
	       p->info.mapped || p->devstate;
}

/* The device state begins here. Returns SNAP_PHASE_AGAIN. */
int snap_parse_devices(SnapParser *p);
