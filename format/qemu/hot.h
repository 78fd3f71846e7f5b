/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `hot`: the pages that a guest needed first, in order, as text.
 *
 *	snapfs-hot 1
 *	pc.ram 0x1f000 3
 *	0000:00:02.0/vga.vram 0x0 1
 *
 * The first line is the version. Each other line names a RAM block, an offset
 * in it in bytes, and how many pages of 4096 bytes follow one another there.
 * In a name, bytes that are no printing ASCII, spaces and '%' are written as
 * %xx.
 *
 * It is a hint, and may come from anybody: what is not understood or lies
 * outside of the blocks is left out, and all behind the first 262144 pages.
 */
#pragma once

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

#include "format/qemu/ramlist.h"

#define SNAP_HOT_HEADER "snapfs-hot 1\n"
#define SNAP_HOT_PAGES_MAX 262144u

/* No hot is read beyond this many bytes. */
#define SNAP_HOT_SIZE_MAX (8u << 20)

/* Pages of a block that follow one another. */
struct snap_hot_run {
	guint block;
	uint64_t offset; /* bytes, whole pages */
	uint64_t pages;
};

/* A list of struct snap_hot_run, to be freed with g_array_unref(). */
GArray *snap_hot_new(void);

/* Puts pages behind the list; ones that follow on its last make it longer. */
void snap_hot_add(GArray *runs, guint block, uint64_t offset, uint64_t pages);

/* The number of pages in the list. */
uint64_t snap_hot_pages(const GArray *runs);

/* Reads a list; one of an unknown version is empty. */
GArray *snap_hot_parse(const char *text, size_t size,
		       const struct snap_ramlist *ram);

/* Writes a list. */
char *snap_hot_format(const GArray *runs, const struct snap_ramlist *ram);

/* What is known after a revert: the pages of `known` in their order, then those
 * of `asked` that it does not hold, each once. Where that is too many, the last
 * of `known` give way, up to half of the room. */
GArray *snap_hot_merge(const GArray *known, const GArray *asked,
		       const struct snap_ramlist *ram);
