/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sizes that all rooms use, and sizes as users read and write them. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define SNAP_KIB ((uint64_t)1 << 10)
#define SNAP_MIB ((uint64_t)1 << 20)
#define SNAP_GIB ((uint64_t)1 << 30)

/* The unit of guest memory, in bytes. A larger target page has several. */
#define SNAP_PAGE 4096u

/* A region is the unit of the map: 512 pages, 2 MiB. */
#define SNAP_REGION_PAGES 512u
#define SNAP_REGION ((uint64_t)SNAP_PAGE * SNAP_REGION_PAGES)

/* The number of units of `unit` that hold `n`. */
static inline uint64_t snap_div_up(uint64_t n, uint64_t unit)
{
	return n / unit + (n % unit != 0);
}

/* Rounds `n` up to a multiple of `unit`. The caller knows that the result
 * fits. */
static inline uint64_t snap_round_up(uint64_t n, uint64_t unit)
{
	return snap_div_up(n, unit) * unit;
}

/* Adds. Returns false, with *ret unchanged, where a + b does not fit. */
static inline bool snap_add(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return false;
	*ret = sum;
	return true;
}

/* Reads a size as users write it: digits and k, m, g or t (powers of 1024),
 * such as "64m". Returns 0, or -EINVAL with a sentence that names `text`. */
int snap_size_parse(const char *text, uint64_t *ret_size, GError **error);

/* Writes a size in bytes with a binary unit and three digits ("1.46 GiB"). The
 * caller frees the text with g_free(). */
char *snap_size_format(uint64_t size);
