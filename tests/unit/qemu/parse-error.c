/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Damaged and foreign streams: each gives one sentence that names the offset
 * and what was expected there. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "format/base/error.h"
#include "format/qemu/wire.h"
#include "tests/unit/qemu/forms.h"

#define PAGE 4096u

/* Feeds `s`, which it frees, and expects that error at every cut. */
static void refuses(GByteArray *s, int code, const char *sentence)
{
	struct stream_split whole, cut;

	stream_split(&whole, s->data, s->len, 0, 0);
	assert_int_equal(whole.r, -code);
	assert_string_equal(whole.error, sentence);
	assert_int_equal(whole.end, -code);
	assert_string_equal(whole.end_error, sentence);
	assert_false(whole.complete);
	for (size_t step = 1; step < 20; step += 3) {
		stream_split(&cut, s->data, s->len, 0, step);
		assert_true(stream_split_equal(&whole, &cut));
		stream_split_clear(&cut);
	}
	stream_split_clear(&whole);
	g_byte_array_unref(s);
}

/* The beginning up to the first element: 8 bytes. */
static GByteArray *begin(void)
{
	GByteArray *s = g_byte_array_new();

	stream_magic(s);
	return s;
}

/* Up to the payload of RAM's START: 8 + 17 bytes. */
static GByteArray *begin_ram(void)
{
	GByteArray *s = begin();

	stream_start(s, WIRE_SECTION_START, 1, WIRE_RAM, WIRE_RAM_VERSION);
	return s;
}

/* Up to the first record: 25 + 8 + 15 + 8 + 5 + 5 = 66 bytes. */
static GByteArray *begin_pages(void)
{
	GByteArray *s = begin_ram();

	stream_total(s, 2 * PAGE);
	stream_block(s, "pc.ram", 2 * PAGE);
	stream_eos(s);
	stream_footer(s, 1);
	stream_more(s, WIRE_SECTION_PART, 1);
	return s;
}

static void names_the_magic_it_expected(void **state)
{
	GByteArray *s = g_byte_array_new();

	stream_bytes(s,
		     "\x7f"
		     "ELF",
		     4);
	refuses(s, EPROTO,
		"offset 0: expected the magic QEVM, but byte 0 is 0x7f");
}

static void refuses_another_version(void **state)
{
	GByteArray *s = g_byte_array_new();

	stream_be32(s, WIRE_MAGIC);
	stream_be32(s, 2);
	refuses(s, EPROTO,
		"offset 4: expected version 3 of the stream, found "
		"2 (obsolete)");
	s = g_byte_array_new();
	stream_be32(s, WIRE_MAGIC);
	stream_be32(s, 4);
	refuses(s, EPROTO,
		"offset 4: expected version 3 of the stream, found 4");
}

static void refuses_an_impossible_configuration(void **state)
{
	GByteArray *s = begin();

	stream_byte(s, WIRE_CONFIGURATION);
	stream_be32(s, 256);
	refuses(s, EPROTO,
		"offset 8: the machine type's name has 256 bytes, "
		"at most 255 are possible");
	s = begin();
	stream_byte(s, WIRE_CONFIGURATION);
	stream_be32(s, 3);
	stream_bytes(s, "a\0b", 3);
	refuses(s, EPROTO, "offset 8: the machine type's name holds a NUL");
	s = begin();
	stream_configuration(s, "virt");
	stream_subsection(s, WIRE_CONFIG_PAGE_BITS);
	stream_be32(s, 17);
	refuses(s, EOPNOTSUPP,
		"offset 53: target pages of 17 bits; 12 to 16 are known");
}

static void refuses_an_unknown_element(void **state)
{
	GByteArray *s = begin();

	stream_byte(s, 0x55);
	refuses(s, EPROTO, "offset 8: expected a section, found byte 0x55");
	s = begin();
	stream_configuration(s, "pc");
	stream_byte(s, WIRE_CONFIGURATION);
	refuses(s, EPROTO, "offset 15: expected a section, found byte 0x07");
	s = begin();
	stream_byte(s, WIRE_EOF);
	refuses(s, EPROTO,
		"offset 8: the stream ends without the guest's memory");
}

static void refuses_a_packaged_postcopy(void **state)
{
	GByteArray *s = begin();

	stream_command(s, WIRE_CMD_PACKAGED, "\0\0\0\x10", 4);
	refuses(s, EPROTO,
		"offset 8: a packaged part of a postcopy "
		"migration, which is no snapshot");
}

static void refuses_sections_out_of_turn(void **state)
{
	GByteArray *s = begin();

	stream_more(s, WIRE_SECTION_PART, 7);
	refuses(s, EPROTO,
		"offset 8: section 7 continues, but no section of "
		"that id has begun");
	s = begin_pages();
	stream_eos(s);
	stream_footer(s, 1);
	stream_start(s, WIRE_SECTION_START, 3, WIRE_RAM, WIRE_RAM_VERSION);
	refuses(s, EPROTO, "offset 79: section \"ram\" begins a second time");
	s = begin_pages();
	stream_eos(s);
	stream_footer(s, 1);
	stream_start(s, WIRE_SECTION_START, 1, WIRE_DIRTY, WIRE_DIRTY_VERSION);
	refuses(s, EPROTO,
		"offset 79: section \"dirty-bitmap\" has the "
		"id of another section, 1");
	s = begin_pages();
	stream_eos(s);
	stream_footer(s, 1);
	stream_more(s, WIRE_SECTION_END, 1);
	stream_eos(s);
	stream_footer(s, 1);
	stream_more(s, WIRE_SECTION_PART, 1);
	refuses(s, EPROTO,
		"offset 97: section \"ram\" continues after its end");
	s = begin_pages();
	stream_eos(s);
	stream_footer(s, 1);
	stream_start(s, WIRE_SECTION_START, 3, "late", 1);
	refuses(s, EOPNOTSUPP,
		"offset 79: section \"late\" (version 1) is of "
		"unknown length");
}

static void refuses_a_wrong_footer(void **state)
{
	GByteArray *s = begin_pages();

	stream_eos(s);
	stream_footer(s, 2);
	refuses(s, EPROTO,
		"offset 74: expected the footer of section 1 "
		"(\"ram\"), found 0x7e and 0x00000002");
	s = begin_pages();
	stream_eos(s);
	stream_more(s, WIRE_SECTION_PART, 1);
	refuses(s, EPROTO,
		"offset 74: expected the footer of section 1 "
		"(\"ram\"), found 0x02 and 0x00000001");
}

static void refuses_a_list_that_does_not_add_up(void **state)
{
	GByteArray *s = begin_ram();

	stream_be64(s, 0x2000);
	refuses(s, EPROTO,
		"offset 25: expected the size of RAM, "
		"found 0x0000000000002000");
	s = begin_ram();
	stream_total(s, PAGE);
	stream_block(s, "pc.ram", 2 * PAGE);
	refuses(s, EPROTO,
		"offset 33: a RAM block of 0x2000 bytes, but only "
		"0x1000 are left of the size of RAM");
	s = begin_ram();
	stream_total(s, PAGE);
	stream_block(s, "", PAGE);
	refuses(s, EPROTO, "offset 33: expected the name of a RAM block");
	s = begin_ram();
	stream_total(s, 2 * PAGE);
	stream_block(s, "a", PAGE);
	stream_block(s, "a", PAGE);
	stream_eos(s);
	refuses(s, EPROTO, "offset 53: RAM block a is listed twice");
	s = begin_ram();
	stream_total(s, 2 * PAGE);
	stream_block(s, "a", 1000);
	stream_eos(s);
	refuses(s, EPROTO,
		"offset 43: RAM block a: length 0x3e8 is not a "
		"multiple of the target page (4096)");
	s = begin_ram();
	stream_total(s, (uint64_t)1 << 60);
	stream_block(s, "a", (uint64_t)1 << 60);
	stream_eos(s);
	refuses(s, EPROTO,
		"offset 43: RAM block a: with 0x1000000000000000 bytes RAM is "
		"larger than 64 TiB");
	s = begin_ram();
	stream_total(s, PAGE);
	stream_block(s, "a", PAGE);
	stream_be64(s, 0x3000);
	refuses(s, EPROTO, "offset 43: a page size of 0x3000 for RAM block a");
	s = begin_ram();
	stream_total(s, PAGE);
	stream_block(s, "a", PAGE);
	stream_be64(s, WIRE_RAM_PAGE);
	refuses(s, EPROTO,
		"offset 43: expected the end of the list of RAM "
		"blocks, found 0x0000000000000008");
}

static void refuses_a_list_without_end(void **state)
{
	GByteArray *s = begin_ram();
	char name[16];

	stream_total(s, PAGE);
	for (int i = 0; i <= (int)SNAP_RAM_BLOCKS_MAX; i++) {
		g_snprintf(name, sizeof(name), "b%05d", i);
		stream_block(s, name, 0);
	}
	stream_eos(s);
	refuses(s, EPROTO, "offset 61488: more than 4096 RAM blocks");
}

static void refuses_pages_outside_their_block(void **state)
{
	GByteArray *s = begin_pages();

	stream_fill(s, "pc.ram", 2 * PAGE, 0);
	refuses(s, EPROTO,
		"offset 66: a page at 0x2000 of RAM block pc.ram, "
		"which has 0x2000 bytes");
	s = begin_pages();
	stream_fill(s, "pc.ram", UINT64_MAX & ~(uint64_t)4095, 0);
	refuses(s, EPROTO,
		"offset 66: a page at 0xfffffffffffff000 of RAM "
		"block pc.ram, which has 0x2000 bytes");
	s = begin_pages();
	stream_fill(s, "pc.rom", 0, 0);
	refuses(s, EPROTO,
		"offset 66: a page of RAM block \"pc.rom\", which "
		"is not listed");
	s = begin_pages();
	stream_fill(s, NULL, 0, 0);
	refuses(s, EPROTO, "offset 66: the first page names no RAM block");
	s = begin_pages();
	stream_fill(s, "", 0, 0);
	refuses(s, EPROTO, "offset 66: a page of a RAM block without name");
}

static void names_the_capability_to_turn_off(void **state)
{
	GByteArray *s = begin_pages();

	stream_be64(s, WIRE_RAM_XBZRLE | WIRE_RAM_CONTINUE);
	refuses(s, EOPNOTSUPP,
		"offset 66: a page encoded as a delta; turn the "
		"capability xbzrle off");
	s = begin_pages();
	stream_be64(s, WIRE_RAM_COMPRESS_PAGE);
	refuses(s, EOPNOTSUPP,
		"offset 66: a compressed page; turn the "
		"capability compress off");
	s = begin_pages();
	stream_be64(s, WIRE_RAM_HOOK);
	refuses(s, EOPNOTSUPP,
		"offset 66: a page sent by RDMA; turn the "
		"capability rdma-pin-all off and save to a "
		"file");
}

static void refuses_an_unknown_record(void **state)
{
	static const uint64_t values[] = {
		0,
		WIRE_RAM_FULL,
		WIRE_RAM_MEM_SIZE | 0x1000,
		WIRE_RAM_PAGE | WIRE_RAM_ZERO,
		WIRE_RAM_EOS | 0x1000,
		WIRE_RAM_CONTINUE,
	};

	for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
		g_autofree char *sentence = g_strdup_printf(
			"offset 66: expected a page of RAM, found 0x%016" PRIx64,
			values[i]);
		GByteArray *s = begin_pages();

		stream_be64(s, values[i]);
		refuses(s, EPROTO, sentence);
	}
}

static void refuses_target_pages_of_1_kib(void **state)
{
	GByteArray *s = begin_pages();

	stream_fill(s, "pc.ram", 0, 0);
	stream_fill(s, NULL, 0x400, 0);
	refuses(s, EOPNOTSUPP,
		"offset 82: target pages of less than 4096 bytes");
}

static void refuses_other_sections_that_are_damaged(void **state)
{
	GByteArray *s = begin();

	stream_start(s, WIRE_SECTION_START, 1, WIRE_DIRTY, WIRE_DIRTY_VERSION);
	stream_byte(s, WIRE_DIRTY_BITS);
	stream_be64(s, 0);
	stream_be32(s, 1);
	stream_be64(s, UINT64_MAX);
	refuses(s, EPROTO,
		"offset 34: a dirty bitmap's chunk of "
		"18446744073709551615 bytes, at most 10240 are "
		"possible");
	s = begin();
	stream_start(s, WIRE_SECTION_START, 1, WIRE_STATTRIB,
		     WIRE_STATTRIB_VERSION);
	stream_be64(s, WIRE_STATTRIB_ERROR);
	refuses(s, EPROTO,
		"offset 45: expected storage attributes, found "
		"0x0000000000000004");
}

static void repeats_its_error(void **state)
{
	g_autoptr(SnapParser) p = snap_parser_new();
	struct snap_event ev;

	snap_parser_feed(p, "garbage", 7);
	for (int i = 0; i < 3; i++) {
		g_autoptr(GError) error = NULL;

		assert_int_equal(snap_parser_step(p, &ev, &error), -EPROTO);
		assert_string_equal(error->message,
				    "offset 0: expected the magic QEVM, but "
				    "byte 0 is 0x67");
	}
	assert_int_equal(snap_parser_step(p, &ev, NULL), -EPROTO);
}

/* With any byte changed, the parser ends, and all events stay within their
 * bounds (the splitter asserts it). */
static void survives_any_flipped_byte(void **state)
{
	GByteArray *s = form_make("passengers");

	for (size_t i = 0; i < s->len; i++) {
		uint8_t kept = s->data[i];
		struct stream_split split;

		/* Pages may have any content. */
		if (i > 500 && i < s->len - 500 && i % 61)
			continue;
		for (int bit = 0; bit < 8; bit++) {
			s->data[i] = kept ^ (uint8_t)(1 << bit);
			stream_split(&split, s->data, s->len, 0, 0);
			stream_split_clear(&split);
		}
		s->data[i] = kept;
	}
	g_byte_array_unref(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_the_magic_it_expected),
		cmocka_unit_test(refuses_another_version),
		cmocka_unit_test(refuses_an_impossible_configuration),
		cmocka_unit_test(refuses_an_unknown_element),
		cmocka_unit_test(refuses_a_packaged_postcopy),
		cmocka_unit_test(refuses_sections_out_of_turn),
		cmocka_unit_test(refuses_a_wrong_footer),
		cmocka_unit_test(refuses_a_list_that_does_not_add_up),
		cmocka_unit_test(refuses_a_list_without_end),
		cmocka_unit_test(refuses_pages_outside_their_block),
		cmocka_unit_test(names_the_capability_to_turn_off),
		cmocka_unit_test(refuses_an_unknown_record),
		cmocka_unit_test(refuses_target_pages_of_1_kib),
		cmocka_unit_test(refuses_other_sections_that_are_damaged),
		cmocka_unit_test(repeats_its_error),
		cmocka_unit_test(survives_any_flipped_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
