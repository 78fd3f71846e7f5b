/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `hot`: the list of pages that a guest needed first, in order, as text.
 *
 *	snapfs-hot 1
 *	pc.ram 0x1f000 3
 *	0000:00:02.0/vga.vram 0x0 1
 *
 * The first line is the version. Each other line names a RAM block, an offset
 * in it in bytes, and a number of consecutive pages of 4096 bytes. In a name,
 * bytes that are not printable ASCII, spaces and '%' are written as %xx.
 *
 * The list is a hint, and any program may write it. Lines that are not
 * understood, pages outside their block, and all pages after the first 262144
 * are ignored.
 */
#pragma once

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

#include "format/qemu/ramlist.h"

#define SNAP_HOT_HEADER "snapfs-hot 1\n"
#define SNAP_HOT_PAGES_MAX 262144u

/* The largest file that is read, in bytes. */
#define SNAP_HOT_SIZE_MAX (8u << 20)

/* Consecutive pages of a block. */
struct snap_hot_run {
	guint block;
	uint64_t offset; /* bytes, on a page boundary */
	uint64_t pages;
};

/* Makes an empty list of struct snap_hot_run; free it with g_array_unref(). */
GArray *snap_hot_new(void);

/* Appends pages. If they continue the last run, they are joined with it. */
void snap_hot_add(GArray *runs, guint block, uint64_t offset, uint64_t pages);

/* The number of pages in the list. */
uint64_t snap_hot_pages(const GArray *runs);

/* Reads a list from `size` bytes of text. A list of an unknown version counts
 * as empty. */
GArray *snap_hot_parse(const char *text, size_t size,
		       const struct snap_ramlist *ram);

/* Writes a list as text; free it with g_free(). */
char *snap_hot_format(const GArray *runs, const struct snap_ramlist *ram);

/* Makes the list after a revert: the pages of `known` in their order, then the
 * pages of `asked` that `known` lacks, each once. If these are too many, the
 * last pages of `known` are dropped, but at least half of the room is left to
 * `known`. */
GArray *snap_hot_merge(const GArray *known, const GArray *asked,
		       const struct snap_ramlist *ram);
