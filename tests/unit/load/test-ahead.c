/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is brought in ahead of readers, and that they never wait for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>

#include "fs/load/load-internal.h"
#include "fs/load/readahead.h"
#include "tests/lib/image-fixture.h"

#define PAGES (7 * SNAP_REGION_PAGES)

/* A file that counts its reads. While the gate is shut, reads wait that other
 * threads than the test's own make. */
struct gate_file {
	SnapFile file; /* first */
	SnapFile *below;
	GThread *own;
	GMutex lock;
	GCond changed;
	bool shut; /* this and the rest: protected by lock */
	guint waiting;
	guint reads;
	size_t hanging;	  /* bytes of the last read that had to wait */
	GArray *expected; /* struct range */
};

struct range {
	uint64_t offset;
	uint64_t size;
};

static ssize_t gate_pread(SnapFile *f, void *buf, size_t size, uint64_t offset)
{
	struct gate_file *g = (struct gate_file *)f;

	g_mutex_lock(&g->lock);
	g->reads++;
	g->waiting++;
	g_cond_broadcast(&g->changed);
	if (g->shut && g_thread_self() != g->own)
		g->hanging = size;
	while (g->shut && g_thread_self() != g->own)
		g_cond_wait(&g->changed, &g->lock);
	g->waiting--;
	g_mutex_unlock(&g->lock);
	return g->below->ops->pread(g->below, buf, size, offset);
}

static void gate_expect(SnapFile *f, uint64_t offset, uint64_t size)
{
	struct gate_file *g = (struct gate_file *)f;
	struct range range = { offset, size };

	g_mutex_lock(&g->lock);
	g_array_append_val(g->expected, range);
	g_mutex_unlock(&g->lock);
}

static int gate_size(SnapFile *f, uint64_t *ret_size)
{
	struct gate_file *g = (struct gate_file *)f;

	return g->below->ops->size(g->below, ret_size);
}

static void gate_close(SnapFile *f)
{
	struct gate_file *g = (struct gate_file *)f;

	snap_file_close(g->below);
	g_array_unref(g->expected);
	g_mutex_clear(&g->lock);
	g_cond_clear(&g->changed);
	g_free(g);
}

static const struct snap_file_ops gate_ops = {
	.name = "gate",
	.pread = gate_pread,
	.expect = gate_expect,
	.size = gate_size,
	.close = gate_close,
};

struct world {
	struct image_fixture f;
	struct gate_file *gate;
	SnapLoader *loader;
	SnapPages *pages;
};

static void world_open(struct world *w, uint64_t cache)
{
	struct snap_loader_opts opts = { .cache = cache, .threads = 2 };
	struct gate_file *gate = g_new0(struct gate_file, 1);
	SnapReader *reader;

	image_fixture_make(&w->f, PAGES, 42);
	gate->file.ops = &gate_ops;
	gate->own = g_thread_self();
	gate->expected = g_array_new(FALSE, FALSE, sizeof(struct range));
	gate->below = snap_file_wrap(
		openat(w->f.fd, "snapshot.zst", O_RDONLY | O_CLOEXEC));
	w->gate = gate;
	w->loader = snap_loader_new(&opts);
	assert_int_equal(snap_reader_open(&gate->file, &reader, NULL), 0);
	w->pages = snap_pages_new(w->loader, reader, "vm1");
}

static void world_close(struct world *w)
{
	snap_pages_unref(w->pages);
	snap_loader_free(w->loader);
	image_fixture_clear(&w->f);
}

static void set_shut(struct world *w, bool shut)
{
	g_mutex_lock(&w->gate->lock);
	w->gate->shut = shut;
	g_cond_broadcast(&w->gate->changed);
	g_mutex_unlock(&w->gate->lock);
}

static guint reads_of(struct world *w)
{
	guint reads;

	g_mutex_lock(&w->gate->lock);
	reads = w->gate->reads;
	g_mutex_unlock(&w->gate->lock);
	return reads;
}

static uint64_t ahead_of(const struct world *w)
{
	return snap_loader_stats(w->loader).readahead;
}

/* Waits until so many frames were loaded ahead. */
static void await_ahead(const struct world *w, uint64_t frames)
{
	while (ahead_of(w) < frames)
		g_usleep(1000);
}

static void read_page(struct world *w, uint64_t page,
		      struct snap_pages_hint *hint)
{
	uint8_t buf[SNAP_PAGE];

	assert_int_equal(snap_pages_read(w->pages, buf, SNAP_PAGE,
					 page * SNAP_PAGE, hint),
			 0);
	assert_memory_equal(buf, w->f.bytes + page * SNAP_PAGE, SNAP_PAGE);
}

/* ---- the map ---- */

/* The leaves of the map: the regions that are not all zero. */
static guint leaves_of(const struct world *w)
{
	g_autoptr(SnapReader) reader = image_fixture_open(&w->f);
	g_autofree struct snap_node *node = g_new(struct snap_node, 1);
	guint n = 0;

	assert_int_equal(snap_reader_node(reader, 0, node), 0);
	for (guint i = 0; i < node->n; i++)
		n += node->entries[i].length > 0;
	assert_true(n > 3);
	return n;
}

static void a_page_costs_one_read_once_the_map_is_there(void **state)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);
	struct snap_pages_hint hint = { 0 };
	struct world w;
	guint before;

	world_open(&w, SNAP_CACHE_DEFAULT);
	before = reads_of(&w);
	snap_pages_expect(w.pages);
	await_ahead(&w, leaves_of(&w));
	/* One node and one stretch of leaves. */
	assert_int_equal(reads_of(&w) - before, 2);
	for (int i = 0; i < 300; i++) {
		uint64_t misses = snap_loader_stats(w.loader).misses;

		before = reads_of(&w);
		read_page(&w, (uint64_t)g_rand_int_range(rand, 0, PAGES),
			  &hint);
		assert_int_equal(reads_of(&w) - before,
				 snap_loader_stats(w.loader).misses - misses);
		assert_true(reads_of(&w) - before <= 1);
	}
	world_close(&w);
}

/* The map may fill a quarter of the cache; here that is less than a leaf. */
static void leaves_behind_a_missing_one_come_with_it(void **state)
{
	struct snap_pages_hint hint = { 0 };
	struct world w;

	world_open(&w, 4 * SNAP_LEAF_MAX);
	snap_pages_expect(w.pages);
	/* It comes in part as soon as the job for the whole has given up. */
	for (uint64_t page = 7; ahead_of(&w) == 0;
	     page = (page + SNAP_REGION_PAGES) % PAGES) {
		read_page(&w, page, &hint);
		g_usleep(1000);
	}
	world_close(&w);
}

static void a_map_that_nobody_wants_any_more_is_left(void **state)
{
	struct world w;

	world_open(&w, SNAP_CACHE_DEFAULT);
	set_shut(&w, true);
	snap_pages_expect(w.pages);
	set_shut(&w, false);
	world_close(&w);
}

/* ---- readers and readahead ---- */

static void nobody_waits_for_the_queue_of_readahead(void **state)
{
	struct snap_pages_hint hint = { 0 };
	g_autofree uint8_t *buf = g_malloc(SNAP_REGION);
	uint64_t most = 0, hanging;
	struct world w;

	world_open(&w, SNAP_CACHE_DEFAULT);
	snap_pages_expect(w.pages);
	await_ahead(&w, leaves_of(&w));
	set_shut(&w, true);
	/* A process reads to the end of a region, in order; the next region,
	 * which has extents of its own, makes both threads hang. */
	for (uint64_t at = SNAP_REGION / 4 * 3; at < SNAP_REGION;
	     at += SNAP_REGION / 8)
		assert_int_equal(snap_pages_read(w.pages, buf, SNAP_REGION / 8,
						 at, &hint),
				 0);
	g_mutex_lock(&w.gate->lock);
	while (w.gate->waiting < 2)
		g_cond_wait(&w.gate->changed, &w.gate->lock);
	g_mutex_unlock(&w.gate->lock);
	/* Meanwhile the store reads on, and not an extent at a time. */
	g_mutex_lock(&w.gate->lock);
	for (guint i = 0; i < w.gate->expected->len; i++) {
		struct range r =
			g_array_index(w.gate->expected, struct range, i);

		assert_true(r.size <= SNAP_EXPECT_MAX);
		most = MAX(most, r.size);
	}
	hanging = w.gate->hanging;
	g_mutex_unlock(&w.gate->lock);
	assert_true(most > 2 * hanging);
	/* Another one wants pages here and there. */
	for (uint64_t page = PAGES - 1; page > PAGES / 2; page -= 100)
		read_page(&w, page, NULL);
	set_shut(&w, false);
	world_close(&w);
}

static void reads_at_random_load_nothing_ahead(void **state)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);
	struct snap_pages_hint hint = { 0 };
	struct world w;

	world_open(&w, SNAP_CACHE_DEFAULT);
	for (int i = 0; i < 500; i++) {
		uint64_t page = (uint64_t)g_rand_int_range(rand, 0, PAGES - 1);

		read_page(&w, page, &hint);
		if (i % 10 == 0)
			read_page(&w, page + 1, &hint);
	}
	assert_int_equal(ahead_of(&w), 0);
	world_close(&w);
}

static void readahead_grows_with_what_was_read_in_order(void **state)
{
	struct snap_pages_hint hint = { 0 };
	uint64_t from, to, end = 0, most = 0;

	for (uint64_t at = 0; at < 16 * SNAP_MIB; at += 128 * SNAP_KIB) {
		uint64_t read = at + 128 * SNAP_KIB;

		if (!snap_readahead_next(&hint, at, 128 * SNAP_KIB,
					 SNAP_READAHEAD_WINDOW, &from, &to))
			continue;
		/* What is read twice, or left out, helps nobody. */
		assert_true(from >= end || end == 0);
		assert_true(to > from);
		assert_true(to - read <= 2 * read);
		assert_true(to - read <= SNAP_READAHEAD_WINDOW);
		most = MAX(most, to - read);
		end = to;
	}
	assert_int_equal(most, SNAP_READAHEAD_WINDOW);
}

/* ---- zeros ---- */

static void the_first_answer_brings_the_map(void **state)
{
	g_autoptr(SnapVec) vec = snap_vec_new();
	struct world w;

	world_open(&w, SNAP_CACHE_DEFAULT);
	snap_vec_begin(vec, SNAP_PAGE);
	assert_int_equal(snap_pages_give(w.pages, vec, SNAP_PAGE, 0, NULL), 0);
	/* The reader itself may have the first leaf. */
	await_ahead(&w, leaves_of(&w) - 1);
	snap_vec_begin(vec, 0);
	world_close(&w);
}

static void zero_pages_take_no_memory_of_an_answer(void **state)
{
	g_autoptr(SnapVec) a = snap_vec_new(), b = snap_vec_new();
	static const uint8_t zero[SNAP_PAGE];
	const struct iovec *of_a, *of_b;
	uint64_t first = 0, second;
	guint n;
	struct world w;

	world_open(&w, SNAP_CACHE_DEFAULT);
	while (memcmp(w.f.bytes + first * SNAP_PAGE, zero, SNAP_PAGE) != 0)
		first++;
	second = first + 1;
	while (memcmp(w.f.bytes + second * SNAP_PAGE, zero, SNAP_PAGE) != 0)
		second++;
	snap_vec_begin(a, SNAP_PAGE);
	snap_vec_begin(b, SNAP_PAGE);
	assert_int_equal(
		snap_pages_give(w.pages, a, SNAP_PAGE, first * SNAP_PAGE, NULL),
		0);
	assert_int_equal(snap_pages_give(w.pages, b, SNAP_PAGE,
					 second * SNAP_PAGE, NULL),
			 0);
	of_a = snap_vec_get(a, &n);
	assert_int_equal(n, 1);
	of_b = snap_vec_get(b, &n);
	assert_int_equal(n, 1);
	assert_ptr_equal(of_a->iov_base, of_b->iov_base);
	assert_memory_equal(of_a->iov_base, zero, SNAP_PAGE);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_page_costs_one_read_once_the_map_is_there),
		cmocka_unit_test(leaves_behind_a_missing_one_come_with_it),
		cmocka_unit_test(a_map_that_nobody_wants_any_more_is_left),
		cmocka_unit_test(nobody_waits_for_the_queue_of_readahead),
		cmocka_unit_test(reads_at_random_load_nothing_ahead),
		cmocka_unit_test(readahead_grows_with_what_was_read_in_order),
		cmocka_unit_test(the_first_answer_brings_the_map),
		cmocka_unit_test(zero_pages_take_no_memory_of_an_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
