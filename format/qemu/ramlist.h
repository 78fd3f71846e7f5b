/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The RAM blocks of a guest, as a migration stream lists them. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Limits of this implementation; QEMU itself has none. */
#define SNAP_RAM_BLOCKS_MAX 4096u
#define SNAP_RAM_BYTES_MAX ((uint64_t)1 << 46)

/* One RAM block. */
struct snap_ram_block {
	char name[256];	    /* QEMU's idstr: 1 to 255 bytes, any of them */
	uint64_t length;    /* used length in bytes, a multiple of the target
			     * page */
	uint64_t page_size; /* as listed (huge pages); 0 where not listed */
	uint64_t gpa;	    /* guest-physical address, with x-ignore-shared */
	uint64_t flat;	    /* where it begins in flat RAM (the `ram` file): the
			     * blocks one after the other, each on a 2 MiB
			     * boundary */
	uint64_t stored;    /* bytes of the target pages that are not zero; 0
			     * from the parser, filled in by who synthesizes */
	uint64_t listed;    /* where in devstate its entry in the list ends */
	uint64_t behind;    /* mapped-ram: where in the file its header ends */
	uint64_t bitmap;    /* mapped-ram: where in the file its bitmap begins,
			     * a bit a target page, in bytes that are a multiple
			     * of 8 */
	uint64_t pages;	    /* and where its pages do; `length` bytes. Both are
			     * 0 for a block that has none */
	bool ignored;	    /* left out by x-ignore-shared: its memory is not
			     * in the stream, and QEMU refuses pages of it */
};

/* The list. */
struct snap_ramlist {
	struct snap_ram_block *blocks; /* n of them; g_free */
	guint n;
	uint64_t flat_size; /* of the `ram` file: end of the last block */
};

/* Appends a block and gives it its place in flat RAM. -EPROTO for an empty,
 * too long or repeated name, a length that is not a multiple of `target_page`
 * or over the limits; the list is then as it was. */
int snap_ramlist_add(struct snap_ramlist *list, const char *name,
		     uint64_t length, uint64_t page_size, uint64_t gpa,
		     uint32_t target_page, GError **error);

/* The block of that name (`length` bytes, no NUL), or -1. */
int snap_ramlist_find(const struct snap_ramlist *list, const void *name,
		      size_t length);

/* The bytes of a block's bitmap in a mapped-ram file: a bit a target page, in
 * words of 64. */
uint64_t snap_ram_bitmap(const struct snap_ram_block *block,
			 uint32_t target_page);

/* Frees what the list holds and empties it. */
void snap_ramlist_clear(struct snap_ramlist *list);
