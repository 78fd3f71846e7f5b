/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of hot pages: a hint from any source. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib.h>
#include <string.h>

#include "format/base/units.h"
#include "format/qemu/hot.h"

static struct snap_ramlist ram;

static int make_ram(void **state)
{
	ram = (struct snap_ramlist){ 0 };
	snap_ramlist_add(&ram, "pc.ram", 2 * SNAP_GIB, 0, 0, SNAP_PAGE, NULL);
	snap_ramlist_add(&ram, "a b%\n", 2 * SNAP_PAGE, 0, 0, SNAP_PAGE, NULL);
	return 0;
}

static int free_ram(void **state)
{
	snap_ramlist_clear(&ram);
	return 0;
}

/* Checks how a text is understood, by writing it anew. */
static void check(const char *text, const char *expected)
{
	g_autoptr(GArray) runs = snap_hot_parse(text, strlen(text), &ram);
	g_autofree char *again = snap_hot_format(runs, &ram);

	assert_string_equal(again, expected);
}

static void a_list_survives_being_written_and_read(void **state)
{
	static const char text[] = SNAP_HOT_HEADER "pc.ram 0x1f000 3\n"
						   "a%20b%25%0a 0x1000 1\n"
						   "pc.ram 0x0 1\n";

	check(text, text);
}

static void pages_that_follow_one_another_are_one_line(void **state)
{
	g_autoptr(GArray) runs = snap_hot_new();
	g_autofree char *text = NULL;

	snap_hot_add(runs, 0, 0x5000, 1);
	snap_hot_add(runs, 0, 0x6000, 2);
	snap_hot_add(runs, 0, 0x5000, 1);
	snap_hot_add(runs, 1, 0x6000, 1);
	assert_int_equal(snap_hot_pages(runs), 5);
	text = snap_hot_format(runs, &ram);
	assert_string_equal(text, SNAP_HOT_HEADER "pc.ram 0x5000 3\n"
						  "pc.ram 0x5000 1\n"
						  "a%20b%25%0a 0x6000 1\n");
}

static void lines_that_are_not_understood_are_ignored(void **state)
{
	check("", SNAP_HOT_HEADER);
	check("snapfs-hot 2\npc.ram 0x0 1\n", SNAP_HOT_HEADER);
	check("snapfs-hot 1", SNAP_HOT_HEADER);
	check(SNAP_HOT_HEADER "pc.ram\n"
			      "pc.ram 0x0\n"
			      "pc.ram 0x0 1 1\n"
			      "pc.ram 0x1 1\n"
			      "pc.ram 0x0 0\n"
			      "pc.ram 0x0 x\n"
			      "pc.ram zz 1\n"
			      "pc.ram 0x80000000 1\n"
			      "pc.ram -4096 1\n"
			      "pc.rom 0x0 1\n"
			      "pc.ram% 0x0 1\n"
			      "pc.ram%2 0x0 1\n"
			      "\n"
			      "   \n"
			      "pc.ram 0x2000 1\n"
			      "pc.ram 0x4000 1",
	      SNAP_HOT_HEADER "pc.ram 0x2000 1\n");
}

static void runs_end_where_their_block_ends(void **state)
{
	check(SNAP_HOT_HEADER "a%20b%25%0a 0x1000 99\n",
	      SNAP_HOT_HEADER "a%20b%25%0a 0x1000 1\n");
	check(SNAP_HOT_HEADER "a%20b%25%0a 0x0 18446744073709551615\n",
	      SNAP_HOT_HEADER "a%20b%25%0a 0x0 2\n");
}

static void no_more_pages_than_the_limit_are_read(void **state)
{
	check(SNAP_HOT_HEADER "pc.ram 0x0 262138\n"
			      "a%20b%25%0a 0x0 1\n"
			      "pc.ram 0x50000000 999\n"
			      "pc.ram 0x0 1\n",
	      SNAP_HOT_HEADER "pc.ram 0x0 262138\n"
			      "a%20b%25%0a 0x0 1\n"
			      "pc.ram 0x50000000 5\n");
}

static void bytes_of_any_kind_do_no_harm(void **state)
{
	char text[2048];
	uint32_t n = 1;

	memcpy(text, SNAP_HOT_HEADER, strlen(SNAP_HOT_HEADER));
	for (size_t i = strlen(SNAP_HOT_HEADER); i < sizeof(text); i++) {
		n = n * 1664525 + 1013904223;
		text[i] = (char)(n >> 24);
	}
	for (size_t size = 0; size <= sizeof(text); size++)
		g_array_unref(snap_hot_parse(text, size, &ram));
}

/* Checks the merged list of two. */
static void check_merged(const GArray *known, const GArray *asked,
			 const char *expected)
{
	g_autoptr(GArray) merged = snap_hot_merge(known, asked, &ram);
	g_autofree char *text = snap_hot_format(merged, &ram);

	assert_string_equal(text, expected);
}

static void new_pages_come_after_the_known_ones(void **state)
{
	g_autoptr(GArray) known = snap_hot_new();
	g_autoptr(GArray) asked = snap_hot_new();

	snap_hot_add(known, 0, 0x9000, 2);
	snap_hot_add(known, 0, 0x1000, 1);
	snap_hot_add(asked, 0, 0x0000, 3);
	snap_hot_add(asked, 0, 0xa000, 1);
	snap_hot_add(asked, 1, 0x0000, 1);
	check_merged(known, asked,
		     SNAP_HOT_HEADER "pc.ram 0x9000 2\n"
				     "pc.ram 0x1000 1\n"
				     "pc.ram 0x0 1\n"
				     "pc.ram 0x2000 1\n"
				     "a%20b%25%0a 0x0 1\n");
}

static void the_last_known_pages_give_way_when_there_are_too_many(void **state)
{
	g_autoptr(GArray) known = snap_hot_new();
	g_autoptr(GArray) asked = snap_hot_new();

	snap_hot_add(known, 0, 0x0000, SNAP_HOT_PAGES_MAX);
	snap_hot_add(asked, 1, 0x0000, 2);
	check_merged(known, asked,
		     SNAP_HOT_HEADER "pc.ram 0x0 262142\n"
				     "a%20b%25%0a 0x0 2\n");
}

static void known_pages_keep_half_of_the_room(void **state)
{
	g_autoptr(GArray) known = snap_hot_new();
	g_autoptr(GArray) asked = snap_hot_new();

	snap_hot_add(known, 0, 0x40000000, SNAP_HOT_PAGES_MAX);
	snap_hot_add(asked, 0, 0x00000000, SNAP_HOT_PAGES_MAX);
	check_merged(known, asked,
		     SNAP_HOT_HEADER "pc.ram 0x40000000 131072\n"
				     "pc.ram 0x0 131072\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_survives_being_written_and_read),
		cmocka_unit_test(pages_that_follow_one_another_are_one_line),
		cmocka_unit_test(lines_that_are_not_understood_are_ignored),
		cmocka_unit_test(runs_end_where_their_block_ends),
		cmocka_unit_test(no_more_pages_than_the_limit_are_read),
		cmocka_unit_test(bytes_of_any_kind_do_no_harm),
		cmocka_unit_test(new_pages_come_after_the_known_ones),
		cmocka_unit_test(
			the_last_known_pages_give_way_when_there_are_too_many),
		cmocka_unit_test(known_pages_keep_half_of_the_room),
	};

	return cmocka_run_group_tests(tests, make_ram, free_ram);
}
