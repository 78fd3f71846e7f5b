/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Service times are counted in slots, 16 to each doubling, so that any number
 * of them takes the same memory.
 */
#include "tools/bridge/stats.h"

#include <inttypes.h>

#include "format/base/units.h"

void stats_begin(struct stats *s)
{
	*s = (struct stats){ .begin = g_get_monotonic_time() };
}

static guint slot_of(uint64_t us)
{
	unsigned shift = 0;

	while (us >> shift >= 2 * STATS_STEPS)
		shift++;
	return MIN(shift * STATS_STEPS + (guint)(us >> shift), STATS_SLOTS - 1);
}

/* The greatest time that falls into a slot. */
static uint64_t slot_end(guint slot)
{
	unsigned shift = slot < STATS_STEPS ? 0 : slot / STATS_STEPS - 1;
	uint64_t step = slot - shift * STATS_STEPS;

	return ((step + 1) << shift) - 1;
}

void stats_served(struct stats *s, gint64 us)
{
	s->asked++;
	s->slots[slot_of((uint64_t)MAX(us, 0))]++;
}

uint64_t stats_percentile(const struct stats *s, unsigned percent)
{
	uint64_t rank = snap_div_up(s->asked * percent, 100), seen = 0;

	for (guint i = 0; i < STATS_SLOTS; i++) {
		seen += s->slots[i];
		if (seen >= rank && seen)
			return slot_end(i);
	}
	return 0;
}

char *stats_line(const struct stats *s, const char *what, uint64_t bytes)
{
	g_autoptr(GString) line = g_string_new(NULL);
	g_autofree char *size = snap_size_format(bytes);

	if (s->resumed)
		g_string_append_printf(
			line,
			"%s after %.1f ms; %" PRIu64 " pages asked for, "
			"service time p50 %" PRIu64 " us, p99 %" PRIu64 " us; ",
			what, (double)(s->resumed - s->begin) / 1e3, s->asked,
			stats_percentile(s, 50), stats_percentile(s, 99));
	g_string_append_printf(line, "%s in %.3f s", size,
			       (double)(g_get_monotonic_time() - s->begin) /
				       1e6);
	return g_string_free(g_steal_pointer(&line), FALSE);
}
