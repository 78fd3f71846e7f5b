/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The messages of a postcopy source, byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "format/qemu/postcopy.h"
#include "tests/lib/stream.h"

#define RAM_ID 2u
#define RAM_SIZE 0x400000u
#define ROM_SIZE 0x3000u

/* What a devstate of these tests may have in addition. */
struct extras {
	bool caps;	  /* a list of capabilities */
	bool commands;	  /* the commands of a save over a connection */
	bool switchover;  /* command 11 before the end of RAM */
	bool no_ram_end;  /* like a background snapshot */
	bool footerless;  /* machine types up to 2.3 */
	bool undescribed; /* no description */
	bool page;	  /* with a page, which is an error */
	int parts;	  /* empty sections of RAM, as with mapped-ram */
};

static void put_footer(GByteArray *s, const struct extras *x)
{
	if (!x->footerless)
		stream_footer(s, RAM_ID);
}

static void put_caps(GByteArray *s)
{
	stream_subsection(s, "configuration/capabilities");
	stream_be32(s, 1);
	stream_str8(s, "x-ignore-shared");
}

static void put_ram_start(GByteArray *s, const struct extras *x,
			  uint64_t page_size)
{
	stream_start(s, 1, RAM_ID, "ram", 4);
	stream_total(s, RAM_SIZE + ROM_SIZE);
	stream_block(s, "pc.ram", RAM_SIZE);
	if (page_size)
		stream_be64(s, page_size);
	stream_block(s, "pc.rom", ROM_SIZE);
	stream_eos(s);
	put_footer(s, x);
}

static void put_device(GByteArray *s, const struct extras *x)
{
	/* Bytes that look like an end mark and a description, but are not. */
	static const uint8_t bytes[] = { 1, 2, 0, 6, 0, 0, 0, 3, '{', '"', 9 };

	stream_device(s, 7, "cpu", bytes, sizeof(bytes), !x->footerless);
}

/* The part of the head before RAM's section. */
static void put_config(GByteArray *s)
{
	static const uint8_t uuid[16] = { 1, 2, 3 };

	stream_magic(s);
	stream_configuration(s, "pc-q35-10.0");
	stream_subsection(s, "configuration/uuid");
	stream_bytes(s, uuid, sizeof(uuid));
}

static GByteArray *make_devstate(const struct extras *x)
{
	static const uint8_t ping[4] = { 0, 0, 0, 1 };
	uint8_t page[4096] = { 1 };
	GByteArray *s = g_byte_array_new();

	put_config(s);
	if (x->caps)
		put_caps(s);
	if (x->commands) {
		stream_command(s, 1, NULL, 0);
		stream_command(s, 2, ping, 4);
	}
	put_ram_start(s, x, 0);
	if (x->page) {
		stream_more(s, 2, RAM_ID);
		stream_page(s, "pc.ram", 0, page, sizeof(page));
		stream_eos(s);
		put_footer(s, x);
	}
	for (int i = 0; i < x->parts; i++) {
		stream_more(s, 2, RAM_ID);
		stream_eos(s);
		put_footer(s, x);
	}
	if (x->switchover)
		stream_command(s, 11, NULL, 0);
	if (!x->no_ram_end) {
		stream_more(s, 3, RAM_ID);
		stream_eos(s);
		put_footer(s, x);
	}
	put_device(s, x);
	if (x->undescribed)
		stream_byte(s, 0);
	else
		stream_description(s, "{\"devices\":[]}");
	return s;
}

static int try_new(const struct extras *x, SnapPostcopy **ret_post,
		   GError **error)
{
	GByteArray *s = make_devstate(x);
	size_t size = s->len;

	return snap_postcopy_new(g_byte_array_free(s, FALSE), size, 4096,
				 ret_post, error);
}

static SnapPostcopy *make(struct extras x)
{
	SnapPostcopy *post = NULL;
	GError *error = NULL;

	if (try_new(&x, &post, &error) < 0)
		fail_msg("%s", error->message);
	return post;
}

static void assert_bytes(const GByteArray *found, const GByteArray *expected)
{
	assert_int_equal(found->len, expected->len);
	assert_memory_equal(found->data, expected->data, expected->len);
}

static void put_ping(GByteArray *s, uint8_t value)
{
	uint8_t payload[4] = { 0, 0, 0, value };

	stream_command(s, 2, payload, 4);
}

static void put_advise(GByteArray *s, uint64_t sizes)
{
	g_autoptr(GByteArray) payload = g_byte_array_new();

	stream_be64(payload, sizes);
	stream_be64(payload, 4096);
	stream_command(s, 3, payload->data, 16);
}

/* The head of a snapshot with these extras is always the same. */
static void check_head(struct extras x, uint64_t page_size)
{
	g_autoptr(SnapPostcopy) post = make(x);
	g_autoptr(GByteArray) found = g_byte_array_new();
	g_autoptr(GByteArray) expected = g_byte_array_new();

	if (page_size)
		assert_int_equal(
			snap_postcopy_set_page_size(post, 0, page_size, NULL),
			0);
	put_config(expected);
	stream_command(expected, 1, NULL, 0);
	put_ping(expected, 1);
	put_advise(expected, 0x1000 | page_size);
	put_ram_start(expected, &x, page_size);
	snap_postcopy_put_head(post, found);
	assert_bytes(found, expected);
}

static void the_head_advises_before_it_lists_ram(void **state)
{
	check_head((struct extras){ 0 }, 0);
	check_head((struct extras){ .no_ram_end = true }, 0);
	check_head((struct extras){ .footerless = true }, 0);
}

static void the_head_says_how_large_huge_pages_are(void **state)
{
	check_head((struct extras){ 0 }, 0x200000);
}

static void the_head_drops_the_commands_of_a_connection(void **state)
{
	check_head((struct extras){ .commands = true }, 0);
}

static void put_package(GByteArray *s, const struct extras *x)
{
	g_autoptr(GByteArray) package = g_byte_array_new();
	g_autoptr(GByteArray) length = g_byte_array_new();

	stream_command(package, 4, NULL, 0);
	put_device(package, x);
	put_ping(package, 3);
	stream_command(package, 5, NULL, 0);
	stream_be32(length, package->len);
	if (x->switchover)
		stream_command(s, 11, NULL, 0);
	put_ping(s, 2);
	stream_command(s, 7, length->data, 4);
	stream_bytes(s, package->data, package->len);
}

static void the_package_holds_the_devices_and_no_end(void **state)
{
	static const struct extras all[] = {
		{ 0 },
		{ .no_ram_end = true },
		{ .undescribed = true },
		{ .footerless = true },
		{ .switchover = true, .commands = true },
		{ .parts = 1 },
		{ .parts = 3, .switchover = true },
		{ .parts = 2, .no_ram_end = true },
		{ .parts = 2, .footerless = true },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
		g_autoptr(SnapPostcopy) post = make(all[i]);
		g_autoptr(GByteArray) found = g_byte_array_new();
		g_autoptr(GByteArray) expected = g_byte_array_new();

		put_package(expected, &all[i]);
		snap_postcopy_put_package(post, found);
		assert_bytes(found, expected);
	}
}

static void discards_are_cut_into_commands_of_a_length_that_fits(void **state)
{
	g_autoptr(SnapPostcopy) post = make((struct extras){ 0 });
	g_autoptr(GByteArray) found = g_byte_array_new();
	struct snap_postcopy_range ranges[2000];
	size_t header = 5 + 1 + 7 + 1;

	for (size_t i = 0; i < G_N_ELEMENTS(ranges); i++)
		ranges[i] = (struct snap_postcopy_range){ i * 8192, 4096 };
	snap_postcopy_put_discard(post, 0, ranges, 2000, found);
	assert_int_equal(found->len, 2 * header + 2000 * 16);
	assert_memory_equal(found->data, "\x08\0\x06\x40\x09\0\x06pc.ram\0",
			    header);
	assert_memory_equal(found->data + header, "\0\0\0\0\0\0\0\0", 8);
	assert_memory_equal(found->data + header + 8, "\0\0\0\0\0\0\x10\0", 8);
}

static void a_record_names_its_block_or_continues(void **state)
{
	g_autoptr(SnapPostcopy) post = make((struct extras){ 0 });
	uint8_t out[SNAP_POSTCOPY_RECORD_MAX];

	assert_int_equal(
		snap_postcopy_record(post, 1, 0x2000, true, false, out), 15);
	assert_memory_equal(out, "\0\0\0\0\0\0\x20\x08\x06pc.rom", 15);
	assert_int_equal(
		snap_postcopy_record(post, 1, 0x2000, false, true, out), 9);
	assert_memory_equal(out, "\0\0\0\0\0\0\x20\x22\0", 9);
}

static void a_part_and_the_end_belong_to_the_section_of_ram(void **state)
{
	g_autoptr(SnapPostcopy) post = make((struct extras){ 0 });
	g_autoptr(GByteArray) end = g_byte_array_new();
	uint8_t out[SNAP_POSTCOPY_END_SIZE];

	assert_int_equal(snap_postcopy_part_begin(post, out), 5);
	assert_memory_equal(out, "\x02\0\0\0\x02", 5);
	assert_int_equal(snap_postcopy_part_end(post, out), 13);
	assert_memory_equal(out, "\0\0\0\0\0\0\0\x10\x7e\0\0\0\x02", 13);
	snap_postcopy_put_end(post, end);
	assert_int_equal(end->len, 5 + 13 + 1);
	assert_memory_equal(end->data, "\x03\0\0\0\x02", 5);
	assert_memory_equal(end->data + 5, out, 13);
	assert_int_equal(end->data[18], 0);
}

static void a_plain_stream_is_the_snapshot_s_own(void **state)
{
	struct extras x = { .switchover = true };
	g_autoptr(GByteArray) expected = make_devstate(&x);
	g_autoptr(SnapPostcopy) post = make(x);
	g_autoptr(GByteArray) found = g_byte_array_new();

	snap_postcopy_put_plain_head(post, found);
	snap_postcopy_put_plain_tail(post, found);
	assert_bytes(found, expected);
}

static void a_resumption_asks_for_each_block(void **state)
{
	g_autoptr(SnapPostcopy) post = make((struct extras){ 0 });
	g_autoptr(GByteArray) out = g_byte_array_new();

	snap_postcopy_put_recv_bitmap(post, 1, out);
	snap_postcopy_put_resume(post, out);
	assert_int_equal(out->len, 12 + 5);
	assert_memory_equal(out->data, "\x08\0\x0a\0\x07\x06pc.rom", 12);
	assert_memory_equal(out->data + 12, "\x08\0\x09\0\0", 5);
}

static void refuse(struct extras x, int code)
{
	g_autoptr(GError) error = NULL;
	SnapPostcopy *post = NULL;

	assert_int_equal(try_new(&x, &post, &error), -code);
	assert_null(post);
	assert_non_null(error);
}

static void refuses_bytes_that_are_not_a_devstate(void **state)
{
	g_autoptr(GError) error = NULL;
	SnapPostcopy *post = NULL;

	refuse((struct extras){ .page = true }, EPROTO);
	assert_int_equal(snap_postcopy_new((uint8_t *)g_strdup("no stream"), 9,
					   4096, &post, &error),
			 -EPROTO);
}

static void refuses_a_devstate_cut_anywhere(void **state)
{
	struct extras x = { 0 };
	g_autoptr(GByteArray) s = make_devstate(&x);
	unsigned whole = 0;

	for (size_t size = 0; size < s->len; size++) {
		g_autofree uint8_t *copy = g_malloc(size + 1);
		g_autoptr(GError) error = NULL;
		SnapPostcopy *post = NULL;
		int r;

		memcpy(copy, s->data, size);
		r = snap_postcopy_new(g_steal_pointer(&copy), size, 4096, &post,
				      &error);
		assert_true(r == 0 || r == -EPROTO);
		assert_true((r == 0) == (error == NULL));
		whole += r == 0;
		snap_postcopy_free(post);
	}
	/* After the end mark, without a description. */
	assert_int_equal(whole, 1);
}

static void refuses_memory_that_is_not_in_the_snapshot(void **state)
{
	GByteArray *s = g_byte_array_new();
	g_autoptr(GError) error = NULL;
	SnapPostcopy *post = NULL;
	size_t size;

	put_config(s);
	put_caps(s);
	stream_start(s, 1, RAM_ID, "ram", 4);
	stream_total(s, RAM_SIZE);
	stream_block(s, "pc.ram", RAM_SIZE);
	stream_be64(s, 0);
	stream_eos(s);
	stream_footer(s, RAM_ID);
	put_device(s, &(struct extras){ 0 });
	stream_description(s, "{\"devices\":[]}");
	size = s->len;
	assert_int_equal(snap_postcopy_new(g_byte_array_free(s, FALSE), size,
					   4096, &post, &error),
			 -EOPNOTSUPP);
}

static void refuses_impossible_page_sizes(void **state)
{
	g_autoptr(SnapPostcopy) post = make((struct extras){ 0 });

	assert_int_equal(snap_postcopy_unit(post, 0), 4096);
	assert_int_equal(snap_postcopy_set_page_size(post, 0, 0x300000, NULL),
			 -EINVAL);
	assert_int_equal(snap_postcopy_set_page_size(post, 0, 2048, NULL),
			 -EINVAL);
	assert_int_equal(snap_postcopy_set_page_size(post, 0, 1 << 30, NULL),
			 -EINVAL);
	assert_int_equal(snap_postcopy_set_page_size(post, 1, 0x2000, NULL),
			 -EINVAL);
	assert_int_equal(snap_postcopy_set_page_size(post, 0, 0x200000, NULL),
			 0);
	assert_int_equal(snap_postcopy_unit(post, 0), 0x200000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_head_advises_before_it_lists_ram),
		cmocka_unit_test(the_head_says_how_large_huge_pages_are),
		cmocka_unit_test(the_head_drops_the_commands_of_a_connection),
		cmocka_unit_test(the_package_holds_the_devices_and_no_end),
		cmocka_unit_test(
			discards_are_cut_into_commands_of_a_length_that_fits),
		cmocka_unit_test(a_record_names_its_block_or_continues),
		cmocka_unit_test(
			a_part_and_the_end_belong_to_the_section_of_ram),
		cmocka_unit_test(a_plain_stream_is_the_snapshot_s_own),
		cmocka_unit_test(a_resumption_asks_for_each_block),
		cmocka_unit_test(refuses_bytes_that_are_not_a_devstate),
		cmocka_unit_test(refuses_a_devstate_cut_anywhere),
		cmocka_unit_test(refuses_memory_that_is_not_in_the_snapshot),
		cmocka_unit_test(refuses_impossible_page_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
