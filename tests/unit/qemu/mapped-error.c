/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Damaged and hostile mapped-ram streams, each with its error, and descriptions
 * that no layout can be made of. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "format/base/error.h"
#include "format/base/units.h"
#include "format/qemu/wire.h"
#include "tests/unit/qemu/forms.h"

#define PAGE 4096u

/* The offset of the stream in its file. */
#define BEGIN 1000u

/* Feeds `s`, which it frees, and expects that error at every cut. */
static void refuses(GByteArray *s, int code, const char *sentence)
{
	struct stream_split whole, cut;

	stream_split_at(&whole, s->data, s->len, BEGIN, 0, 0);
	assert_int_equal(whole.r, -code);
	assert_string_equal(whole.error, sentence);
	assert_int_equal(whole.end, -code);
	assert_false(whole.complete);
	for (size_t step = 1; step < 20; step += 3) {
		stream_split_at(&cut, s->data, s->len, BEGIN, 0, step);
		assert_true(stream_split_equal(&whole, &cut));
		stream_split_clear(&cut);
	}
	stream_split_clear(&whole);
	g_byte_array_unref(s);
}

/* Up to the list of capabilities: 1000 + 15 bytes. */
static GByteArray *begin(void)
{
	GByteArray *s = g_byte_array_new();

	g_byte_array_set_size(s, BEGIN);
	memset(s->data, 0, BEGIN);
	stream_magic(s);
	stream_configuration(s, "pc");
	return s;
}

static GByteArray *begin_caps(uint32_t n, const char *const *names)
{
	GByteArray *s = begin();

	stream_subsection(s, WIRE_CONFIG_CAPS);
	stream_be32(s, n);
	for (; *names; names++)
		stream_str8(s, *names);
	return s;
}

#define CAPS(n, ...) begin_caps(n, (const char *const[]){ __VA_ARGS__, NULL })

/* Up to a block's header: 1015 + 36 + 11 + 17 + 8 + 15 = 1102 bytes; with
 * `shared`, 16 of a capability and 8 of an address more. */
static GByteArray *begin_header(uint64_t length, bool shared)
{
	GByteArray *s =
		shared ? CAPS(2, WIRE_CAP_IGNORE_SHARED, WIRE_CAP_MAPPED_RAM)
		       : CAPS(1, WIRE_CAP_MAPPED_RAM);

	stream_start(s, WIRE_SECTION_START, 1, WIRE_RAM, WIRE_RAM_VERSION);
	stream_total(s, length);
	stream_block(s, "pc.ram", length);
	if (shared)
		stream_be64(s, 0);
	return s;
}

static void refuses_header(uint64_t length, uint32_t version, uint64_t page,
			   uint64_t bitmap, uint64_t pages, int code,
			   const char *sentence)
{
	GByteArray *s = begin_header(length, false);

	stream_mapped_header(s, version, page, bitmap, pages);
	refuses(s, code, sentence);
}

static void refuses_an_impossible_list_of_capabilities(void **state)
{
	g_autofree char *name = g_strnfill(255, 'x');
	g_autofree char *sentence = g_strdup_printf(
		"offset 1015: capability \"%s\" has an unknown effect on the "
		"stream; such a guest cannot be saved with mapped-ram",
		name);
	GByteArray *s;

	refuses(CAPS(0, NULL), EPROTO,
		"offset 1015: a list of 0 capabilities; 1 to 64 are possible");
	refuses(CAPS(65, NULL), EPROTO,
		"offset 1015: a list of 65 capabilities; 1 to 64 are possible");
	refuses(CAPS(2, WIRE_CAP_MAPPED_RAM, WIRE_CAP_MAPPED_RAM), EPROTO,
		"offset 1015: capabilities are listed twice");
	refuses(CAPS(2, WIRE_CAP_IGNORE_SHARED, WIRE_CAP_IGNORE_SHARED), EPROTO,
		"offset 1015: capabilities are listed twice");
	s = CAPS(1, WIRE_CAP_MAPPED_RAM);
	stream_subsection(s, WIRE_CONFIG_CAPS);
	stream_be32(s, 1);
	stream_str8(s, WIRE_CAP_MAPPED_RAM);
	refuses(s, EPROTO, "offset 1062: capabilities are listed twice");

	s = CAPS(64, NULL);
	for (int i = 0; i < 63; i++)
		stream_str8(s, name);
	stream_str8(s, WIRE_CAP_MAPPED_RAM);
	refuses(s, EOPNOTSUPP, sentence);
}

static void refuses_what_it_could_only_keep_verbatim(void **state)
{
	GByteArray *s = CAPS(2, "x-new", WIRE_CAP_MAPPED_RAM);

	refuses(s, EOPNOTSUPP,
		"offset 1015: capability \"x-new\" has an unknown effect on "
		"the stream; such a guest cannot be saved with mapped-ram");
	s = CAPS(1, WIRE_CAP_MAPPED_RAM);
	stream_start(s, WIRE_SECTION_START, 9, "vfio", 1);
	refuses(s, EOPNOTSUPP,
		"offset 1062: section \"vfio\" (version 1) is of unknown "
		"length; such a guest cannot be saved with mapped-ram");
	s = CAPS(1, WIRE_CAP_MAPPED_RAM);
	stream_device(s, 9, "early", "x", 1, true);
	refuses(s, EOPNOTSUPP,
		"offset 1062: section \"early\" is of unknown length and "
		"precedes the guest's memory; such a guest cannot be "
		"saved with mapped-ram");
}

static void refuses_a_header_of_another_version(void **state)
{
	refuses_header(PAGE, 2, PAGE, 1130, PAGE, EOPNOTSUPP,
		       "offset 1102: RAM block pc.ram: a mapped-ram header of "
		       "version 2, only 1 is known");
	refuses_header(PAGE, 0, PAGE, 1130, PAGE, EOPNOTSUPP,
		       "offset 1102: RAM block pc.ram: a mapped-ram header of "
		       "version 0, only 1 is known");
	refuses_header(PAGE, UINT32_MAX, PAGE, 1130, PAGE, EOPNOTSUPP,
		       "offset 1102: RAM block pc.ram: a mapped-ram header of "
		       "version 4294967295, only 1 is known");
}

static void refuses_a_header_of_other_pages(void **state)
{
	refuses_header(PAGE, 1, 2 * PAGE, 1130, PAGE, EPROTO,
		       "offset 1102: RAM block pc.ram: mapped pages of 8192 "
		       "bytes, but the target page has 4096");
	refuses_header(PAGE, 1, 0, 1130, PAGE, EPROTO,
		       "offset 1102: RAM block pc.ram: mapped pages of 0 "
		       "bytes, but the target page has 4096");
}

static void refuses_parts_that_overlap(void **state)
{
	refuses_header(PAGE, 1, PAGE, 1129, PAGE, EPROTO,
		       "offset 1102: RAM block pc.ram: its bitmap at 0x469 "
		       "begins before its header ends (0x46a)");
	refuses_header(PAGE, 1, PAGE, 0, PAGE, EPROTO,
		       "offset 1102: RAM block pc.ram: its bitmap at 0x0 "
		       "begins before its header ends (0x46a)");
	refuses_header(65 * PAGE, 1, PAGE, PAGE - 15, PAGE, EPROTO,
		       "offset 1102: RAM block pc.ram: its pages at 0x1000 "
		       "begin before its bitmap ends (0xff1 and 0x10 bytes)");
	refuses_header(PAGE, 1, PAGE, UINT64_MAX, PAGE, EPROTO,
		       "offset 1102: RAM block pc.ram: its pages at 0x1000 "
		       "begin before its bitmap ends (0xffffffffffffffff and "
		       "0x8 bytes)");
	refuses_header(PAGE, 1, PAGE, UINT64_MAX - 7, PAGE, EPROTO,
		       "offset 1102: RAM block pc.ram: its pages at 0x1000 "
		       "begin before its bitmap ends (0xfffffffffffffff8 and "
		       "0x8 bytes)");
}

static void refuses_pages_past_the_largest_offset(void **state)
{
	refuses_header(PAGE, 1, PAGE, 1130, PAGE + 2048, EPROTO,
		       "offset 1102: RAM block pc.ram: its pages at 0x1800 "
		       "begin within a target page (4096)");
	refuses_header(PAGE, 1, PAGE, 1130, UINT64_MAX & ~(uint64_t)4095,
		       EPROTO,
		       "offset 1102: RAM block pc.ram: its pages at "
		       "0xfffffffffffff000 end past the largest file offset");
	refuses_header(2 * PAGE, 1, PAGE, 1130, INT64_MAX & ~(uint64_t)4095,
		       EPROTO,
		       "offset 1102: RAM block pc.ram: its pages at "
		       "0x7ffffffffffff000 end past the largest file offset");
}

/* Parts without gaps are accepted. */
static void takes_parts_that_touch(void **state)
{
	GByteArray *s = begin_header(65 * PAGE, false);
	struct stream_split split;

	stream_mapped_header(s, 1, PAGE, PAGE - 16, PAGE);
	stream_split_at(&split, s->data, s->len, BEGIN, 0, 0);
	assert_int_equal(split.r, 0);
	assert_int_equal(split.info->size, 66 * PAGE);
	stream_split_clear(&split);
	g_byte_array_unref(s);
}

static void refuses_a_second_block_in_the_first(void **state)
{
	GByteArray *s = begin_header(PAGE, false);
	GByteArray *two = g_byte_array_new();

	/* The list says that more blocks follow. */
	stream_bytes(two, s->data, s->len);
	two->data[1062 + 17 + 6] = 0x20;
	stream_mapped_header(two, 1, PAGE, 1130, PAGE);
	g_byte_array_set_size(two, 2 * PAGE);
	memset(two->data + 1130, 0, 2 * PAGE - 1130);
	stream_block(two, "b", PAGE);
	stream_mapped_header(two, 1, PAGE, 1138, PAGE);
	refuses(two, EPROTO,
		"offset 8202: RAM block b: its bitmap at 0x472 begins before "
		"its header ends (0x2026)");
	g_byte_array_unref(s);
}

static void refuses_half_a_place_of_a_shared_block(void **state)
{
	GByteArray *s = begin_header(PAGE, true);

	stream_mapped_header(s, 1, PAGE, 0, PAGE);
	refuses(s, EPROTO,
		"offset 1126: RAM block pc.ram: its bitmap at 0x0 begins "
		"before its header ends (0x482)");
	s = begin_header(PAGE, true);
	stream_mapped_header(s, 1, PAGE, 1154, 0);
	refuses(s, EPROTO,
		"offset 1126: RAM block pc.ram: its pages at 0x0 begin before "
		"its bitmap ends (0x482 and 0x8 bytes)");
}

/* Up to the end of RAM's list, at PAGE * 2. */
static GByteArray *begin_parts(void)
{
	GByteArray *s = begin_header(PAGE, false);

	stream_mapped_header(s, 1, PAGE, 1130, PAGE);
	g_byte_array_set_size(s, 2 * PAGE);
	memset(s->data + 1130, 0, 2 * PAGE - 1130);
	stream_eos(s);
	stream_footer(s, 1);
	return s;
}

static void refuses_page_records(void **state)
{
	static const uint64_t words[] = {
		WIRE_RAM_PAGE,
		WIRE_RAM_ZERO,
		WIRE_RAM_XBZRLE | WIRE_RAM_CONTINUE,
		WIRE_RAM_HOOK,
		WIRE_RAM_MULTIFD_FLUSH,
		0,
	};

	for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
		for (uint8_t type = WIRE_SECTION_PART; type <= WIRE_SECTION_END;
		     type++) {
			g_autofree char *sentence = g_strdup_printf(
				"offset 8210: expected the end of a section "
				"of RAM (its pages lie elsewhere), found "
				"0x%016" G_GINT64_MODIFIER "x",
				words[i]);
			GByteArray *s = begin_parts();

			stream_more(s, type, 1);
			stream_be64(s, words[i]);
			refuses(s, EPROTO, sentence);
		}
	}
}

static void refuses_pages_in_a_devstate(void **state)
{
	GByteArray *s = form_make("precopy");
	struct stream_split split;

	stream_split_devstate(&split, s->data, s->len);
	assert_int_equal(split.r, -EPROTO);
	assert_non_null(strstr(split.error, "expected the end of a section of "
					    "RAM (there are no pages)"));
	stream_split_clear(&split);
	g_byte_array_unref(s);

	s = CAPS(1, WIRE_CAP_MAPPED_RAM);
	stream_split_devstate(&split, s->data + BEGIN, s->len - BEGIN);
	assert_int_equal(split.r, -EPROTO);
	assert_string_equal(split.error, "offset 15: the capability "
					 "mapped-ram in a stream without "
					 "pages");
	stream_split_clear(&split);
	g_byte_array_unref(s);
}

/* Only the header's version shows that it is mapped-ram. */
static void refuses_mapped_ram_without_a_configuration(void **state)
{
	GByteArray *s = g_byte_array_new();

	g_byte_array_set_size(s, BEGIN);
	stream_magic(s);
	stream_start(s, WIRE_SECTION_START, 1, WIRE_RAM, WIRE_RAM_VERSION);
	stream_total(s, PAGE);
	stream_block(s, "pc.ram", PAGE);
	stream_mapped_header(s, 1, PAGE, 2000, PAGE);
	refuses(s, EOPNOTSUPP,
		"offset 1048: a mapped-ram stream without a configuration "
		"section");
}

/* With any byte changed, all events stay within their bounds. */
static void survives_any_flipped_byte(void **state)
{
	GByteArray *s = begin_parts();
	struct stream_split split;

	stream_device(s, 5, "cpu", "registers", 9, true);
	stream_description(s, FORM_DESCRIPTION);
	for (size_t i = BEGIN; i < s->len; i++) {
		uint8_t kept = s->data[i];

		if (i >= 1130 && i < 2 * PAGE)
			continue;
		for (int bit = 0; bit < 8; bit++) {
			s->data[i] = kept ^ (uint8_t)(1 << bit);
			stream_split_at(&split, s->data, s->len, BEGIN, 0, 0);
			stream_split_clear(&split);
		}
		s->data[i] = kept;
	}
	g_byte_array_unref(s);
}

static void no_layout(const struct stream_split *split,
		      const struct snap_stream_info *info, uint64_t begin,
		      int code, const char *sentence)
{
	g_autoptr(GError) error = NULL;
	SnapLayout *layout = NULL;

	assert_int_equal(
		stream_layout_mapped(split, info, begin, &layout, &error),
		-code);
	assert_string_equal(error->message, sentence);
	assert_null(layout);
}

static void makes_no_layout_of_contradictions(void **state)
{
	GByteArray *s = form_make("precopy");
	struct snap_stream_info good, bad;
	struct stream_split split;

	stream_split(&split, s->data, s->len, 0, 0);
	good = stream_info(&split);
	bad = good;
	bad.pages_at = 100;
	no_layout(&split, &bad, 0, EBADMSG,
		  "devstate lists no RAM in its first 0x64 bytes");
	bad = good;
	bad.target_page = 3;
	no_layout(&split, &bad, 0, EBADMSG, "a target page of 3 bytes");
	bad = good;
	bad.ram.n = 2;
	no_layout(&split, &bad, 0, EBADMSG,
		  "devstate lists 3 RAM blocks with target pages of 4096 "
		  "bytes, expected 2 with 4096");
	no_layout(&split, &good, ((uint64_t)1 << 46) + 1, EBADMSG,
		  "0x88 of 0x129 bytes of devstate, in a file from "
		  "0x400000000001 on");
	good.ram.blocks[1].name[0] = 'x';
	no_layout(&split, &good, 0, EBADMSG,
		  "devstate lists RAM block /rom@etc/acpi/tables of 0x1000 "
		  "bytes, expected xrom@etc/acpi/tables of 0x1000");
	good.ram.blocks[1].name[0] = '/';
	good.ram.blocks[1].length = 2 * PAGE;
	no_layout(&split, &good, 0, EBADMSG,
		  "devstate lists RAM block /rom@etc/acpi/tables of 0x1000 "
		  "bytes, expected /rom@etc/acpi/tables of 0x2000");
	good.ram.blocks[1].length = PAGE;
	split.state->data[0] = 'X';
	no_layout(&split, &good, 0, EBADMSG,
		  "devstate: offset 0: expected the magic QEVM, but byte 0 is "
		  "0x58");
	snap_ramlist_clear(&good.ram);
	stream_split_clear(&split);
	g_byte_array_unref(s);
}

static void makes_no_layout_without_a_configuration(void **state)
{
	GByteArray *s = form_make("old");
	struct snap_stream_info info;
	struct stream_split split;

	stream_split(&split, s->data, s->len, 0, 0);
	info = stream_info(&split);
	no_layout(&split, &info, 0, EOPNOTSUPP,
		  "a stream without a configuration has no mapped-ram form");
	snap_ramlist_clear(&info.ram);
	stream_split_clear(&split);
	g_byte_array_unref(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_an_impossible_list_of_capabilities),
		cmocka_unit_test(refuses_what_it_could_only_keep_verbatim),
		cmocka_unit_test(refuses_a_header_of_another_version),
		cmocka_unit_test(refuses_a_header_of_other_pages),
		cmocka_unit_test(refuses_parts_that_overlap),
		cmocka_unit_test(refuses_pages_past_the_largest_offset),
		cmocka_unit_test(takes_parts_that_touch),
		cmocka_unit_test(refuses_a_second_block_in_the_first),
		cmocka_unit_test(refuses_half_a_place_of_a_shared_block),
		cmocka_unit_test(refuses_page_records),
		cmocka_unit_test(refuses_pages_in_a_devstate),
		cmocka_unit_test(refuses_mapped_ram_without_a_configuration),
		cmocka_unit_test(survives_any_flipped_byte),
		cmocka_unit_test(makes_no_layout_of_contradictions),
		cmocka_unit_test(makes_no_layout_without_a_configuration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
