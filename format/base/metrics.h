/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Numbers in the text format of Prometheus
 * (prometheus.io/docs/instrumenting/exposition_formats).
 *
 * Each has a label that tells it from that of another program of the same kind:
 * what gathers numbers takes no two of one name and the same labels.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

typedef struct SnapMetrics SnapMetrics;

/* Begins a text, of names that begin with `prefix` and '_'. */
SnapMetrics *snap_metrics_new(const char *prefix, const char *label,
			      const char *value);

/* Begins a name: its type, and a sentence about it. */
void snap_metrics_head(SnapMetrics *m, const char *name, const char *type,
		       const char *help);

/* Adds a value of the name; `more` is another label with a comma behind it, or
 * "". */
void snap_metrics_value(SnapMetrics *m, const char *name, const char *more,
			uint64_t value);

/* Adds a name that has one value. */
void snap_metrics_put(SnapMetrics *m, const char *name, const char *type,
		      const char *help, uint64_t value);

/* Ends the text, appends it to `ret`, and frees it. Its size stays the same as
 * the numbers in it grow: a comment fills it up. */
void snap_metrics_end(SnapMetrics *m, GString *ret);
