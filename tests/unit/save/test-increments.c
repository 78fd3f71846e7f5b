/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A save with a parent reads as it was written, and stores what differs. */
#include "tests/unit/save/mapped-file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/image/ondisk.h"
#include "tests/lib/stream.h"

static void open_world(struct world *w)
{
	world_open(w, SNAP_SAVER_BUFFER_DEFAULT);
	world_increments(w);
	file_fill_ram(w);
}

/* Saves w->ram as QEMU does it. */
static void save_mapped(struct world *w)
{
	struct file f = { .page = SNAP_PAGE };
	g_autoptr(GArray) cuts = NULL;

	g_clear_pointer(&w->stream, g_byte_array_unref);
	w->stream = g_byte_array_new();
	file_make(w, &f);
	begin_save(w);
	cuts = cuts_of_qemu(w, &f);
	assert_int_equal(put_cuts(w, cuts), 0);
	assert_int_equal(snap_save_wait(w->save, NULL), 0);
}

static void save_classic(struct world *w)
{
	g_clear_pointer(&w->stream, g_byte_array_unref);
	w->stream = g_byte_array_new();
	file_make_classic(w);
	begin_save(w);
	assert_int_equal(put_all(w, w->stream->len, 65536), 0);
	assert_int_equal(snap_save_wait(w->save, NULL), 0);
}

static uint64_t saved_size(const struct world *w)
{
	struct stat st;

	assert_int_equal(fstatat(w->folder_fd, SNAP_CATALOG_SNAPSHOT, &st, 0),
			 0);
	return (uint64_t)st.st_size;
}

/* The bits of the superblock that keep older programs away. */
static uint64_t saved_incompat(const struct world *w)
{
	struct snap_disk_superblock d;
	snap_autofd int fd = openat(w->folder_fd, SNAP_CATALOG_SNAPSHOT,
				    O_RDONLY | O_CLOEXEC);

	assert_int_equal(pread(fd, &d, sizeof(d), 0), sizeof(d));
	return snap_le64(d.incompat);
}

static guint saved_parents(struct world *w)
{
	struct snap_meta meta;
	guint n;

	saved_meta(w, &meta);
	n = meta.n_layers;
	snap_meta_clear(&meta);
	return n;
}

static void change_page(struct world *w, uint64_t page, uint32_t seed)
{
	stream_pattern(w->ram + page * SNAP_PAGE, SNAP_PAGE, seed);
}

/* Goes on in another folder. */
static void go_to(struct world *w, const char *name)
{
	close(w->folder_fd);
	mkdirat(snap_catalog_fd(w->catalog), name, 0700);
	w->folder_fd = openat(snap_catalog_fd(w->catalog), name,
			      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(w->folder_fd >= 0);
}

/* ---- what differs ---- */

static void a_second_save_stores_what_changed(void **state)
{
	for (guint mapped = 0; mapped < 2; mapped++) {
		struct world w;
		uint64_t first;

		open_world(&w);
		save_classic(&w);
		assert_int_equal(saved_parents(&w), 0);
		first = saved_size(&w);
		for (guint i = 0; i < 20; i++)
			change_page(&w, 50 * i, 7000 + i);
		if (mapped)
			save_mapped(&w);
		else
			save_classic(&w);
		assert_saved(&w);
		assert_int_equal(saved_parents(&w), 1);
		assert_in_range(saved_size(&w), 1, first / 5);
		world_close(&w);
	}
}

/* The pages of the first block come before the second block is listed. */
static void a_mapped_file_that_is_copied_stores_what_differs(void **state)
{
	struct file f = { .page = SNAP_PAGE };
	struct world w;
	uint64_t first;

	open_world(&w);
	save_classic(&w);
	first = saved_size(&w);
	for (guint i = 0; i < 20; i++)
		change_page(&w, 50 * i, 7000 + i);
	g_clear_pointer(&w.stream, g_byte_array_unref);
	w.stream = g_byte_array_new();
	file_make(&w, &f);
	begin_save(&w);
	assert_int_equal(put_all(&w, w.stream->len, 65536), 0);
	assert_int_equal(snap_save_wait(w.save, NULL), 0);
	assert_saved(&w);
	assert_int_equal(saved_parents(&w), 1);
	assert_in_range(saved_size(&w), 1, first / 5);
	world_close(&w);
}

/* While most pages differ, few are compared; not for long after that. */
static void behind_a_run_of_other_pages_it_stores_little(void **state)
{
	const guint run = 320;
	struct world w;
	uint64_t first;

	open_world(&w);
	for (guint page = 0; page < RAM_PAGES; page++)
		change_page(&w, page, page);
	save_classic(&w);
	first = saved_size(&w);
	for (guint page = 0; page < run; page++)
		change_page(&w, page, 20000 + page);
	save_classic(&w);
	assert_saved(&w);
	assert_in_range(saved_size(&w), 1, first / 2);
	world_close(&w);
}

static void pages_become_zero_and_come_back(void **state)
{
	struct world w;

	open_world(&w);
	save_classic(&w);
	/* To zero, to one byte, from zero. */
	memset(w.ram + 20 * SNAP_PAGE, 0, 40 * SNAP_PAGE);
	memset(w.ram + 100 * SNAP_PAGE, 0x11, 40 * SNAP_PAGE);
	for (guint i = 600; i < 640; i++)
		change_page(&w, i, 9000 + i);
	save_classic(&w);
	assert_saved(&w);
	assert_int_equal(saved_parents(&w), 1);
	memset(w.ram + 600 * SNAP_PAGE, 0, 40 * SNAP_PAGE);
	for (guint i = 20; i < 60; i++)
		change_page(&w, i, 8000 + i);
	save_mapped(&w);
	assert_saved(&w);
	world_close(&w);
}

/* ---- any order ---- */

static void put_page(struct world *w, uint64_t page)
{
	stream_page(w->stream, w->stream->len < 200 ? "pc.ram" : NULL,
		    page * SNAP_PAGE, w->ram + page * SNAP_PAGE, SNAP_PAGE);
}

static void begin_stream(struct world *w)
{
	g_clear_pointer(&w->stream, g_byte_array_unref);
	w->stream = g_byte_array_new();
	stream_list(w->stream, RAM_SIZE, ROM_SIZE);
	stream_more(w->stream, 2, 2);
}

static void end_stream(struct world *w)
{
	stream_eos(w->stream);
	stream_footer(w->stream, 2);
	stream_more(w->stream, 3, 2);
	stream_eos(w->stream);
	stream_footer(w->stream, 2);
	stream_device(w->stream, 7, "cpu", "state", 5, true);
	stream_description(w->stream, "{\"devices\": []}");
	begin_save(w);
	assert_int_equal(put_all(w, w->stream->len, 65536), 0);
	assert_int_equal(snap_save_wait(w->save, NULL), 0);
}

/* Sends pages in any order, some of them several times: first with other
 * content, then with that of the parent, or the reverse. */
static void send_scattered(struct world *w, GRand *rand)
{
	begin_stream(w);
	for (guint i = 0; i < 3 * RAM_PAGES; i++) {
		uint64_t page = (uint64_t)g_rand_int_range(rand, 0, RAM_PAGES);
		uint8_t old[SNAP_PAGE];

		memcpy(old, w->ram + page * SNAP_PAGE, SNAP_PAGE);
		if (g_rand_int_range(rand, 0, 4) == 0) {
			change_page(w, page, g_rand_int(rand));
			put_page(w, page);
			if (g_rand_boolean(rand))
				continue;
			memcpy(w->ram + page * SNAP_PAGE, old, SNAP_PAGE);
		}
		put_page(w, page);
	}
	/* All that has not come is sent at last. */
	for (uint64_t page = 0; page < RAM_PAGES; page++)
		put_page(w, page);
	for (uint64_t page = 0; page < ROM_PAGES; page++)
		stream_page(w->stream, page ? NULL : "pc.rom", page * SNAP_PAGE,
			    w->ram + ROM_FLAT + page * SNAP_PAGE, SNAP_PAGE);
	end_stream(w);
}

static void pages_may_come_in_any_order_and_again(void **state)
{
	for (guint32 seed = 0; seed < 4; seed++) {
		g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
		struct world w;

		open_world(&w);
		save_classic(&w);
		send_scattered(&w, rand);
		assert_saved(&w);
		/* In so many pieces, regions may be stored whole. */
		assert_in_range(saved_parents(&w), 0, 1);
		world_close(&w);
	}
}

static guint most_runs(struct world *w)
{
	g_autoptr(SnapReader) r = NULL;
	struct snap_node node;
	struct snap_leaf leaf;
	guint most = 0;

	assert_int_equal(snap_catalog_find(w->folder_fd, &r, NULL), 0);
	assert_int_equal(snap_reader_node(r, 0, &node), 0);
	for (guint i = 0; i < node.n; i++) {
		assert_int_equal(
			snap_reader_leaf(r, i, &node.entries[i], &leaf), 0);
		most = MAX(most, snap_leaf_runs(&leaf));
	}
	return most;
}

static void a_region_of_too_many_runs_is_stored_whole(void **state)
{
	struct world w;

	open_world(&w);
	for (guint page = 0; page < RAM_PAGES; page++)
		change_page(&w, page, page);
	save_classic(&w);
	/* Every third page of the first region. */
	for (guint page = 0; page < 510; page += 3)
		change_page(&w, page, 20000 + page);
	save_classic(&w);
	assert_saved(&w);
	assert_int_equal(saved_parents(&w), 1);
	assert_in_range(most_runs(&w), 1, SNAP_SHARED_RUNS_MAX);
	world_close(&w);
}

/* ---- which parent ---- */

static void the_newest_snapshot_of_the_same_guest_is_found(void **state)
{
	struct world w;
	uint64_t first;

	open_world(&w);
	save_classic(&w);
	first = saved_size(&w);
	go_to(&w, "vm2");
	change_page(&w, 3, 77);
	save_classic(&w);
	assert_saved(&w);
	assert_int_equal(saved_parents(&w), 1);
	assert_in_range(saved_size(&w), 1, first / 5);
	world_close(&w);
}

static void the_candidate_that_fits_best_is_chosen(void **state)
{
	struct world w;
	uint64_t first;

	open_world(&w);
	save_classic(&w);
	first = saved_size(&w);
	/* A newer one of another guest with the same RAM blocks. */
	go_to(&w, "other");
	for (guint page = 0; page < RAM_PAGES; page++)
		stream_pattern(w.ram + page * SNAP_PAGE, SNAP_PAGE,
			       50000 + page * 3);
	stream_pattern(w.ram + ROM_FLAT, ROM_SIZE, 4712);
	save_classic(&w);
	assert_int_equal(saved_parents(&w), 0);
	go_to(&w, "vm2");
	g_clear_pointer(&w.ram, g_free);
	file_fill_ram(&w);
	save_classic(&w);
	assert_saved(&w);
	assert_int_equal(saved_parents(&w), 1);
	assert_in_range(saved_size(&w), 1, first / 3);
	world_close(&w);
}

/* Saves with other pages in front. */
static void save_with_front(struct world *w, uint32_t seed)
{
	for (guint page = 0; page < 100; page++)
		change_page(w, page, seed + page);
	save_classic(w);
}

static void if_the_best_candidate_is_gone_the_next_one_is_chosen(void **state)
{
	const size_t begun = 10 * SNAP_PAGE;
	struct snap_meta second, third;
	struct world w;
	int first;

	world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
	file_fill_ram(&w);
	save_with_front(&w, 10000);
	go_to(&w, "vm2");
	save_with_front(&w, 20000);
	saved_meta(&w, &second);
	g_clear_pointer(&w.save, snap_save_unref);
	world_increments(&w);
	go_to(&w, "vm3");
	for (guint page = 0; page < 100; page++)
		change_page(&w, page, 10000 + page);
	g_clear_pointer(&w.stream, g_byte_array_unref);
	w.stream = g_byte_array_new();
	file_make_classic(&w);
	begin_save(&w);
	/* A few pages only: the candidates are known, none is chosen. */
	assert_int_equal(put_all(&w, begun, SNAP_PAGE), 0);
	first = snap_catalog_folder(w.catalog, "vm1");
	assert_int_equal(snap_catalog_remove(w.catalog, first), 0);
	close(first);
	assert_int_equal(
		put(&w, w.stream->data + begun, w.stream->len - begun, begun),
		w.stream->len - begun);
	assert_int_equal(snap_save_wait(w.save, NULL), 0);
	assert_saved(&w);
	saved_meta(&w, &third);
	assert_int_equal(third.n_layers, 1);
	assert_memory_equal(third.layers[0].uuid, second.uuid, 16);
	snap_meta_clear(&second);
	snap_meta_clear(&third);
	world_close(&w);
}

static void only_a_snapshot_with_a_parent_says_so(void **state)
{
	struct world w;

	open_world(&w);
	save_classic(&w);
	assert_int_equal(saved_incompat(&w), 0);
	change_page(&w, 3, 77);
	save_classic(&w);
	assert_int_equal(saved_incompat(&w), SNAP_INCOMPAT_LAYERS);
	world_close(&w);
}

static void without_the_option_a_snapshot_stands_alone(void **state)
{
	struct world w;

	world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
	file_fill_ram(&w);
	save_classic(&w);
	save_classic(&w);
	assert_saved(&w);
	assert_int_equal(saved_parents(&w), 0);
	world_close(&w);
}

/* ---- chains ---- */

static guint count_layers(const struct world *w)
{
	g_autofree char *path =
		g_build_filename(w->store, SNAP_CATALOG_LAYERS, NULL);
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	guint n = 0;

	while (dir && g_dir_read_name(dir))
		n++;
	return n;
}

static void a_long_chain_uses_few_files_and_reads_right(void **state)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);
	struct world w;

	open_world(&w);
	for (guint i = 0; i < 30; i++) {
		for (guint j = 0; j < 60; j++)
			change_page(
				&w,
				(uint64_t)g_rand_int_range(rand, 0, RAM_PAGES),
				g_rand_int(rand));
		if (i % 2)
			save_mapped(&w);
		else
			save_classic(&w);
		assert_saved(&w);
		assert_in_range(saved_parents(&w), i ? 1 : 0, 8);
		assert_int_equal(snap_catalog_collect(w.catalog, NULL), 0);
		assert_in_range(count_layers(&w), saved_parents(&w), 10);
	}
	assert_int_equal(snap_catalog_remove(w.catalog, w.folder_fd), 0);
	assert_int_equal(snap_catalog_collect(w.catalog, NULL), 0);
	assert_int_equal(snap_catalog_collect(w.catalog, NULL), 0);
	assert_int_equal(count_layers(&w), 0);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_second_save_stores_what_changed),
		cmocka_unit_test(
			a_mapped_file_that_is_copied_stores_what_differs),
		cmocka_unit_test(behind_a_run_of_other_pages_it_stores_little),
		cmocka_unit_test(pages_become_zero_and_come_back),
		cmocka_unit_test(pages_may_come_in_any_order_and_again),
		cmocka_unit_test(a_region_of_too_many_runs_is_stored_whole),
		cmocka_unit_test(
			the_newest_snapshot_of_the_same_guest_is_found),
		cmocka_unit_test(the_candidate_that_fits_best_is_chosen),
		cmocka_unit_test(
			if_the_best_candidate_is_gone_the_next_one_is_chosen),
		cmocka_unit_test(only_a_snapshot_with_a_parent_says_so),
		cmocka_unit_test(without_the_option_a_snapshot_stands_alone),
		cmocka_unit_test(a_long_chain_uses_few_files_and_reads_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
