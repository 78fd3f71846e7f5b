/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/base/metrics.h"

#include <string.h>

/* What a text fits in beside its labels, and how many of them it has at most;
 * a longer one takes a multiple of that. */
#define FILLED_TO 8192u
#define LABELS_MAX 64u

struct SnapMetrics {
	GString *text;
	GString *label;
	const char *prefix;
};

/* A label's value is UTF-8, and three characters in it are escaped ("Comments,
 * help text, and type information" on that page). */
SnapMetrics *snap_metrics_new(const char *prefix, const char *label,
			      const char *value)
{
	g_autofree char *valid = g_utf8_make_valid(value, -1);
	SnapMetrics *m = g_new(SnapMetrics, 1);

	m->text = g_string_new(NULL);
	m->label = g_string_new(label);
	m->prefix = prefix;
	g_string_append(m->label, "=\"");
	for (const char *p = valid; *p; p++) {
		if (strchr("\\\"\n", *p))
			g_string_append_c(m->label, '\\');
		g_string_append_c(m->label, *p == '\n' ? 'n' : *p);
	}
	g_string_append_c(m->label, '"');
	return m;
}

void snap_metrics_head(SnapMetrics *m, const char *name, const char *type,
		       const char *help)
{
	g_string_append_printf(m->text, "# HELP %s_%s %s\n# TYPE %s_%s %s\n",
			       m->prefix, name, help, m->prefix, name, type);
}

void snap_metrics_value(SnapMetrics *m, const char *name, const char *more,
			uint64_t value)
{
	g_string_append_printf(m->text, "%s_%s{%s%s} %" G_GUINT64_FORMAT "\n",
			       m->prefix, name, more, m->label->str, value);
}

void snap_metrics_put(SnapMetrics *m, const char *name, const char *type,
		      const char *help, uint64_t value)
{
	snap_metrics_head(m, name, type, help);
	snap_metrics_value(m, name, "", value);
}

/* A program that copies a file asks for its size, and then reads that many
 * bytes of a text that was made at another moment. */
void snap_metrics_end(SnapMetrics *m, GString *ret)
{
	gsize step = FILLED_TO + LABELS_MAX * m->label->len;
	gsize size = (m->text->len + 2 + step - 1) / step * step;

	g_string_append_c(m->text, '#');
	while (m->text->len < size - 1)
		g_string_append_c(m->text, ' ');
	g_string_append_c(m->text, '\n');
	g_string_append_len(ret, m->text->str, (gssize)m->text->len);
	g_string_free(m->text, TRUE);
	g_string_free(m->label, TRUE);
	g_free(m);
}
