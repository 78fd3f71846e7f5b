/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A snapshot reads as it was written, whatever the size of the cache, the order
 * of reads and the number of readers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "format/base/log.h"
#include "fs/load/pages.h"
#include "tests/lib/image-fixture.h"

#define PAGES (7 * SNAP_REGION_PAGES - 100)

struct world {
	struct image_fixture f;
	SnapLoader *loader;
	SnapPages *pages;
};

static void world_open(struct world *w, uint64_t cache)
{
	struct snap_loader_opts opts = { .cache = cache, .threads = 2 };

	image_fixture_make(&w->f, PAGES, 42);
	w->loader = snap_loader_new(&opts);
	w->pages = snap_pages_new(w->loader, image_fixture_open(&w->f), "vm1");
}

static void world_close(struct world *w)
{
	snap_pages_unref(w->pages);
	snap_loader_free(w->loader);
	image_fixture_clear(&w->f);
}

static void read_and_compare(struct world *w, uint64_t offset, size_t size,
			     struct snap_pages_hint *hint)
{
	g_autofree uint8_t *buf = g_malloc(size);

	memset(buf, 0xaa, size);
	assert_int_equal(snap_pages_read(w->pages, buf, size, offset, hint), 0);
	assert_memory_equal(buf, w->f.bytes + offset, size);
}

static void reads_at_random_what_was_written(void **state)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);
	struct world w;

	world_open(&w, SNAP_CACHE_MIN);
	for (int i = 0; i < 2000; i++) {
		size_t size = (size_t)g_rand_int_range(rand, 1, 300000);
		uint64_t offset = (uint64_t)g_rand_int_range(
			rand, 0, (gint32)(w.f.size - size));

		if (i % 2)
			size = size % 5000 + 1;
		read_and_compare(&w, offset, size, NULL);
	}
	world_close(&w);
}

static void reads_in_order_with_readahead(void **state)
{
	struct snap_pages_hint hint = { 0 };
	struct world w;

	world_open(&w, SNAP_CACHE_DEFAULT);
	for (uint64_t at = 0; at < w.f.size; at += 100000)
		read_and_compare(&w, at, MIN(100000, w.f.size - at), &hint);
	assert_true(snap_loader_stats(w.loader).readahead > 0);
	world_close(&w);
}

static void past_the_last_block_all_is_zero(void **state)
{
	static const uint8_t zero[SNAP_PAGE];
	uint8_t page[SNAP_PAGE];
	struct world w;

	world_open(&w, SNAP_CACHE_MIN);
	assert_int_equal(snap_pages_read(w.pages, page, sizeof(page),
					 w.f.size + 3, NULL),
			 0);
	assert_memory_equal(page, zero, sizeof(page));
	assert_int_equal(snap_pages_read(w.pages, page, sizeof(page),
					 UINT64_MAX / 2, NULL),
			 0);
	world_close(&w);
}

static void keeps_no_more_than_the_cache_may(void **state)
{
	struct world w;

	world_open(&w, SNAP_CACHE_MIN);
	for (int i = 0; i < 2; i++) {
		read_and_compare(&w, 0, w.f.size, NULL);
		assert_true(snap_loader_stats(w.loader).cached <=
			    SNAP_CACHE_MIN);
	}
	world_close(&w);
}

static gpointer reader_thread(gpointer data)
{
	struct world *w = data;

	for (int i = 0; i < 3; i++) {
		struct snap_pages_hint hint = { 0 };

		read_and_compare(w, 0, w->f.size, &hint);
	}
	return NULL;
}

/* Frames that were loaded so far, by readers and ahead of them. */
static uint64_t loads_of(const struct world *w)
{
	struct snap_loader_stats s = snap_loader_stats(w->loader);

	return s.misses + s.readahead;
}

static void many_readers_load_a_frame_once(void **state)
{
	GThread *threads[6];
	uint64_t loads;
	struct world w;

	world_open(&w, SNAP_CACHE_DEFAULT);
	reader_thread(&w);
	loads = loads_of(&w);
	world_close(&w);

	world_open(&w, SNAP_CACHE_DEFAULT);
	for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
		threads[i] = g_thread_new("reader", reader_thread, &w);
	for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
		g_thread_join(threads[i]);
	assert_true(loads_of(&w) <= loads);
	world_close(&w);
}

/* What was used twice stays, whatever else is read once. */
static void keeps_what_is_used_again(void **state)
{
	struct snap_pages_hint hint = { 0 };
	const size_t some = SNAP_REGION;
	uint64_t read;
	struct world w;

	world_open(&w, SNAP_CACHE_DEFAULT);
	for (int i = 0; i < 2; i++)
		for (size_t at = 0; at < some; at += SNAP_PAGE)
			read_and_compare(&w, at, SNAP_PAGE, &hint);
	read_and_compare(&w, some, w.f.size - some, &hint);
	read = snap_loader_stats(w.loader).bytes_read;
	read_and_compare(&w, 0, some, NULL);
	assert_int_equal(snap_loader_stats(w.loader).bytes_read, read);
	world_close(&w);
}

/* A reader of whole extents without readahead uses cached extents, and adds
 * none. */
static void whole_extents_pass_by_the_cache(void **state)
{
	struct snap_pages_hint hint = { 0 };
	uint64_t cached, read;
	struct world w;

	world_open(&w, SNAP_CACHE_DEFAULT);
	for (int i = 0; i < 2; i++) /* parts of extents are cached */
		read_and_compare(&w, 0, w.f.size, NULL);
	cached = snap_loader_stats(w.loader).cached;
	read_and_compare(&w, 0, w.f.size, NULL);
	assert_int_equal(snap_loader_stats(w.loader).cached, cached);

	for (int i = 0; i < 2; i++)
		read_and_compare(&w, 0, w.f.size, &hint);
	assert_true(snap_loader_stats(w.loader).cached > cached);
	read = snap_loader_stats(w.loader).bytes_read;
	read_and_compare(&w, 0, w.f.size, NULL);
	assert_int_equal(snap_loader_stats(w.loader).bytes_read, read);
	world_close(&w);
}

static bool page_is_zero(const struct world *w, uint64_t page)
{
	static const uint8_t zero[SNAP_PAGE];

	return !memcmp(w->f.bytes + page * SNAP_PAGE, zero, SNAP_PAGE);
}

static void knows_which_pages_are_stored(void **state)
{
	struct world w;

	world_open(&w, SNAP_CACHE_MIN);
	for (uint64_t r = 0; r * SNAP_REGION_PAGES < PAGES; r++) {
		uint64_t bits[SNAP_REGION_PAGES / 64];

		assert_int_equal(snap_pages_stored(w.pages, r, bits), 0);
		for (guint p = 0; p < SNAP_REGION_PAGES; p++)
			assert_int_equal(bits[p / 64] >> p % 64 & 1,
					 !page_is_zero(&w, r * 512 + p));
	}
	world_close(&w);
}

static void seeks_data_and_holes_as_they_are(void **state)
{
	struct world w;

	world_open(&w, SNAP_CACHE_MIN);
	for (int zero = 0; zero < 2; zero++) {
		uint64_t expected = PAGES;

		for (uint64_t page = PAGES; page-- > 0;) {
			uint64_t found;

			if (page_is_zero(&w, page) == zero)
				expected = page;
			assert_int_equal(snap_pages_seek(w.pages, page, PAGES,
							 zero, &found),
					 0);
			assert_int_equal(found, expected);
		}
	}
	world_close(&w);
}

static void finds_the_record_at_every_offset(void **state)
{
	struct snap_pages_records rec = {
		.end = PAGES, .unit = 1, .stored = 4104, .zero = 9
	};
	uint64_t at = 0, page, found, begin;
	struct world w;

	world_open(&w, SNAP_CACHE_MIN);
	for (page = 0; page < PAGES; page++) {
		uint64_t size = page_is_zero(&w, page) ? 9 : 4104;
		uint64_t probes[] = { at, at + 1, at + size - 1 };

		for (guint i = 0; i < G_N_ELEMENTS(probes); i++) {
			assert_int_equal(snap_pages_find(w.pages, &rec,
							 probes[i], &found,
							 &begin),
					 0);
			assert_int_equal(found, page);
			assert_int_equal(begin, at);
		}
		at += size;
	}
	assert_int_equal(snap_pages_find(w.pages, &rec, at, &found, &begin), 0);
	assert_int_equal(found, PAGES);
	assert_int_equal(begin, at);
	world_close(&w);
}

static void damage_is_an_error_there_and_nowhere_else(void **state)
{
	uint8_t page[SNAP_PAGE], byte;
	uint64_t bad = 0, good = 0;
	struct world w;
	int fd;

	world_open(&w, SNAP_CACHE_MIN);
	snap_log_open(snap_log_to_stderr, SNAP_LOG_ERROR);
	fd = openat(w.f.fd, "snapshot.zst", O_RDWR);
	assert_int_equal(pread(fd, &byte, 1, 5000), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, 5000), 1);
	close(fd);
	for (uint64_t p = 0; p < PAGES; p++) {
		int r = snap_pages_read(w.pages, page, SNAP_PAGE, p * SNAP_PAGE,
					NULL);

		if (r == 0) {
			assert_memory_equal(page, w.f.bytes + p * SNAP_PAGE,
					    SNAP_PAGE);
			good++;
			continue;
		}
		assert_int_equal(r, -EBADMSG);
		bad++;
	}
	assert_in_range(bad, 1, SNAP_EXTENT_PAGES);
	assert_int_equal(bad + good, PAGES);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_at_random_what_was_written),
		cmocka_unit_test(reads_in_order_with_readahead),
		cmocka_unit_test(past_the_last_block_all_is_zero),
		cmocka_unit_test(keeps_no_more_than_the_cache_may),
		cmocka_unit_test(many_readers_load_a_frame_once),
		cmocka_unit_test(keeps_what_is_used_again),
		cmocka_unit_test(whole_extents_pass_by_the_cache),
		cmocka_unit_test(knows_which_pages_are_stored),
		cmocka_unit_test(seeks_data_and_holes_as_they_are),
		cmocka_unit_test(finds_the_record_at_every_offset),
		cmocka_unit_test(damage_is_an_error_there_and_nowhere_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
