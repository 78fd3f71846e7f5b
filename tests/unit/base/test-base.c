/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What everything stands on: integers in bytes, sizes, sums, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "format/base/bytes.h"
#include "format/base/crc32c.h"
#include "format/base/error.h"
#include "format/base/units.h"
#include "format/base/zero.h"

static void reads_integers_in_the_order_of_their_type(void **state)
{
	static const uint8_t bytes[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	struct snap_cursor c = snap_cursor(bytes, sizeof(bytes));
	be64 big;
	le32 little;

	assert_true(snap_cursor_copy(&c, &big, sizeof(big)));
	assert_int_equal(snap_be64(big), 0x0102030405060708);
	c = snap_cursor(bytes, sizeof(bytes));
	assert_true(snap_cursor_copy(&c, &little, sizeof(little)));
	assert_int_equal(snap_le32(little), 0x04030201);
	little = snap_to_le32(0x04030201);
	assert_memory_equal(&little, bytes, 4);
}

static void a_cursor_never_leaves_its_bounds(void **state)
{
	struct snap_cursor c = snap_cursor("abc", 3);
	char two[2];

	assert_true(snap_cursor_copy(&c, two, 2));
	assert_false(snap_cursor_copy(&c, two, 2));
	assert_null(snap_cursor_take(&c, SIZE_MAX));
	assert_int_equal(snap_cursor_left(&c), 1);
}

/* RFC 3720, B.4: the examples of the standard. */
static void crc32c_gives_the_standard_s_examples(void **state)
{
	uint8_t zeros[32] = { 0 }, ones[32], up[32];

	memset(ones, 0xff, sizeof(ones));
	for (int i = 0; i < 32; i++)
		up[i] = (uint8_t)i;
	assert_int_equal(snap_crc32c(0, zeros, 32), 0x8a9136aa);
	assert_int_equal(snap_crc32c(0, ones, 32), 0x62a8ab43);
	assert_int_equal(snap_crc32c(0, up, 32), 0x46dd794e);
	assert_int_equal(snap_crc32c_table(0, up, 32), 0x46dd794e);
}

static void crc32c_by_instruction_is_crc32c_by_table(void **state)
{
	uint8_t data[257];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 167 + (i >> 3));
	for (size_t n = 0; n <= sizeof(data); n++) {
		uint32_t parts = snap_crc32c(0, data, n / 3);

		parts = snap_crc32c(parts, data + n / 3, n - n / 3);
		assert_int_equal(snap_crc32c(0, data, n),
				 snap_crc32c_table(0, data, n));
		assert_int_equal(parts, snap_crc32c(0, data, n));
	}
}

static void reads_sizes_as_people_write_them(void **state)
{
	static const struct {
		const char *text;
		uint64_t size;
	} good[] = { { "0", 0 },	   { "4096", 4096 },
		     { "64k", 64 << 10 },  { "64M", 64 << 20 },
		     { "3g", 3ull << 30 }, { "2T", 2ull << 40 } };
	static const char *const bad[] = { "",
					   "m",
					   "-1",
					   "1x",
					   "1mm",
					   "1.5g",
					   " 1",
					   "1 ",
					   "99999999999999999999",
					   "18446744073709551615k" };
	uint64_t size;

	for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
		assert_int_equal(snap_size_parse(good[i].text, &size, NULL), 0);
		assert_int_equal(size, good[i].size);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;

		size = 7;
		assert_int_equal(snap_size_parse(bad[i], &size, &error),
				 -EINVAL);
		assert_non_null(error);
		assert_int_equal(size, 7);
	}
}

static void writes_sizes_as_people_read_them(void **state)
{
	static const struct {
		uint64_t size;
		const char *text;
	} all[] = { { 0, "0 B" },
		    { 1023, "1023 B" },
		    { 1024, "1.00 KiB" },
		    { 1536, "1.50 KiB" },
		    { 64 << 20, "64.0 MiB" },
		    { 999ull << 20, "999 MiB" },
		    { 1000ull << 20, "0.98 GiB" },
		    { 3ull << 40, "3.00 TiB" },
		    { UINT64_MAX, "16.0 EiB" } };

	for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
		g_autofree char *text = snap_size_format(all[i].size);

		assert_string_equal(text, all[i].text);
	}
}

static void a_page_of_one_byte_is_a_fill(void **state)
{
	uint8_t page[SNAP_PAGE];

	memset(page, 0, sizeof(page));
	assert_true(snap_is_zero(page, sizeof(page)));
	memset(page, 0xff, sizeof(page));
	assert_true(snap_is_fill(page, sizeof(page)));
	assert_false(snap_is_zero(page, sizeof(page)));
	for (size_t i = 0; i < sizeof(page); i++) {
		page[i] ^= 1;
		assert_false(snap_is_fill(page, sizeof(page)));
		page[i] ^= 1;
	}
}

static void an_error_carries_the_errno_and_the_sentence(void **state)
{
	GError *error = NULL;

	assert_int_equal(snap_fail(&error, EPROTO, "offset %d", 7), -EPROTO);
	assert_int_equal(error->code, EPROTO);
	assert_string_equal(error->message, "offset 7");
	assert_int_equal(snap_fail_prefix(&error, -EPROTO, "vm%d", 1), -EPROTO);
	assert_string_equal(error->message, "vm1: offset 7");
	g_clear_error(&error);
	assert_int_equal(snap_fail(NULL, EPROTO, "nobody listens"), -EPROTO);
	snap_fail_errno(&error, ENOENT, "/nowhere");
	assert_string_equal(error->message,
			    "/nowhere: No such file or directory");
	g_clear_error(&error);
}

static void zeros_are_counted_from_both_ends(void **state)
{
	static uint8_t bytes[3 * SNAP_PAGE];
	static const size_t places[] = { 0,    1,    15,   16,
					 4095, 4096, 4097, sizeof(bytes) - 1 };

	assert_int_equal(snap_zeros_before(bytes, sizeof(bytes)),
			 sizeof(bytes));
	assert_int_equal(snap_zeros_behind(bytes, sizeof(bytes)),
			 sizeof(bytes));
	assert_int_equal(snap_zeros_before(bytes, 0), 0);
	assert_int_equal(snap_zeros_behind(bytes, 0), 0);
	for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
		size_t at = places[i];

		bytes[at] = 1;
		for (size_t size = at + 1; size <= sizeof(bytes); size += 100) {
			assert_int_equal(snap_zeros_before(bytes, size), at);
			assert_int_equal(snap_zeros_behind(bytes, size),
					 size - at - 1);
		}
		bytes[at] = 0;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeros_are_counted_from_both_ends),
		cmocka_unit_test(reads_integers_in_the_order_of_their_type),
		cmocka_unit_test(a_cursor_never_leaves_its_bounds),
		cmocka_unit_test(crc32c_gives_the_standard_s_examples),
		cmocka_unit_test(crc32c_by_instruction_is_crc32c_by_table),
		cmocka_unit_test(reads_sizes_as_people_write_them),
		cmocka_unit_test(writes_sizes_as_people_read_them),
		cmocka_unit_test(a_page_of_one_byte_is_a_fill),
		cmocka_unit_test(an_error_carries_the_errno_and_the_sentence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
