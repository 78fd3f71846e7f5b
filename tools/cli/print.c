/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/cli/print.h"

#include <stdio.h>
#include <string.h>

#define GAP 2	 /* columns of space between two cells */
#define LABEL 16 /* columns of a field's label */

/* ---- text ---- */

bool snap_print_is_control(gunichar c)
{
	return g_unichar_iscntrl(c) || g_unichar_type(c) == G_UNICODE_FORMAT;
}

char *snap_print_safe(const char *text)
{
	GString *safe = g_string_sized_new(strlen(text));

	while (*text) {
		gunichar c = g_utf8_get_char_validated(text, -1);
		bool valid = c < (gunichar)-2;
		const char *next = valid ? g_utf8_next_char(text) : text + 1;

		if (valid && !snap_print_is_control(c))
			g_string_append_len(safe, text, next - text);
		else
			for (const char *at = text; at < next; at++)
				g_string_append_printf(safe, "\\x%02x",
						       (guchar)*at);
		text = next;
	}
	return g_string_free(safe, FALSE);
}

void snap_print_error(const char *format, ...)
{
	g_autofree char *text = NULL, *safe = NULL;
	va_list args;

	va_start(args, format);
	text = g_strdup_vprintf(format, args);
	va_end(args);
	safe = snap_print_safe(text);
	/* Keeps the order of the two outputs. */
	fflush(stdout);
	fprintf(stderr, "snapfs: %s\n", safe);
}

void snap_print_field(const char *label, const char *format, ...)
{
	g_autofree char *text = NULL, *safe = NULL;
	g_autofree char *marked = g_strconcat(label, ":", NULL);
	va_list args;

	va_start(args, format);
	text = g_strdup_vprintf(format, args);
	va_end(args);
	safe = snap_print_safe(text);
	printf("%-*s %s\n", LABEL, marked, safe);
}

static char *format_time(uint64_t ns, bool utc, const char *format)
{
	gint64 seconds = (gint64)(ns / 1000000000);
	g_autoptr(GDateTime) time =
		utc ? g_date_time_new_from_unix_utc(seconds)
		    : g_date_time_new_from_unix_local(seconds);

	return time ? g_date_time_format(time, format) : g_strdup("-");
}

char *snap_print_time(uint64_t ns)
{
	return format_time(ns, false, "%Y-%m-%d %H:%M:%S");
}

char *snap_print_time_iso(uint64_t ns)
{
	return format_time(ns, true, "%Y-%m-%dT%H:%M:%SZ");
}

char *snap_print_ratio(uint64_t large, uint64_t small)
{
	if (!large || !small)
		return g_strdup("-");
	return g_strdup_printf("%.2f", (double)large / (double)small);
}

/* ---- tables ---- */

struct SnapTable {
	guint columns;
	GPtrArray *rows; /* of GStrv; row 0 holds the headings */
};

SnapTable *snap_table_new(const char *const *headings)
{
	SnapTable *table = g_new0(SnapTable, 1);

	while (headings[table->columns])
		table->columns++;
	table->rows =
		g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
	snap_table_add(table, headings);
	return table;
}

void snap_table_free(SnapTable *table)
{
	if (!table)
		return;
	g_ptr_array_free(table->rows, TRUE);
	g_free(table);
}

void snap_table_add(SnapTable *table, const char *const *cells)
{
	char **row = g_new0(char *, table->columns + 1);

	for (guint i = 0; i < table->columns; i++)
		row[i] = snap_print_safe(cells[i]);
	g_ptr_array_add(table->rows, row);
}

guint snap_table_rows(const SnapTable *table)
{
	return table->rows->len - 1;
}

/* Counts the terminal columns of a text. */
static guint text_width(const char *text)
{
	guint width = 0;

	for (; *text; text = g_utf8_next_char(text)) {
		gunichar c = g_utf8_get_char(text);

		if (!g_unichar_iszerowidth(c))
			width += g_unichar_iswide(c) ? 2 : 1;
	}
	return width;
}

static guint column_width(const SnapTable *table, guint column)
{
	guint width = 0;

	for (guint i = 0; i < table->rows->len; i++) {
		const char *text = ((char **)table->rows->pdata[i])[column];

		width = MAX(width, text_width(text + (i == 0 && *text == '>')));
	}
	return width;
}

static void print_row(const SnapTable *table, guint row, const guint *widths)
{
	char **headings = table->rows->pdata[0];
	char **cells = table->rows->pdata[row];

	for (guint i = 0; i < table->columns; i++) {
		bool right = headings[i][0] == '>';
		const char *text = cells[i] + (right && row == 0);
		guint pad = widths[i] - text_width(text);
		bool last = i == table->columns - 1;

		printf("%*s%s%*s", right ? (int)pad : 0, "", text,
		       last ? 0 : (right ? 0 : (int)pad) + GAP, "");
	}
	putchar('\n');
}

void snap_table_print(const SnapTable *table)
{
	g_autofree guint *widths = g_new(guint, table->columns);

	for (guint i = 0; i < table->columns; i++)
		widths[i] = column_width(table, i);
	for (guint i = 0; i < table->rows->len; i++)
		print_row(table, i, widths);
}
