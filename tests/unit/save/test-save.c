/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A stream that is written becomes a snapshot of the same pages, or none. Its
 * writes are answered as promised. */
#include "tests/unit/save/world.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "format/base/log.h"
#include "tests/lib/stream.h"

/* ---- a stream ---- */

static void put_page(struct world *w, uint64_t page, uint32_t seed)
{
	uint8_t *at = w->ram + page * SNAP_PAGE;
	bool named = w->stream->len < 200;

	stream_pattern(at, SNAP_PAGE, seed);
	memset(at + 1000, 0, 2500);
	stream_page(w->stream, named ? "pc.ram" : NULL, page * SNAP_PAGE, at,
		    SNAP_PAGE);
}

static void begin_stream(struct world *w)
{
	w->stream = g_byte_array_new();
	w->ram = g_malloc0(FLAT_SIZE);
	stream_list(w->stream, RAM_SIZE, ROM_SIZE);
	stream_more(w->stream, 2, 2);
}

static void end_stream(struct world *w, const char *description)
{
	uint8_t device[30000];

	stream_eos(w->stream);
	stream_footer(w->stream, 2);
	stream_more(w->stream, 3, 2);
	stream_eos(w->stream);
	stream_footer(w->stream, 2);
	stream_pattern(device, sizeof(device), 99);
	stream_device(w->stream, 7, "cpu", device, sizeof(device), true);
	if (description)
		stream_description(w->stream, description);
	else
		stream_byte(w->stream, 0);
}

/* Every page once, in order, a third of them zero. */
static void whole_stream(struct world *w, const char *description)
{
	begin_stream(w);
	for (uint64_t p = 0; p < RAM_PAGES; p++)
		if (p % 3 || p < 3)
			put_page(w, p, (uint32_t)p + 1);
		else
			stream_fill(w->stream, NULL, p * SNAP_PAGE, 0);
	end_stream(w, description);
}

/* ---- tests ---- */

static void the_write_that_completes_the_stream_finds_it_on_disk(void **state)
{
	static const size_t steps[] = { 997, 131328, 1 << 20 };

	for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
		struct world w;

		world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
		whole_stream(&w, "{\"devices\": []}");
		begin_save(&w);
		assert_int_equal(put_all(&w, w.stream->len, steps[i]), 0);
		assert_true(there_is_a_snapshot(&w));
		assert_int_equal(snap_save_state(w.save, NULL), SNAP_SAVE_DONE);
		assert_saved(&w);
		world_close(&w);
	}
}

/* Adds a page whose last byte could be that of a description, and writes it:
 * true if the answer came before the write returned. */
static bool page_is_answered_at_once(struct world *w, uint64_t page)
{
	guint at = w->stream->len;
	struct outcome *o;
	bool now;

	put_page(w, page, (uint32_t)page + 1);
	w->ram[page * SNAP_PAGE + SNAP_PAGE - 1] = '}';
	w->stream->data[w->stream->len - 1] = '}';
	o = put_later(w, w->stream->data + at, w->stream->len - at, at);
	now = outcome_given(o);
	assert_int_equal(outcome_wait(o), w->stream->len - at);
	return now;
}

static void a_page_is_answered_by_the_thread_that_brings_it(void **state)
{
	struct world w;
	uint64_t page = 0;

	world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
	begin_stream(&w);
	begin_save(&w);
	assert_int_equal(put_all(&w, w.stream->len, 4096), 0);
	/* The save's thread may still be about to let writers in. */
	while (!page_is_answered_at_once(&w, page++))
		assert_true(page < RAM_PAGES / 2);
	while (page < RAM_PAGES)
		assert_true(page_is_answered_at_once(&w, page++));
	page = w.stream->len;
	end_stream(&w, "{\"devices\": []}");
	assert_int_equal(
		put(&w, w.stream->data + page, w.stream->len - page, page),
		w.stream->len - page);
	assert_saved(&w);
	world_close(&w);
}

/* The requests are parked: the save's thread first makes the new file. */
static void requests_behind_the_last_write_wait_for_the_snapshot(void **state)
{
	for (guint i = 0; i < 20; i++) {
		struct outcome *write, *checks[2];
		struct world w;

		world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
		whole_stream(&w, "{\"devices\": []}");
		begin_save(&w);
		write = put_later(&w, w.stream->data, w.stream->len, 0);
		for (guint j = 0; j < G_N_ELEMENTS(checks); j++)
			checks[j] = check_later(&w);
		assert_true(outcome_saved(write));
		assert_int_equal(outcome_wait(write), w.stream->len);
		for (guint j = 0; j < G_N_ELEMENTS(checks); j++) {
			assert_true(outcome_saved(checks[j]));
			assert_int_equal(outcome_wait(checks[j]), 0);
		}
		assert_saved(&w);
		world_close(&w);
	}
}

static void a_stream_without_description_is_saved_when_it_ends(void **state)
{
	struct world w;

	world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
	whole_stream(&w, NULL);
	begin_save(&w);
	assert_int_equal(put_all(&w, w.stream->len, 100000), 0);
	assert_false(there_is_a_snapshot(&w));
	snap_save_end(w.save);
	assert_int_equal(snap_save_wait(w.save, NULL), 0);
	assert_saved(&w);
	world_close(&w);
}

static void pages_in_any_order_and_again_end_as_sent_last(void **state)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(7);
	struct world w;

	world_open(&w, SNAP_SAVER_BUFFER_MIN);
	begin_stream(&w);
	put_page(&w, 0, 1);
	for (int i = 0; i < 6000; i++) {
		uint64_t p = (uint64_t)g_rand_int_range(rand, 0, RAM_PAGES);

		if (g_rand_int_range(rand, 0, 4)) {
			put_page(&w, p, (uint32_t)i + 2);
		} else {
			uint8_t fill = i % 9 ? 0 : 0xff;

			memset(w.ram + p * SNAP_PAGE, fill, SNAP_PAGE);
			stream_fill(w.stream, NULL, p * SNAP_PAGE, fill);
		}
	}
	end_stream(&w, "{\"devices\": []}");
	begin_save(&w);
	assert_int_equal(put_all(&w, w.stream->len, 50000), 0);
	assert_saved(&w);
	world_close(&w);
}

static void pages_sent_again_do_not_make_the_snapshot_grow(void **state)
{
	struct stat once, often;
	struct world w;

	world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
	whole_stream(&w, "{\"devices\": []}");
	begin_save(&w);
	assert_int_equal(put_all(&w, w.stream->len, 1 << 20), 0);
	assert_int_equal(fstatat(w.folder_fd, SNAP_CATALOG_SNAPSHOT, &once, 0),
			 0);
	g_free(w.ram);
	g_byte_array_unref(w.stream);

	begin_stream(&w);
	for (uint64_t p = 0; p < RAM_PAGES; p++)
		if (p % 3 || p < 3)
			put_page(&w, p, (uint32_t)p + 1);
	for (int i = 0; i < 8; i++)
		for (uint64_t p = 0; p < RAM_PAGES; p += 2)
			if (p % 3)
				put_page(&w, p,
					 (uint32_t)(p * 10) + (uint32_t)i);
	end_stream(&w, "{\"devices\": []}");
	begin_save(&w);
	assert_int_equal(put_all(&w, w.stream->len, 1 << 20), 0);
	assert_saved(&w);
	assert_int_equal(fstatat(w.folder_fd, SNAP_CATALOG_SNAPSHOT, &often, 0),
			 0);
	/* A MiB of dead pages is not worth a copy (compact.c: DEAD_MIN). */
	assert_true(often.st_size < once.st_size * 115 / 100 + (off_t)SNAP_MIB);
	world_close(&w);
}

static void a_stream_cut_anywhere_is_never_a_snapshot(void **state)
{
	struct world w;

	world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
	whole_stream(&w, "{\"devices\": []}");
	for (size_t cut = 1; cut < w.stream->len;
	     cut += cut < 300 || cut + 300 > w.stream->len ? 7 : 200001) {
		begin_save(&w);
		put_all(&w, cut, 200000);
		snap_save_end(w.save);
		assert_failed(&w, -EPROTO);
		assert_false(there_is_a_snapshot(&w));
	}
	world_close(&w);
}

/* Saves a stream, and begins to save it once more; *ret_old is the first
 * snapshot. */
static void begin_over_a_snapshot(struct world *w, struct stat *ret_old)
{
	whole_stream(w, "{\"devices\": []}");
	begin_save(w);
	assert_int_equal(put_all(w, w->stream->len, 1 << 20), 0);
	fstatat(w->folder_fd, SNAP_CATALOG_SNAPSHOT, ret_old, 0);
	begin_save(w);
}

static void a_failed_save_leaves_the_old_snapshot(void **state)
{
	struct stat before, after;
	struct world w;

	world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
	begin_over_a_snapshot(&w, &before);
	put_all(&w, w.stream->len - 100, 1 << 20);
	snap_save_end(w.save);
	assert_failed(&w, -EPROTO);
	fstatat(w.folder_fd, SNAP_CATALOG_SNAPSHOT, &after, 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_saved(&w);
	world_close(&w);
}

/* The linker puts this in the place of fsync(2) (--wrap). */
static bool folders_fail;
int __real_fsync(int fd);
int __wrap_fsync(int fd);

int __wrap_fsync(int fd)
{
	if (!folders_fail)
		return __real_fsync(fd);
	errno = EIO;
	return -1;
}

/* The last step of a save is to make the new name durable. */
static void a_save_whose_last_step_fails_leaves_the_old_one(void **state)
{
	struct stat before, after;
	struct world w;

	world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
	begin_over_a_snapshot(&w, &before);
	folders_fail = true;
	assert_int_equal(put_all(&w, w.stream->len, 1 << 20), -EIO);
	folders_fail = false;
	assert_failed(&w, -EIO);
	fstatat(w.folder_fd, SNAP_CATALOG_SNAPSHOT, &after, 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_saved(&w);
	world_close(&w);
}

static void bytes_that_are_no_stream_fail_the_write(void **state)
{
	g_autofree uint8_t *zeros = g_malloc0(100000);
	struct world w;
	ssize_t r = 0;

	world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
	begin_save(&w);
	for (uint64_t at = 0; r >= 0 && at < 100 * SNAP_MIB; at += 100000)
		r = put(&w, zeros, 100000, at);
	assert_int_equal(r, -EPROTO);
	assert_failed(&w, -EPROTO);
	world_close(&w);
}

static void bytes_after_the_end_are_refused(void **state)
{
	struct world w;

	world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
	whole_stream(&w, "{\"devices\": []}");
	begin_save(&w);
	assert_int_equal(put_all(&w, w.stream->len, 1 << 20), 0);
	assert_int_equal(put(&w, "x", 1, w.stream->len), -EPROTO);
	assert_saved(&w);
	world_close(&w);
}

static void a_write_out_of_sequence_is_refused(void **state)
{
	struct world w;

	world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
	whole_stream(&w, "{\"devices\": []}");
	begin_save(&w);
	assert_int_equal(put(&w, w.stream->data, 100, 0), 100);
	assert_int_equal(put(&w, w.stream->data, 100, 200), -EINVAL);
	assert_int_equal(put(&w, w.stream->data, 100, 0), -EINVAL);
	snap_save_end(w.save);
	assert_failed(&w, -EPROTO);
	world_close(&w);
}

/* Device state with zeros from *ret_hole to *ret_end, which a copy leaves
 * out. */
static void stream_with_zeros(struct world *w, size_t *ret_hole,
			      size_t *ret_end)
{
	static const uint8_t zeros[4 * SNAP_PAGE];

	whole_stream(w, NULL);
	g_byte_array_set_size(w->stream, w->stream->len - 1);
	*ret_hole = snap_round_up(w->stream->len + 100, SNAP_PAGE);
	*ret_end = *ret_hole + 2 * SNAP_PAGE;
	stream_device(w->stream, 9, "zeros", zeros, sizeof(zeros), true);
	stream_description(w->stream, "{\"devices\": []}");
}

static ssize_t put_range(struct world *w, size_t from, size_t to)
{
	return put(w, w->stream->data + from, to - from, from);
}

static void a_hole_in_device_state_is_zeros(void **state)
{
	g_autofree uint8_t *found = NULL;
	const struct snap_block *block;
	struct snap_meta meta;
	size_t hole, end, left;
	struct world w;

	world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
	stream_with_zeros(&w, &hole, &end);
	left = w.stream->len - hole;
	begin_save(&w);
	assert_int_equal(put_range(&w, 0, SNAP_MIB), SNAP_MIB);
	assert_int_equal(put_range(&w, end, w.stream->len), -EINVAL);
	assert_int_equal(put_range(&w, SNAP_MIB, hole), hole - SNAP_MIB);
	assert_int_equal(put_range(&w, end + 1, w.stream->len), -EINVAL);
	assert_int_equal(put_range(&w, end, w.stream->len),
			 w.stream->len - end);
	assert_saved(&w);
	saved_meta(&w, &meta);
	block = snap_meta_find(&meta, SNAP_BLOCK_STATE);
	found = saved_bytes(&w, block->base + block->length - left, left);
	assert_memory_equal(found, w.stream->data + hole, left);
	snap_meta_clear(&meta);
	world_close(&w);
}

/* A limit on file sizes stands in for a full disk. */
static void a_disk_that_is_full_fails_the_write(void **state)
{
	struct rlimit before, small = { SNAP_MIB, SNAP_MIB };
	struct world w;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small.rlim_max = before.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
	whole_stream(&w, "{\"devices\": []}");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	begin_save(&w);
	assert_int_equal(put_all(&w, w.stream->len, 100000), -EFBIG);
	assert_failed(&w, -EFBIG);
	assert_false(there_is_a_snapshot(&w));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	begin_save(&w);
	assert_int_equal(put_all(&w, w.stream->len, 100000), 0);
	assert_saved(&w);
	world_close(&w);
}

static void a_check_says_whether_the_stream_could_end_here(void **state)
{
	struct world w;

	world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
	whole_stream(&w, "{\"devices\": []}");
	begin_save(&w);
	assert_int_equal(put_all(&w, w.stream->len - 1, 100000), 0);
	assert_int_equal(check(&w), -EPROTO);
	assert_int_equal(put(&w, w.stream->data + w.stream->len - 1, 1,
			     w.stream->len - 1),
			 1);
	assert_int_equal(check(&w), 0);
	assert_saved(&w);
	g_free(w.ram);
	g_byte_array_unref(w.stream);
	/* A complete stream without a description. */
	whole_stream(&w, NULL);
	begin_save(&w);
	assert_int_equal(put_all(&w, w.stream->len, 100000), 0);
	assert_int_equal(check(&w), 0);
	snap_save_end(w.save);
	assert_int_equal(snap_save_wait(w.save, NULL), 0);
	world_close(&w);
}

static void a_save_dropped_on_purpose_leaves_no_note(void **state)
{
	static const char *const whys[] = { NULL, "the mount was ended" };

	for (guint i = 0; i < G_N_ELEMENTS(whys); i++) {
		g_autofree char *note = NULL;
		struct world w;

		world_open(&w, SNAP_SAVER_BUFFER_DEFAULT);
		whole_stream(&w, "{\"devices\": []}");
		begin_save(&w);
		assert_int_equal(put_all(&w, w.stream->len / 2, 100000), 0);
		snap_save_abort(w.save, whys[i]);
		assert_int_equal(snap_save_wait(w.save, NULL), -ECANCELED);
		note = snap_catalog_noted(w.folder_fd);
		assert_int_equal(note != NULL, whys[i] != NULL);
		if (note)
			assert_non_null(strstr(note, whys[i]));
		assert_false(there_is_a_snapshot(&w));
		world_close(&w);
	}
}

/* Saves that wait for their writers do not block one more save: it is refused
 * with a sentence. */
static void one_save_too_many_is_refused_at_once(void **state)
{
	struct snap_save_opts opts = {
		.path = "vm1", .owner = { (uid_t)-1, (gid_t)-1, 0600 }
	};
	g_autoptr(GPtrArray) idle =
		g_ptr_array_new_with_free_func((GDestroyNotify)snap_save_unref);
	g_autoptr(GError) error = NULL;
	SnapSave *save;
	struct world w;

	world_open(&w, SNAP_SAVER_BUFFER_MIN);
	whole_stream(&w, "{\"devices\": []}");
	begin_save(&w);
	opts.folder_fd = w.folder_fd;
	while (snap_save_new(w.saver, &opts, &save, &error) == 0) {
		g_ptr_array_add(idle, save);
		assert_true(idle->len < 100);
	}
	assert_true(idle->len > 0);
	assert_int_equal(error->code, EBUSY);
	assert_int_equal(put_all(&w, w.stream->len, 100000), 0);
	assert_int_equal(snap_save_wait(w.save, NULL), 0);
	g_ptr_array_set_size(idle, 0);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			the_write_that_completes_the_stream_finds_it_on_disk),
		cmocka_unit_test(
			a_page_is_answered_by_the_thread_that_brings_it),
		cmocka_unit_test(
			requests_behind_the_last_write_wait_for_the_snapshot),
		cmocka_unit_test(
			a_stream_without_description_is_saved_when_it_ends),
		cmocka_unit_test(pages_in_any_order_and_again_end_as_sent_last),
		cmocka_unit_test(
			pages_sent_again_do_not_make_the_snapshot_grow),
		cmocka_unit_test(a_stream_cut_anywhere_is_never_a_snapshot),
		cmocka_unit_test(a_failed_save_leaves_the_old_snapshot),
		cmocka_unit_test(
			a_save_whose_last_step_fails_leaves_the_old_one),
		cmocka_unit_test(bytes_that_are_no_stream_fail_the_write),
		cmocka_unit_test(bytes_after_the_end_are_refused),
		cmocka_unit_test(a_write_out_of_sequence_is_refused),
		cmocka_unit_test(a_hole_in_device_state_is_zeros),
		cmocka_unit_test(a_disk_that_is_full_fails_the_write),
		cmocka_unit_test(
			a_check_says_whether_the_stream_could_end_here),
		cmocka_unit_test(a_save_dropped_on_purpose_leaves_no_note),
		cmocka_unit_test(one_save_too_many_is_refused_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
