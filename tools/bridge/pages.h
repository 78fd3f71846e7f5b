/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages are read next, and which were sent. The most urgent come first:
 *
 *	ask    a page that QEMU asks for, then those behind it in its extent
 *	hot    extents of the hot list, each from its first hot page on
 *	bulk   all that was not sent, from the front
 *
 * An extent is 64 KiB, or a unit of the block if that is more: a mount
 * decompresses that much as a whole. A page is sent once. The bulk passes over
 * all of memory, so other pieces may be given up unsent. A page of zeros is
 *sent only if QEMU asks for it: what is never sent becomes zero.
 *
 * There is no I/O here. The lock of struct service protects struct pages.
 */
#pragma once

#include "tools/bridge/bridge.h"

/* Pieces of hot and bulk that are taken at a time: one is sent while the others
 * are read. Of the bulk, half of the processors read: a mount decompresses. */
#define HOT_MOST 5u

struct pages {
	struct bridge *b;
	struct block *blocks; /* the RAM blocks */
	uint64_t end;	      /* pages of flat RAM */
	uint64_t room;	      /* pages that a piece may have */
	uint8_t *flags;	      /* of each target page of flat RAM */
	GArray *asks;	      /* struct ask: not taken, the oldest first */
	gint64 last_ask;      /* when the last one came */
	guint waiting;	      /* pages that QEMU waits for */
	GArray *learnt;	      /* pages that QEMU asked for, in order */
	GArray *hot;	      /* the hot list */
	GArray *extents;      /* the first page of each of its extents */
	guint next_hot;	      /* of them */
	uint64_t cursor;      /* the next page of the bulk */
	bool zeros;	      /* pages of zeros are sent, too */
	bool answer;	      /* asks are taken */
	bool bulk;	      /* the bulk is taken */
	bool flows;	      /* pieces are sent at once */
	uint64_t goal;	  /* hot and bulk are taken while `passed` is less */
	uint64_t passed;  /* pages that were taken or lie in holes */
	guint taken;	  /* pieces; the worker that ends one subtracts 1 */
	guint background; /* those of hot and bulk among them */
	guint bulk_most;  /* no bulk is taken when these are as many */
	struct piece bad; /* the first that lacks a page; `at` says which */
	guint bad_count;  /* pages that cannot be read */
};

/* Prepares to send all memory; as much as b->precopy says, until `goal` and
 * `bulk` are set anew. */
void pages_init(struct pages *p, struct bridge *b);
/* Notes that QEMU waits for `length` bytes at `offset` of a block. False when
 * it waits for too many pages. */
bool pages_ask(struct pages *p, guint block, uint64_t offset, uint64_t length);
/* Notes which target pages of a block QEMU has: a bit for each; NULL: all. */
void pages_note_there(struct pages *p, guint block, const uint8_t *bitmap);
/* Appends to the batch the messages that say which pages are still to come. */
void pages_put_discards(struct pages *p);
/* Finds the most urgent piece; PIECE_NONE: there is none now. */
enum piece_kind pages_find(struct pages *p, struct piece *c);
/* Takes the most urgent piece; false: there is none now. */
bool pages_take(struct pages *p, struct piece *c);
/* Notes holes and bad pages of a piece that was read. */
void pages_note_read(struct pages *p, const struct piece *c);
/* Puts the next pages of a piece into a part: the page that QEMU asked for
 * first, and alone while others may not be sent, or others are asked for. Gives
 * the number of pages. */
guint pages_put(struct pages *p, struct piece *c);
