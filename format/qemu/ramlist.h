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
	char name[256]; /* QEMU's idstr: 1 to 255 bytes of any value except 0 */
	/* used length in bytes, a multiple of the target page */
	uint64_t length;
	/* in bytes, as listed (huge pages); 0 if not listed */
	uint64_t page_size;
	uint64_t gpa; /* guest-physical address, with x-ignore-shared */
	/* offset in flat RAM (the `ram` file), where the blocks follow one
	 * another, each on a 2 MiB boundary */
	uint64_t flat;
	/* bytes in target pages that are not zero. The parser leaves it 0; the
	 * caller of a synthesizer fills it in */
	uint64_t stored;
	/* offset in devstate where its entry in the list ends */
	uint64_t listed;
	/* mapped-ram: offset in the file where its header ends */
	uint64_t behind;
	/* mapped-ram: offset in the file of its bitmap: a bit per target page,
	 * in a multiple of 8 bytes */
	uint64_t bitmap;
	/* mapped-ram: offset in the file of its pages, `length` bytes. `bitmap`
	 * and `pages` are 0 for a block without them */
	uint64_t pages;
	/* its memory is not in the stream, and QEMU refuses pages of it: other
	 * memory is shared with the QEMU that loads it (x-ignore-shared, or a
	 * cpr mode). In a classic stream such a block has no record; in a
	 * mapped-ram stream its header names no bitmap. A devstate does not
	 * say it */
	bool ignored;
};

/* A list of RAM blocks. */
struct snap_ramlist {
	struct snap_ram_block *blocks; /* n of them; g_free */
	guint n;
	/* bytes of the `ram` file: the end of the last block */
	uint64_t flat_size;
};

/* Appends a block and assigns its offset in flat RAM. Sizes are in bytes.
 * Returns 0, or -EPROTO for an empty, too long or repeated name, a length that
 * is not a multiple of `target_page`, or a list over the limits, or -ENOMEM;
 * then the list is unchanged. */
int snap_ramlist_add(struct snap_ramlist *list, const char *name,
		     uint64_t length, uint64_t page_size, uint64_t gpa,
		     uint32_t target_page, GError **error);

/* Returns the index of the block with that name (`length` bytes, no NUL), or
 * -1. */
int snap_ramlist_find(const struct snap_ramlist *list, const void *name,
		      size_t length);

/* Returns the size in bytes of a block's bitmap in a mapped-ram file: a bit per
 * target page, in words of 64 bits. */
uint64_t snap_ram_bitmap(const struct snap_ram_block *block,
			 uint32_t target_page);

/* Frees what the list holds and empties it. */
void snap_ramlist_clear(struct snap_ramlist *list);
