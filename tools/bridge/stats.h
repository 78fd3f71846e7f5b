/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the bridge says of itself when it ends. */
#pragma once

#include <glib.h>
#include <stdint.h>

#define STATS_STEPS 16u
#define STATS_SLOTS (40u * STATS_STEPS)

struct stats {
	gint64 begin;	/* of the process's work; microseconds */
	gint64 resumed; /* 0, or when the guest ran */
	uint64_t asked; /* pages asked for and sent */
	uint64_t slots[STATS_SLOTS];
};

/* Begins to count. */
void stats_begin(struct stats *s);

/* A page was sent `us` after it was asked for. */
void stats_served(struct stats *s, gint64 us);

/* The service time that `percent` of the pages did not exceed, to 1/16. */
uint64_t stats_percentile(const struct stats *s, unsigned percent);

/* The line for the end. `what` names what `resumed` is the time of. */
char *stats_line(const struct stats *s, const char *what, uint64_t bytes);
