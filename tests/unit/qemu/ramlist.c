/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "format/base/error.h"
#include "format/base/units.h"
#include "format/qemu/ramlist.h"

static void gives_each_block_a_region_of_its_own(void **state)
{
	struct snap_ramlist list = { 0 };

	assert_int_equal(snap_ramlist_add(&list, "a", 4096, 0, 0, 4096, NULL),
			 0);
	assert_int_equal(snap_ramlist_add(&list, "b", SNAP_REGION + 4096, 0, 0,
					  4096, NULL),
			 0);
	assert_int_equal(snap_ramlist_add(&list, "c", 8192, 0, 0, 4096, NULL),
			 0);
	assert_int_equal(list.blocks[0].flat, 0);
	assert_int_equal(list.blocks[1].flat, SNAP_REGION);
	assert_int_equal(list.blocks[2].flat, 3 * SNAP_REGION);
	assert_int_equal(list.flat_size, 3 * SNAP_REGION + 8192);
	snap_ramlist_clear(&list);
	assert_null(list.blocks);
	assert_int_equal(list.n, 0);
	assert_int_equal(list.flat_size, 0);
}

static void finds_a_block_by_its_whole_name(void **state)
{
	struct snap_ramlist list = { 0 };

	snap_ramlist_add(&list, "pc.ram", 4096, 0, 0, 4096, NULL);
	snap_ramlist_add(&list, "pc.ram2", 4096, 0, 0, 4096, NULL);
	assert_int_equal(snap_ramlist_find(&list, "pc.ram2", 6), 0);
	assert_int_equal(snap_ramlist_find(&list, "pc.ram2", 7), 1);
	assert_int_equal(snap_ramlist_find(&list, "pc.ram", 5), -1);
	assert_int_equal(snap_ramlist_find(&list, "pc.ram\0x", 8), -1);
	assert_int_equal(snap_ramlist_find(&list, "", 0), -1);
	snap_ramlist_clear(&list);
}

static void takes_a_name_of_255_bytes_and_no_longer_one(void **state)
{
	g_autofree char *name = g_strnfill(256, 'n');
	struct snap_ramlist list = { 0 };

	assert_int_equal(snap_ramlist_add(&list, name, 4096, 0, 0, 4096, NULL),
			 -EPROTO);
	name[255] = '\0';
	assert_int_equal(snap_ramlist_add(&list, name, 4096, 0, 0, 4096, NULL),
			 0);
	assert_int_equal(snap_ramlist_find(&list, name, 255), 0);
	snap_ramlist_clear(&list);
}

static void a_refused_block_leaves_the_list_as_it_was(void **state)
{
	struct snap_ramlist list = { 0 };

	snap_ramlist_add(&list, "a", SNAP_RAM_BYTES_MAX - SNAP_REGION, 0, 0,
			 4096, NULL);
	assert_int_equal(snap_ramlist_add(&list, "", 4096, 0, 0, 4096, NULL),
			 -EPROTO);
	assert_int_equal(snap_ramlist_add(&list, "a", 4096, 0, 0, 4096, NULL),
			 -EPROTO);
	assert_int_equal(snap_ramlist_add(&list, "b", 4096, 0, 0, 65536, NULL),
			 -EPROTO);
	assert_int_equal(snap_ramlist_add(&list, "b", SNAP_REGION + 4096, 0, 0,
					  4096, NULL),
			 -EPROTO);
	assert_int_equal(snap_ramlist_add(&list, "b", UINT64_MAX - 4095, 0, 0,
					  4096, NULL),
			 -EPROTO);
	assert_int_equal(list.n, 1);
	assert_int_equal(
		snap_ramlist_add(&list, "b", SNAP_REGION, 0, 0, 4096, NULL), 0);
	assert_int_equal(list.flat_size, SNAP_RAM_BYTES_MAX);
	snap_ramlist_clear(&list);
}

static void takes_4096_blocks_and_no_more(void **state)
{
	struct snap_ramlist list = { 0 };
	char name[16];

	for (guint i = 0; i <= SNAP_RAM_BLOCKS_MAX; i++) {
		g_snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(
			snap_ramlist_add(&list, name, 4096, 0, 0, 4096, NULL),
			i < SNAP_RAM_BLOCKS_MAX ? 0 : -EPROTO);
	}
	assert_int_equal(list.n, SNAP_RAM_BLOCKS_MAX);
	snap_ramlist_clear(&list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_each_block_a_region_of_its_own),
		cmocka_unit_test(finds_a_block_by_its_whole_name),
		cmocka_unit_test(takes_a_name_of_255_bytes_and_no_longer_one),
		cmocka_unit_test(a_refused_block_leaves_the_list_as_it_was),
		cmocka_unit_test(takes_4096_blocks_and_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
