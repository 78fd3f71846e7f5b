/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The end of the device state is found among any bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "format/qemu/tail-internal.h"
#include "format/qemu/wire.h"
#include "tests/lib/stream.h"

#define TEXT "{\"devices\":[{\"name\":\"{\"}]}"

/* The result for `s`, fed `step` bytes at a time (0: at once). */
static bool described(const GByteArray *s, size_t step)
{
	struct snap_tail t = { 0 };

	for (size_t at = 0; at < s->len;) {
		size_t n = step ? MIN(step, s->len - at) : s->len;
		g_autofree uint8_t *copy = g_memdup2(s->data + at, n);

		snap_tail_see(&t, copy, n);
		at += n;
	}
	return snap_tail_described(&t);
}

static bool ended(const GByteArray *s, size_t step)
{
	struct snap_tail t = { 0 };

	for (size_t at = 0; at < s->len; at += MIN(step, s->len - at))
		snap_tail_see(&t, s->data + at, MIN(step, s->len - at));
	return snap_tail_ended(&t);
}

/* Frees `s`; the result is the same at any cut. */
static void expect(GByteArray *s, bool verdict)
{
	for (size_t step = 0; step <= s->len; step++)
		assert_int_equal(described(s, step), verdict);
	g_byte_array_unref(s);
}

static void finds_a_description(void **state)
{
	GByteArray *s = g_byte_array_new();

	stream_description(s, TEXT);
	expect(s, true);
	s = g_byte_array_new();
	stream_device(s, 7, "cpu", "a long state", 13, true);
	stream_description(s, TEXT);
	expect(s, true);
}

/* QEMU earlier than 6.0 writes a space after the brace. */
static void finds_an_old_description(void **state)
{
	GByteArray *s = g_byte_array_new();

	stream_description(s, "{ \"page_size\": 4096, \"devices\": [\n]}");
	expect(s, true);
}

static void wants_the_length_to_end_at_the_end(void **state)
{
	for (int off = -3; off <= 3; off++) {
		GByteArray *s = g_byte_array_new();

		stream_byte(s, WIRE_EOF);
		stream_byte(s, WIRE_DESCRIPTION);
		stream_be32(s, (uint32_t)((int)strlen(TEXT) + off));
		stream_bytes(s, TEXT, strlen(TEXT));
		expect(s, off == 0);
	}
}

static void wants_text(void **state)
{
	GByteArray *s = g_byte_array_new();

	stream_description(s, "{\"a\":\"\x01\"}");
	expect(s, false);
	s = g_byte_array_new();
	stream_description(s, "{}");
	expect(s, false);
	s = g_byte_array_new();
	stream_description(s, "{\"a\":1]");
	expect(s, false);
}

/* The last section has the id 6, so 00 00 00 06 precedes 00 06. A length looks
 * like a beginning. */
static void is_not_misled_by_earlier_bytes(void **state)
{
	for (uint32_t id = 0; id < 0x10000; id += id < 16 ? 1 : 0x7b) {
		GByteArray *s = g_byte_array_new();

		stream_footer(s, id);
		stream_description(s, TEXT);
		assert_true(described(s, 0));
		assert_true(described(s, 1));
		g_byte_array_unref(s);
	}
	for (uint32_t size = 0x7b20; size <= 0x7b24; size++) {
		g_autofree char *text = g_strnfill(size, 'x');
		GByteArray *s = g_byte_array_new();

		text[0] = '{';
		text[1] = '"';
		text[size - 1] = '}';
		stream_footer(s, 6);
		stream_description(s, text);
		assert_true(described(s, 0));
		assert_true(described(s, 1));
		assert_true(described(s, 4096));
		g_byte_array_unref(s);
	}
}

/* Device state full of beginnings: long, short and nested ones. */
static void is_not_misled_by_false_beginnings(void **state)
{
	GByteArray *s = g_byte_array_new();

	for (uint32_t i = 0; i < 40; i++) {
		stream_byte(s, WIRE_EOF);
		stream_byte(s, WIRE_DESCRIPTION);
		stream_be32(s, i % 3 ? i : UINT32_MAX - i);
		stream_bytes(s, "{\" some text }", i % 15);
	}
	stream_description(s, TEXT);
	expect(s, true);
}

static void a_description_inside_the_state_is_not_the_end(void **state)
{
	GByteArray *s = g_byte_array_new();

	stream_description(s, TEXT);
	stream_bytes(s, "more", 4);
	for (size_t i = 0; i < 30; i++) {
		assert_false(described(s, 0));
		stream_byte(s, '}');
	}
	stream_description(s, TEXT);
	assert_true(described(s, 0));
	g_byte_array_unref(s);
}

static void finds_the_end_mark_after_a_footer(void **state)
{
	GByteArray *s = g_byte_array_new();

	stream_device(s, 300, "cpu", "a long state", 13, true);
	for (size_t step = 1; step < s->len; step++)
		assert_false(ended(s, step));
	stream_byte(s, WIRE_EOF);
	for (size_t step = 1; step < s->len; step++)
		assert_true(ended(s, step));
	stream_byte(s, WIRE_EOF);
	assert_false(ended(s, 1000));
	g_byte_array_unref(s);
}

static void wants_the_footer_of_a_section_that_was_there(void **state)
{
	GByteArray *s = g_byte_array_new();

	stream_device(s, 300, "cpu", "a long state", 13, false);
	stream_footer(s, 301);
	stream_byte(s, WIRE_EOF);
	assert_false(ended(s, 1000));
	assert_false(ended(s, 1));
	g_byte_array_unref(s);
}

/* Every byte costs the same, whatever the bytes are. */
static void takes_hostile_bytes_in_one_pass(void **state)
{
	const size_t size = 8 << 20;
	g_autofree uint8_t *data = g_malloc(size);
	struct snap_tail t = { 0 };

	for (size_t i = 0; i + 8 <= size; i += 8)
		memcpy(data + i, "\x00\x06\x00\x00\x7b\x22{}", 8);
	for (size_t at = 0; at < size; at += 8)
		snap_tail_see(&t, data + at, 8);
	assert_int_equal(t.at, size);
	assert_false(snap_tail_described(&t));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_a_description),
		cmocka_unit_test(finds_an_old_description),
		cmocka_unit_test(wants_the_length_to_end_at_the_end),
		cmocka_unit_test(wants_text),
		cmocka_unit_test(is_not_misled_by_earlier_bytes),
		cmocka_unit_test(is_not_misled_by_false_beginnings),
		cmocka_unit_test(a_description_inside_the_state_is_not_the_end),
		cmocka_unit_test(finds_the_end_mark_after_a_footer),
		cmocka_unit_test(wants_the_footer_of_a_section_that_was_there),
		cmocka_unit_test(takes_hostile_bytes_in_one_pass),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
