/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/print.h"

#include <json-glib/json-glib.h>
#include <stdio.h>
#include <string.h>

#define GAP 2 /* columns between those of a table */
#define LABEL 16

/* ---- text ---- */

char *snap_print_safe(const char *text)
{
	GString *safe = g_string_sized_new(strlen(text));

	while (*text) {
		gunichar c = g_utf8_get_char_validated(text, -1);
		const char *next;

		if (c >= (gunichar)-2 || g_unichar_iscntrl(c) ||
		    g_unichar_type(c) == G_UNICODE_FORMAT) {
			/* Of a control character, all its bytes. */
			next = c >= (gunichar)-2 ? text + 1
						 : g_utf8_next_char(text);
			for (; text < next; text++)
				g_string_append_printf(safe, "\\x%02x",
						       (guchar)*text);
			continue;
		}
		next = g_utf8_next_char(text);
		g_string_append_len(safe, text, next - text);
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
	/* What was printed before stands before it. */
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
	GPtrArray *rows; /* of GStrv; the first are the headings */
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

/* The columns of a terminal that a text takes. */
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

/* ---- JSON ---- */

struct SnapJson {
	JsonBuilder *builder;
	GByteArray *open; /* what was begun and not ended: '{' or '[' each */
};

static void json_begin(SnapJson *json, const char *key, uint8_t what)
{
	if (key)
		json_builder_set_member_name(json->builder, key);
	if (what == '{')
		json_builder_begin_object(json->builder);
	else
		json_builder_begin_array(json->builder);
	g_byte_array_append(json->open, &what, 1);
}

SnapJson *snap_json_new(void)
{
	SnapJson *json = g_new0(SnapJson, 1);

	json->builder = json_builder_new();
	json->open = g_byte_array_new();
	json_begin(json, NULL, '{');
	return json;
}

void snap_json_free(SnapJson *json)
{
	if (!json)
		return;
	g_object_unref(json->builder);
	g_byte_array_unref(json->open);
	g_free(json);
}

void snap_json_object(SnapJson *json, const char *key)
{
	json_begin(json, key, '{');
}

void snap_json_list(SnapJson *json, const char *key)
{
	json_begin(json, key, '[');
}

void snap_json_end(SnapJson *json)
{
	if (json->open->data[json->open->len - 1] == '{')
		json_builder_end_object(json->builder);
	else
		json_builder_end_array(json->builder);
	g_byte_array_set_size(json->open, json->open->len - 1);
}

void snap_json_text(SnapJson *json, const char *key, const char *value)
{
	g_autofree char *safe = snap_print_safe(value);

	if (key)
		json_builder_set_member_name(json->builder, key);
	json_builder_add_string_value(json->builder, safe);
}

void snap_json_number(SnapJson *json, const char *key, uint64_t value)
{
	if (key)
		json_builder_set_member_name(json->builder, key);
	json_builder_add_int_value(json->builder,
				   (gint64)MIN(value, (uint64_t)G_MAXINT64));
}

void snap_json_bool(SnapJson *json, const char *key, bool value)
{
	if (key)
		json_builder_set_member_name(json->builder, key);
	json_builder_add_boolean_value(json->builder, value);
}

void snap_json_name(SnapJson *json, const char *key, const char *value)
{
	if (!g_utf8_validate(value, -1, NULL)) {
		g_autofree char *base64 =
			g_base64_encode((const guchar *)value, strlen(value));
		g_autofree char *more = g_strconcat(key, "_base64", NULL);

		snap_json_text(json, key, value);
		snap_json_text(json, more, base64);
		return;
	}
	/* JSON has its own way to write control characters. */
	json_builder_set_member_name(json->builder, key);
	json_builder_add_string_value(json->builder, value);
}

void snap_json_print(SnapJson *json)
{
	g_autoptr(JsonGenerator) generator = json_generator_new();
	g_autoptr(JsonNode) root = NULL;
	g_autofree char *text = NULL;

	while (json->open->len)
		snap_json_end(json);
	root = json_builder_get_root(json->builder);
	json_generator_set_root(generator, root);
	json_generator_set_pretty(generator, TRUE);
	text = json_generator_to_data(generator, NULL);
	printf("%s\n", text);
}
