/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Characters that a terminal could take for a command are written as \uNNNN, so
 * the document may be shown as it is.
 */
#include "tools/cli/json-writer.h"

#include <inttypes.h>
#include <string.h>

#include "tools/cli/print.h"

struct SnapJsonWriter {
	GString *text;
	GString *open; /* the closing brackets to come, the next one last */
	bool first;    /* nothing stands in the innermost object or list yet */
};

SnapJsonWriter *snap_json_writer_new(void)
{
	SnapJsonWriter *w = g_new0(SnapJsonWriter, 1);

	w->text = g_string_new("{");
	w->open = g_string_new("}");
	w->first = true;
	return w;
}

void snap_json_writer_free(SnapJsonWriter *w)
{
	if (!w)
		return;
	g_string_free(w->text, TRUE);
	g_string_free(w->open, TRUE);
	g_free(w);
}

static void add_line(SnapJsonWriter *w)
{
	g_string_append_printf(w->text, "\n%*s", (int)w->open->len * 2, "");
}

static void add_quoted(SnapJsonWriter *w, const char *value)
{
	g_string_append_c(w->text, '"');
	for (; *value; value = g_utf8_next_char(value)) {
		gunichar c = g_utf8_get_char(value);

		if (c == '"' || c == '\\')
			g_string_append_printf(w->text, "\\%c", (char)c);
		else if (!snap_print_is_control(c))
			g_string_append_unichar(w->text, c);
		else if (c < 0x10000)
			g_string_append_printf(w->text, "\\u%04x", c);
		else
			g_string_append_printf(w->text, "\\u%04x\\u%04x",
					       0xd7c0 + (c >> 10),
					       0xdc00 + (c & 0x3ff));
	}
	g_string_append_c(w->text, '"');
}

/* Writes what stands before a value. */
static void begin_value(SnapJsonWriter *w, const char *key)
{
	if (!w->first)
		g_string_append_c(w->text, ',');
	w->first = false;
	add_line(w);
	if (!key)
		return;
	add_quoted(w, key);
	g_string_append(w->text, ": ");
}

void snap_json_writer_text(SnapJsonWriter *w, const char *key,
			   const char *value)
{
	g_autofree char *safe = g_utf8_validate(value, -1, NULL)
					? NULL
					: snap_print_safe(value);

	begin_value(w, key);
	add_quoted(w, safe ? safe : value);
}

void snap_json_writer_name(SnapJsonWriter *w, const char *key,
			   const char *value)
{
	g_autofree char *base64 = NULL, *more = NULL;

	snap_json_writer_text(w, key, value);
	if (g_utf8_validate(value, -1, NULL))
		return;
	base64 = g_base64_encode((const guchar *)value, strlen(value));
	more = g_strconcat(key, "_base64", NULL);
	snap_json_writer_text(w, more, base64);
}

void snap_json_writer_number(SnapJsonWriter *w, const char *key, uint64_t value)
{
	begin_value(w, key);
	g_string_append_printf(w->text, "%" PRIu64, value);
}

void snap_json_writer_bool(SnapJsonWriter *w, const char *key, bool value)
{
	begin_value(w, key);
	g_string_append(w->text, value ? "true" : "false");
}

static void open_bracket(SnapJsonWriter *w, const char *key, char begin,
			 char end)
{
	begin_value(w, key);
	g_string_append_c(w->text, begin);
	g_string_append_c(w->open, end);
	w->first = true;
}

void snap_json_writer_object(SnapJsonWriter *w, const char *key)
{
	open_bracket(w, key, '{', '}');
}

void snap_json_writer_list(SnapJsonWriter *w, const char *key)
{
	open_bracket(w, key, '[', ']');
}

void snap_json_writer_end(SnapJsonWriter *w)
{
	char bracket = w->open->str[w->open->len - 1];

	g_string_truncate(w->open, w->open->len - 1);
	if (!w->first)
		add_line(w);
	g_string_append_c(w->text, bracket);
	w->first = false;
}

char *snap_json_writer_finish(SnapJsonWriter *w)
{
	while (w->open->len)
		snap_json_writer_end(w);
	g_string_append_c(w->text, '\n');
	return g_strdup(w->text->str);
}
