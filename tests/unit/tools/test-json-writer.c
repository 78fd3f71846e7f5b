/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tools/cli/json-writer.h"

static void objects_and_lists_are_indented(void **state)
{
	g_autoptr(SnapJsonWriter) w = snap_json_writer_new();
	g_autofree char *text = NULL;

	snap_json_writer_number(w, "n", UINT64_MAX);
	snap_json_writer_list(w, "none");
	snap_json_writer_end(w);
	snap_json_writer_list(w, "list");
	snap_json_writer_text(w, NULL, "a");
	snap_json_writer_object(w, NULL);
	snap_json_writer_bool(w, "yes", true);
	snap_json_writer_end(w);
	snap_json_writer_end(w);
	snap_json_writer_bool(w, "no", false);
	text = snap_json_writer_finish(w);
	assert_string_equal(text, "{\n"
				  "  \"n\": 18446744073709551615,\n"
				  "  \"none\": [],\n"
				  "  \"list\": [\n"
				  "    \"a\",\n"
				  "    {\n"
				  "      \"yes\": true\n"
				  "    }\n"
				  "  ],\n"
				  "  \"no\": false\n"
				  "}\n");
}

static void what_is_open_at_the_end_is_closed(void **state)
{
	g_autoptr(SnapJsonWriter) w = snap_json_writer_new();
	g_autofree char *text = NULL;

	snap_json_writer_list(w, "a");
	snap_json_writer_object(w, NULL);
	text = snap_json_writer_finish(w);
	assert_string_equal(text, "{\n  \"a\": [\n    {}\n  ]\n}\n");
}

static void no_character_reaches_a_terminal_as_a_command(void **state)
{
	g_autoptr(SnapJsonWriter) w = snap_json_writer_new();
	g_autofree char *text = NULL;

	/* A quote, a backslash, ESC, CSI, a change of direction, a tag. */
	snap_json_writer_text(w, "a\n",
			      "\"\\\x1b\xc2\x9b\xe2\x80\xae\xf3\xa0\x80\x81"
			      "\xc3\xa9");
	text = snap_json_writer_finish(w);
	assert_string_equal(text,
			    "{\n  \"a\\u000a\": \"\\\"\\\\\\u001b"
			    "\\u009b\\u202e\\udb40\\udc01\xc3\xa9\"\n}\n");
}

static void a_name_that_is_not_utf8_keeps_its_bytes(void **state)
{
	g_autoptr(SnapJsonWriter) w = snap_json_writer_new();
	g_autofree char *text = NULL;

	snap_json_writer_name(w, "name", "a\xff");
	text = snap_json_writer_finish(w);
	assert_string_equal(text, "{\n  \"name\": \"a\\\\xff\",\n"
				  "  \"name_base64\": \"Yf8=\"\n}\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_and_lists_are_indented),
		cmocka_unit_test(what_is_open_at_the_end_is_closed),
		cmocka_unit_test(no_character_reaches_a_terminal_as_a_command),
		cmocka_unit_test(a_name_that_is_not_utf8_keeps_its_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
