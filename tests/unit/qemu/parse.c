/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "format/base/error.h"
#include "format/base/zero.h"
#include "format/qemu/wire.h"
#include "tests/unit/qemu/forms.h"

#define PAGE 4096u

/* True when the page at `offset` of that block was made with `seed`. */
static bool page_is(const struct stream_split *split, const char *block,
		    uint64_t offset, uint32_t seed)
{
	uint8_t data[PAGE];
	int i = snap_ramlist_find(&split->info->ram, block, strlen(block));

	assert_true(i >= 0);
	stream_pattern(data, PAGE, seed);
	return memcmp(split->ram + split->info->ram.blocks[i].flat + offset,
		      data, PAGE) == 0;
}

static bool page_is_fill(const struct stream_split *split, const char *block,
			 uint64_t offset, uint8_t fill)
{
	int i = snap_ramlist_find(&split->info->ram, block, strlen(block));
	const uint8_t *data;

	assert_true(i >= 0);
	data = split->ram + split->info->ram.blocks[i].flat + offset;
	return snap_is_fill(data, PAGE) && *data == fill;
}

static void split_form(struct stream_split *split, const char *name)
{
	GByteArray *s = form_make(name);

	stream_split(split, s->data, s->len, 0, 0);
	if (split->error)
		print_message("%s: %s\n", name, split->error);
	assert_int_equal(split->r, 0);
	assert_int_equal(split->end, 0);
	g_byte_array_unref(s);
}

static void reads_every_form_to_its_end(void **state)
{
	for (guint i = 0; i < n_forms; i++) {
		struct stream_split split;

		split_form(&split, forms[i].name);
		assert_int_equal(split.complete, !forms[i].undescribed);
		assert_int_equal(split.why != NULL, forms[i].opaque);
		stream_split_clear(&split);
	}
}

static void gives_the_same_at_any_cut(void **state)
{
	for (guint i = 0; i < n_forms; i++) {
		GByteArray *s = forms[i].make();
		struct stream_split whole, cut;

		stream_split(&whole, s->data, s->len, 0, 0);
		for (size_t at = 1; at < s->len; at++) {
			stream_split(&cut, s->data, s->len, at, 0);
			assert_true(stream_split_equal(&whole, &cut));
			stream_split_clear(&cut);
		}
		for (size_t step = 1; step < 5000; step = step * 3 + 1) {
			stream_split(&cut, s->data, s->len, 0, step);
			assert_true(stream_split_equal(&whole, &cut));
			stream_split_clear(&cut);
		}
		stream_split_clear(&whole);
		g_byte_array_unref(s);
	}
}

/* The end mark of a stream with footers, or 0. There it is complete even
 * without its description: QEMU would load it. */
static size_t end_mark(const struct form *form, const GByteArray *s)
{
	if (form->undescribed || strcmp(form->name, "old") == 0)
		return s->len;
	return s->len - strlen(FORM_DESCRIPTION) - 5;
}

static void refuses_a_stream_that_ends_early(void **state)
{
	for (guint i = 0; i < n_forms; i++) {
		GByteArray *s = forms[i].make();
		struct stream_split split;

		for (size_t size = 0; size < s->len; size++) {
			stream_split(&split, s->data, size, 0, 0);
			assert_int_equal(split.r, 0);
			assert_false(split.complete);
			assert_int_equal(
				split.end,
				size == end_mark(&forms[i], s) ? 0 : -EPROTO);
			stream_split_clear(&split);
		}
		g_byte_array_unref(s);
	}
}

static void says_where_a_stream_ended_and_what_was_missing(void **state)
{
	GByteArray *s = form_make("precopy");
	struct stream_split split;

	stream_split(&split, s->data, 0, 0, 0);
	assert_string_equal(split.end_error, "offset 0: the stream ends here; "
					     "expected the magic QEVM");
	stream_split_clear(&split);
	stream_split(&split, s->data, 300, 0, 0);
	assert_string_equal(split.end_error,
			    "offset 300: the stream ends here; "
			    "expected the bytes of a page of RAM");
	stream_split_clear(&split);
	g_byte_array_unref(s);
}

static void keeps_the_page_that_was_sent_last(void **state)
{
	struct stream_split split;

	split_form(&split, "precopy");
	assert_true(page_is(&split, "pc.ram", 0, 1));
	assert_true(page_is(&split, "pc.ram", PAGE, 3));
	assert_true(page_is_fill(&split, "pc.ram", 2 * PAGE, 0));
	assert_true(page_is_fill(&split, "pc.ram", 3 * PAGE, 0));
	assert_int_equal(split.pages, 3 * PAGE);
	assert_int_equal(split.fills, 6 * PAGE);
	stream_split_clear(&split);
}

static void takes_pages_in_any_order(void **state)
{
	struct stream_split split;

	split_form(&split, "background");
	assert_true(page_is(&split, "pc.ram", 3 * PAGE, 1));
	assert_true(page_is(&split, "0000:00:02.0/vga.vram", PAGE, 2));
	assert_true(page_is(&split, "/rom@etc/acpi/tables", 0, 3));
	stream_split_clear(&split);
}

static void reports_the_properties_of_the_stream(void **state)
{
	const struct snap_stream_info *info;
	struct stream_split split;

	split_form(&split, "precopy");
	info = split.info;
	assert_string_equal(info->machine, "pc-q35-10.0");
	assert_int_equal(info->target_page, PAGE);
	assert_int_equal(info->ram_section, 2);
	assert_true(info->footers);
	assert_int_equal(info->ram.n, 3);
	assert_string_equal(info->ram.blocks[1].name, "/rom@etc/acpi/tables");
	assert_int_equal(info->ram.blocks[1].length, PAGE);
	assert_int_equal(info->ram.blocks[2].flat, 4 << 20);
	assert_int_equal(info->ram.flat_size, (4 << 20) + 2 * PAGE);
	assert_int_equal(split.lists, 1);
	stream_split_clear(&split);

	split_form(&split, "old");
	assert_string_equal(split.info->machine, "");
	assert_false(split.info->footers);
	assert_true(page_is_fill(&split, "/rom@etc/acpi/tables", 0, 0x5a));
	stream_split_clear(&split);
}

/* devstate of a form whose pages are taken out by hand. */
static GByteArray *without_pages(void)
{
	GByteArray *s = form_make("precopy");
	GByteArray *made = g_byte_array_new();
	struct stream_split split;
	size_t parts = 0, end;

	stream_split(&split, s->data, s->len, 0, 0);
	parts = split.info->pages_at;
	stream_bytes(made, s->data, parts);
	stream_split_clear(&split);
	stream_command(made, WIRE_CMD_SWITCHOVER, NULL, 0);
	stream_more(made, WIRE_SECTION_END, 2);
	stream_eos(made);
	stream_footer(made, 2);
	for (end = s->len; memcmp(s->data + end, "\4\0\0\0\5\3cpu", 9); end--)
		;
	stream_bytes(made, s->data + end, s->len - end);
	g_byte_array_unref(s);
	return made;
}

static void devstate_is_the_stream_without_pages(void **state)
{
	GByteArray *expected = without_pages();
	struct stream_split split;

	split_form(&split, "precopy");
	assert_int_equal(split.state->len, expected->len);
	assert_memory_equal(split.state->data, expected->data, expected->len);
	assert_memory_equal(split.state->data + split.info->pages_at,
			    "\x08\x00\x0b", 3);
	stream_split_clear(&split);
	g_byte_array_unref(expected);
}

/* A devstate is a stream, and its devstate is the same. */
static void reads_a_devstate(void **state)
{
	static const char *const names[] = { "precopy", "background", "old",
					     "passengers", "configured" };

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		struct stream_split split, again;

		split_form(&split, names[i]);
		stream_split_devstate(&again, split.state->data,
				      split.state->len);
		assert_int_equal(again.end, 0);
		assert_null(again.why);
		assert_int_equal(again.info->pages_at, split.info->pages_at);
		assert_int_equal(again.state->len, split.state->len);
		assert_memory_equal(again.state->data, split.state->data,
				    split.state->len);
		assert_int_equal(again.info->ram.n, split.info->ram.n);
		stream_split_clear(&again);
		stream_split_clear(&split);
	}
}

static void reads_the_configuration(void **state)
{
	struct stream_split split;

	split_form(&split, "configured");
	assert_int_equal(split.info->target_page, 16384);
	assert_int_equal(split.info->ram.blocks[0].gpa, 0x40000000);
	assert_int_equal(split.info->ram.blocks[1].gpa, 0);
	assert_true(split.info->ram.blocks[0].ignored);
	assert_false(split.info->ram.blocks[1].ignored);
	assert_int_equal(split.pages, 16384);
	stream_split_clear(&split);
}

/* A background snapshot has no end of RAM either. */
static void a_block_without_records_is_left_out(void **state)
{
	static const uint8_t page[PAGE] = { 1 };

	for (int ends = 0; ends < 2; ends++) {
		GByteArray *s = g_byte_array_new();
		struct stream_split split;

		stream_magic(s);
		stream_configuration(s, "pc");
		stream_start(s, WIRE_SECTION_START, 2, WIRE_RAM,
			     WIRE_RAM_VERSION);
		stream_total(s, 3 * PAGE);
		stream_block(s, "sent", PAGE);
		stream_block(s, "shared", PAGE);
		stream_block(s, "empty", 0);
		stream_block(s, "zero", PAGE);
		stream_eos(s);
		stream_footer(s, 2);
		stream_more(s, WIRE_SECTION_PART, 2);
		stream_fill(s, "zero", 0, 0);
		stream_page(s, "sent", 0, page, PAGE);
		stream_eos(s);
		stream_footer(s, 2);
		if (ends) {
			stream_more(s, WIRE_SECTION_END, 2);
			stream_eos(s);
			stream_footer(s, 2);
		}
		stream_split(&split, s->data, s->len, 0, 0);
		for (guint i = 0; i < 4; i++)
			assert_int_equal(split.info->ram.blocks[i].ignored,
					 i == 1);
		stream_split_clear(&split);
		g_byte_array_unref(s);
	}
}

static void reads_listed_page_sizes(void **state)
{
	struct stream_split split;

	split_form(&split, "huge");
	assert_int_equal(split.info->ram.n, 3);
	assert_int_equal(split.info->ram.blocks[0].page_size, 0x200000);
	assert_int_equal(split.info->ram.blocks[1].page_size, 0);
	assert_int_equal(split.info->ram.blocks[2].page_size, 0x40000000);
	assert_true(page_is(&split, "c", PAGE, 7));
	stream_split_clear(&split);
}

static void reads_target_pages_of_64_kib(void **state)
{
	g_autofree uint8_t *data = g_malloc(65536);
	GByteArray *s = g_byte_array_new();
	struct stream_split whole, cut;

	stream_pattern(data, 65536, 5);
	stream_magic(s);
	stream_configuration(s, "virt-10.0");
	stream_subsection(s, WIRE_CONFIG_PAGE_BITS);
	stream_be32(s, 16);
	stream_start(s, WIRE_SECTION_START, 2, WIRE_RAM, WIRE_RAM_VERSION);
	stream_total(s, 3 * 65536);
	stream_block(s, "mach-virt.ram", 3 * 65536);
	stream_eos(s);
	stream_footer(s, 2);
	stream_more(s, WIRE_SECTION_END, 2);
	stream_page(s, "mach-virt.ram", 65536, data, 65536);
	stream_fill(s, NULL, 2 * 65536, 0);
	stream_eos(s);
	stream_footer(s, 2);
	stream_device(s, 3, "cpu", "x", 1, true);
	stream_description(s, FORM_DESCRIPTION);

	stream_split(&whole, s->data, s->len, 0, 0);
	assert_int_equal(whole.end, 0);
	assert_memory_equal(whole.ram + 65536, data, 65536);
	for (size_t at = 1; at < s->len; at += 997) {
		stream_split(&cut, s->data, s->len, at, 0);
		assert_true(stream_split_equal(&whole, &cut));
		stream_split_clear(&cut);
	}
	stream_split_clear(&whole);
	g_byte_array_unref(s);
}

/* Sparc64 has pages of 8 KiB, and its streams do not say so. */
static void knows_machines_with_other_target_pages(void **state)
{
	uint8_t data[2 * PAGE];
	GByteArray *s = g_byte_array_new();
	struct stream_split split;

	stream_pattern(data, sizeof(data), 5);
	stream_magic(s);
	stream_configuration(s, "sun4u");
	stream_start(s, WIRE_SECTION_START, 2, WIRE_RAM, WIRE_RAM_VERSION);
	stream_total(s, sizeof(data));
	stream_block(s, "sun4u.ram", sizeof(data));
	stream_eos(s);
	stream_footer(s, 2);
	stream_more(s, WIRE_SECTION_END, 2);
	stream_page(s, "sun4u.ram", 0, data, sizeof(data));
	stream_eos(s);
	stream_footer(s, 2);
	stream_device(s, 3, "cpu", "x", 1, true);
	stream_description(s, FORM_DESCRIPTION);
	stream_split(&split, s->data, s->len, 0, 0);
	assert_int_equal(split.end, 0);
	assert_memory_equal(split.ram, data, sizeof(data));
	stream_split_clear(&split);
	g_byte_array_unref(s);
}

static void passes_on_sections_of_known_size(void **state)
{
	struct stream_split split;

	split_form(&split, "passengers");
	assert_true(page_is(&split, "pc.ram", PAGE, 1));
	assert_true(page_is(&split, "pc.ram", 0, 2));
	assert_int_equal(split.info->size - split.state->len,
			 /* PART, two records, EOS, footer, and END's page */
			 5 + (8 + 7 + PAGE) + 8 + 5 + (8 + PAGE));
	stream_split_clear(&split);
}

static void keeps_a_stream_it_cannot_split_verbatim(void **state)
{
	for (guint i = 0; i < n_forms; i++) {
		GByteArray *s = forms[i].make();
		struct stream_split split;

		if (forms[i].opaque) {
			stream_split(&split, s->data, s->len, 0, 0);
			assert_int_equal(split.state->len, s->len);
			assert_memory_equal(split.state->data, s->data, s->len);
			stream_split_clear(&split);
		}
		g_byte_array_unref(s);
	}
}

static void says_why_it_cannot_split_a_stream(void **state)
{
	static const char *const expected[][2] = {
		{ "virtio-mem",
		  "section \"0000:00:03.0/virtio-mem-device-early\" is of "
		  "unknown length and precedes the guest's memory" },
		{ "vfio", "section \"0000:00:04.0/vfio\" (version 1) is of "
			  "unknown length" },
		{ "new-subsection",
		  "\"configuration/what-is-this\" (version 1) of the "
		  "configuration is of unknown length" },
		{ "new-capability",
		  "capability \"x-new\" has an unknown effect on the stream" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(expected); i++) {
		struct stream_split split;

		split_form(&split, expected[i][0]);
		assert_string_equal(split.why, expected[i][1]);
		stream_split_clear(&split);
	}
}

static void a_page_whole_in_the_input_is_not_copied(void **state)
{
	GByteArray *s = form_make("precopy");
	g_autoptr(SnapParser) p = snap_parser_new();
	struct snap_event ev;

	snap_parser_feed(p, s->data, s->len);
	while (snap_parser_step(p, &ev, NULL) > 0)
		if (ev.kind == SNAP_EVENT_PAGE || ev.kind == SNAP_EVENT_STATE)
			assert_true(ev.data >= s->data &&
				    ev.data + ev.size <= s->data + s->len);
	g_byte_array_unref(s);
}

static void zero_pages_in_a_row_come_as_one(void **state)
{
	GByteArray *s = g_byte_array_new();
	g_autoptr(SnapParser) p = snap_parser_new();
	struct snap_event ev;
	int fills = 0;

	stream_magic(s);
	stream_start(s, WIRE_SECTION_START, 2, WIRE_RAM, WIRE_RAM_VERSION);
	stream_total(s, 100 * PAGE);
	stream_block(s, "pc.ram", 100 * PAGE);
	stream_eos(s);
	stream_more(s, WIRE_SECTION_PART, 2);
	for (int i = 0; i < 100; i++)
		stream_fill(s, i ? NULL : "pc.ram", i * PAGE, 0);
	snap_parser_feed(p, s->data, s->len);
	while (snap_parser_step(p, &ev, NULL) > 0)
		if (ev.kind == SNAP_EVENT_FILL) {
			assert_int_equal(ev.size, 100 * PAGE);
			fills++;
		}
	assert_int_equal(fills, 1);
	g_byte_array_unref(s);
}

static void is_no_longer_complete_when_more_comes(void **state)
{
	GByteArray *s = form_make("precopy");
	struct stream_split split;

	stream_byte(s, 1);
	stream_split(&split, s->data, s->len, s->len - 1, 0);
	assert_int_equal(split.r, 0);
	assert_false(split.complete);
	assert_int_equal(split.end, -EPROTO);
	stream_split_clear(&split);
	g_byte_array_unref(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_every_form_to_its_end),
		cmocka_unit_test(gives_the_same_at_any_cut),
		cmocka_unit_test(refuses_a_stream_that_ends_early),
		cmocka_unit_test(
			says_where_a_stream_ended_and_what_was_missing),
		cmocka_unit_test(keeps_the_page_that_was_sent_last),
		cmocka_unit_test(takes_pages_in_any_order),
		cmocka_unit_test(reports_the_properties_of_the_stream),
		cmocka_unit_test(devstate_is_the_stream_without_pages),
		cmocka_unit_test(reads_a_devstate),
		cmocka_unit_test(reads_the_configuration),
		cmocka_unit_test(a_block_without_records_is_left_out),
		cmocka_unit_test(reads_listed_page_sizes),
		cmocka_unit_test(reads_target_pages_of_64_kib),
		cmocka_unit_test(knows_machines_with_other_target_pages),
		cmocka_unit_test(passes_on_sections_of_known_size),
		cmocka_unit_test(keeps_a_stream_it_cannot_split_verbatim),
		cmocka_unit_test(says_why_it_cannot_split_a_stream),
		cmocka_unit_test(a_page_whole_in_the_input_is_not_copied),
		cmocka_unit_test(zero_pages_in_a_row_come_as_one),
		cmocka_unit_test(is_no_longer_complete_when_more_comes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
