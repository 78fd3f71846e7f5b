/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The cost of opening a snapshot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "format/base/error.h"
#include "format/image/ondisk.h"
#include "tests/unit/image/model.h"

/* Saves a guest with a page in every region. Its top has full size; the array
 * of the model would be too large. */
static void save_large(struct crash_disk *disk, uint64_t ram)
{
	struct snap_meta meta = { .form = SNAP_FORM_CLASSIC,
				  .target_page = SNAP_PAGE };
	SnapWriter *w = model_writer(disk, 0);

	for (uint64_t i = 0; i < ram / SNAP_REGION; i++)
		assert_int_equal(
			snap_writer_fill(w, i * SNAP_REGION_PAGES + 7, 1, 1),
			0);
	snap_meta_add_block(&meta, SNAP_BLOCK_RAM, "pc.ram", ram);
	snap_meta_add_block(&meta, SNAP_BLOCK_STATE, "devstate", 10);
	assert_int_equal(snap_writer_commit(w, &meta, -1, "x", NULL), 0);
	snap_writer_free(w);
	snap_meta_clear(&meta);
}

static void opening_reads_next_to_nothing(void **state)
{
	static const struct {
		uint64_t ram;
		uint64_t most;
	} sizes[] = {
		{ SNAP_GIB, 1 * SNAP_KIB },
		{ 16 * SNAP_GIB, 2 * SNAP_KIB },
		{ 256 * SNAP_GIB, 8 * SNAP_KIB },
	};

	for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
		g_autoptr(GByteArray) bytes = NULL;
		struct crash_disk disk;
		struct snap_node node;
		SnapReader *r;

		crash_disk_init(&disk);
		save_large(&disk, sizes[i].ram);
		r = model_open(&disk, &bytes);
		assert_in_range(snap_reader_bytes_read(r), 1, sizes[i].most);
		/* The first page: one node, one leaf. */
		assert_int_equal(snap_reader_node(r, 0, &node), 0);
		assert_in_range(snap_reader_bytes_read(r), 1,
				sizes[i].most + 13 * SNAP_KIB);
		snap_reader_free(r);
		crash_disk_clear(&disk);
	}
}

/* The format's own limit: 64 TiB of pages. */
static void the_page_space_may_be_as_large_as_the_format_says(void **state)
{
	const uint64_t all = (uint64_t)SNAP_DISK_NODES_MAX *
			     SNAP_DISK_NODE_ENTRIES * SNAP_REGION;
	struct snap_meta meta = { .form = SNAP_FORM_CLASSIC,
				  .target_page = SNAP_PAGE };
	g_autoptr(GByteArray) bytes = NULL;
	struct crash_disk disk;
	SnapReader *r;
	SnapWriter *w;
	guint n;

	crash_disk_init(&disk);
	w = model_writer(&disk, 0);
	assert_int_equal(snap_writer_fill(w, all / SNAP_PAGE - 1, 1, 1), 0);
	assert_int_equal(snap_writer_fill(w, 0, 1, 1), 0);
	snap_meta_add_block(&meta, SNAP_BLOCK_RAM, "pc.ram",
			    all - 2 * SNAP_REGION);
	snap_meta_add_block(&meta, SNAP_BLOCK_STATE, "devstate",
			    2 * SNAP_REGION + 1);
	assert_int_equal(snap_writer_commit(w, &meta, -1, "x", NULL), -EINVAL);
	meta.blocks[1].length = 2 * SNAP_REGION;
	assert_int_equal(snap_writer_commit(w, &meta, -1, "x", NULL), 0);
	r = model_open(&disk, &bytes);
	assert_int_equal(snap_verify(r, NULL, NULL, NULL, NULL), 0);
	snap_reader_top(r, &n);
	assert_int_equal(n, SNAP_DISK_NODES_MAX);
	assert_in_range(bytes->len, 1, 2 * SNAP_MIB);
	snap_reader_free(r);
	snap_writer_free(w);
	snap_meta_clear(&meta);
	crash_disk_clear(&disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opening_reads_next_to_nothing),
		cmocka_unit_test(
			the_page_space_may_be_as_large_as_the_format_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
