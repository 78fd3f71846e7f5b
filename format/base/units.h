/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes: the few numbers the whole house agrees on, and sizes as people write
 * them. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define SNAP_KIB ((uint64_t)1 << 10)
#define SNAP_MIB ((uint64_t)1 << 20)
#define SNAP_GIB ((uint64_t)1 << 30)

/* The unit of guest memory everywhere: larger target pages are several. */
#define SNAP_PAGE 4096u

/* A region is the unit of the map: 512 pages, 2 MiB. */
#define SNAP_REGION_PAGES 512u
#define SNAP_REGION ((uint64_t)SNAP_PAGE * SNAP_REGION_PAGES)

/* How many units of `unit` it takes to hold `n`. */
static inline uint64_t snap_div_up(uint64_t n, uint64_t unit)
{
	return n / unit + (n % unit != 0);
}

/* The next multiple of `unit` from `n` on; the caller knows that it fits. */
static inline uint64_t snap_round_up(uint64_t n, uint64_t unit)
{
	return snap_div_up(n, unit) * unit;
}

/* False when a + b does not fit; *ret is then untouched. */
static inline bool snap_add(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return false;
	*ret = sum;
	return true;
}

/* Reads a size as people write it: digits with k, m, g or t behind them (1024
 * each), such as "64m". -EINVAL with a sentence naming `text` otherwise. */
int snap_size_parse(const char *text, uint64_t *ret_size, GError **error);

/* A size as people read it, with a binary unit and three digits ("1.46
 * GiB"). */
char *snap_size_format(uint64_t size);
