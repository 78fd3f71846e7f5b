/* SPDX-License-Identifier: GPL-2.0-or-later */
/* level=auto: the level follows what the save waits for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib.h>

#include "format/image/image.h"
#include "format/store/writeback.h"
#include "fs/save/effort.h"

G_STATIC_ASSERT(SNAP_EFFORT_WINDOW == SNAP_WRITEBACK);

#define ROOM 960u
#define WINDOW SNAP_EFFORT_WINDOW
#define LOWEST SNAP_LEVEL_MIN

/* Writes `n` windows, each of which is on the disk before the next is there. */
static void rest(struct snap_effort *e, uint64_t *written, guint n)
{
	for (; n; n--) {
		snap_effort_disk(e, *written + WINDOW, *written);
		*written += WINDOW;
	}
}

/* Writes `n` windows while the disk has two more to write. */
static void toil(struct snap_effort *e, uint64_t *written, guint n)
{
	for (; n; n--) {
		*written += WINDOW;
		snap_effort_disk(e, *written, *written - 2 * WINDOW);
	}
}

/* Begins a save with a disk that has shown that it is fast. */
static void begin_fast(struct snap_effort *e, uint64_t *written)
{
	*written = 0;
	snap_effort_init(e);
	rest(e, written, 10);
}

static void extents_that_queue_up_lower_the_level(void **state)
{
	struct snap_effort e;
	uint64_t written;
	int last = SNAP_LEVEL_DEFAULT;

	begin_fast(&e, &written);
	assert_int_equal(snap_effort_level(&e, 0, ROOM), last);
	for (guint queued = 0; queued < ROOM; queued++) {
		int level = snap_effort_level(&e, queued, ROOM);

		assert_true(level <= last);
		last = level;
	}
	assert_int_equal(last, LOWEST);
}

static void an_empty_queue_brings_level_1_back(void **state)
{
	struct snap_effort e;
	uint64_t written;
	int last = LOWEST;

	begin_fast(&e, &written);
	assert_int_equal(snap_effort_level(&e, ROOM, ROOM), LOWEST);
	for (guint queued = ROOM; queued--;) {
		int level = snap_effort_level(&e, queued, ROOM);

		assert_true(level >= last);
		last = level;
	}
	assert_int_equal(last, SNAP_LEVEL_DEFAULT);
}

/* Even with memory for a few extents only. */
static void a_full_queue_has_the_lowest_level(void **state)
{
	for (guint room = 8; room < 5000; room += 7) {
		struct snap_effort e;
		uint64_t written;

		begin_fast(&e, &written);
		assert_int_equal(snap_effort_level(&e, room * 3 / 4, room),
				 LOWEST);
		assert_int_equal(snap_effort_level(&e, 0, room),
				 SNAP_LEVEL_DEFAULT);
	}
}

static void a_disk_with_too_much_to_do_brings_level_1_back(void **state)
{
	struct snap_effort e;
	uint64_t written;

	begin_fast(&e, &written);
	assert_int_equal(snap_effort_level(&e, ROOM, ROOM), LOWEST);
	toil(&e, &written, 3);
	assert_int_equal(snap_effort_level(&e, ROOM, ROOM), SNAP_LEVEL_DEFAULT);
	toil(&e, &written, 100);
	assert_int_equal(snap_effort_level(&e, ROOM, ROOM), SNAP_LEVEL_DEFAULT);
}

static void idle_processors_work_harder_for_a_slow_disk(void **state)
{
	struct snap_effort e;
	uint64_t written;

	begin_fast(&e, &written);
	toil(&e, &written, 10);
	assert_true(snap_effort_level(&e, 0, ROOM) > SNAP_LEVEL_DEFAULT);
	rest(&e, &written, 1);
	assert_int_equal(snap_effort_level(&e, 0, ROOM), SNAP_LEVEL_DEFAULT);
}

static void a_disk_that_is_not_known_gets_level_1(void **state)
{
	struct snap_effort e;

	snap_effort_init(&e);
	for (uint64_t written = 0; written < 100 * SNAP_MIB;
	     written += SNAP_MIB) {
		guint queued = written / SNAP_MIB % 2 ? ROOM : 0;

		if (written < 2 * WINDOW || queued)
			assert_int_equal(snap_effort_level(&e, queued, ROOM),
					 SNAP_LEVEL_DEFAULT);
		snap_effort_disk(&e, written, 0);
	}
}

/* Asking again, and hearing the same again, changes nothing. */
static int level_now(struct snap_effort *e, uint64_t written, uint64_t on_disk)
{
	int level = snap_effort_level(e, ROOM, ROOM);

	for (guint i = 0; i < 10; i++) {
		snap_effort_disk(e, written + i, on_disk);
		assert_int_equal(snap_effort_level(e, ROOM, ROOM), level);
	}
	return level;
}

static void each_window_moves_the_level_by_one_step(void **state)
{
	const int down[] = { 1, -1, -3, -5, -5, -5 };
	const int up[] = { -3, -1, 1, 1, 1 };
	struct snap_effort e;
	uint64_t written = 0;

	snap_effort_init(&e);
	for (guint i = 0; i < G_N_ELEMENTS(down); i++) {
		rest(&e, &written, 1);
		assert_int_equal(level_now(&e, written, written - WINDOW),
				 down[i]);
	}
	for (guint i = 0; i < G_N_ELEMENTS(up); i++) {
		toil(&e, &written, 1);
		assert_int_equal(level_now(&e, written, written - 2 * WINDOW),
				 up[i]);
	}
}

static void a_queue_that_wavers_keeps_its_level(void **state)
{
	for (guint middle = 20; middle < ROOM - 20; middle++) {
		struct snap_effort e;
		uint64_t written;
		guint changes = 0;
		int last;

		begin_fast(&e, &written);
		last = snap_effort_level(&e, middle, ROOM);
		for (guint i = 0; i < 200; i++) {
			guint queued = middle + (i % 2 ? 12 : -12);
			int level = snap_effort_level(&e, queued, ROOM);

			changes += level != last;
			last = level;
		}
		assert_true(changes <= 1);
	}
}

static void every_level_is_one_that_zstd_takes(void **state)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(3);
	struct snap_effort e;
	uint64_t written = 0, on_disk = 0;

	snap_effort_init(&e);
	for (guint i = 0; i < 200000; i++) {
		guint room = (guint)g_rand_int_range(rand, 0, 2000);
		guint queued = (guint)g_rand_int_range(rand, 0, 3000);
		int level = snap_effort_level(&e, queued, room);

		assert_in_range(level - SNAP_LEVEL_MIN, 0,
				SNAP_LEVEL_MAX - SNAP_LEVEL_MIN);
		assert_int_not_equal(level, 0);
		written += (uint64_t)g_rand_int_range(rand, 0, SNAP_MIB);
		if (!g_rand_int_range(rand, 0, 10))
			on_disk = written -
				  MIN(written, (uint64_t)g_rand_int_range(
						       rand, 0, 30 * SNAP_MIB));
		snap_effort_disk(&e, written, on_disk);
	}
	/* After a compaction, the file is another one. */
	snap_effort_disk(&e, 64, 0);
	snap_effort_level(&e, 0, ROOM);
}

/* ---- a whole save, in the time of a model ---- */

/* Seconds of two processors for an extent of 64 KiB, and its bytes, as measured
 * with pages of programs and libraries. */
static const struct pace {
	int level;
	double seconds;
	double size;
} paces[] = {
	{ 3, 184e-6, 21200 },  { 1, 127e-6, 22100 }, { -1, 113e-6, 24400 },
	{ -3, 102e-6, 27500 }, { -5, 88e-6, 30400 },
};

static const struct pace *pace_of(int level)
{
	for (guint i = 0; i < G_N_ELEMENTS(paces); i++)
		if (paces[i].level == level)
			return &paces[i];
	fail();
	return NULL;
}

struct outcome {
	double seconds; /* until all is on the disk */
	double size;	/* bytes */
};

/* Saves a GiB that comes with `source` extents a second, to a disk that writes
 * `disk` bytes a second. Level 0: auto. */
static struct outcome model(double source, double disk, int fixed)
{
	double now = 0, came = 0, written = 0, begun = 0, reached = 0;
	const double total = 16384;
	struct snap_effort e;

	snap_effort_init(&e);
	for (double done = 0; done < total; done++) {
		double queued = MIN(came - done, ROOM), on_disk;
		int level = snap_effort_level(&e, (guint)queued, ROOM);
		const struct pace *p = pace_of(fixed ? fixed : level);
		double passed = p->seconds;

		if (queued < 1)
			passed = MAX(passed, (1 - queued) / source);
		now += passed;
		came = MIN(MIN(came + source * passed, done + ROOM), total);
		came = MAX(came, done + 1);
		written += p->size;
		reached = MIN(reached + disk * passed, begun);
		if (written >= begun + WINDOW)
			begun = written;
		on_disk = reached == begun && begun > 0
				  ? begun
				  : reached - (double)((uint64_t)reached %
						       (uint64_t)WINDOW);
		snap_effort_disk(&e, (uint64_t)written, (uint64_t)on_disk);
	}
	return (struct outcome){ now + (written - reached) / disk, written };
}

static void a_fast_disk_gets_the_time_of_the_lowest_level(void **state)
{
	struct outcome one = model(1e5, 1e9, 1);
	struct outcome lowest = model(1e5, 1e9, LOWEST);
	struct outcome automatic = model(1e5, 1e9, 0);

	assert_true(automatic.seconds < lowest.seconds * 1.05);
	assert_true(automatic.seconds < one.seconds * 0.8);
	assert_true(automatic.size < lowest.size);
}

static void a_slow_disk_gets_the_size_of_level_1(void **state)
{
	for (double disk = 5e6; disk < 150e6; disk += 5e6) {
		struct outcome one = model(1e5, disk, 1);
		struct outcome automatic = model(1e5, disk, 0);

		assert_true(automatic.size < one.size * 1.03);
		assert_true(automatic.seconds < one.seconds * 1.03);
	}
}

static void a_slow_writer_gets_level_1(void **state)
{
	struct outcome one = model(3000, 1e9, 1);
	struct outcome automatic = model(3000, 1e9, 0);

	assert_true(automatic.size <= one.size);
	assert_true(automatic.seconds < one.seconds * 1.01);
}

/* Between the two, it is never much slower than the better of both. */
static void no_disk_makes_it_slower_than_a_fixed_level(void **state)
{
	for (double disk = 5e6; disk < 1e9; disk *= 1.1) {
		double one = model(1e5, disk, 1).seconds;
		double lowest = model(1e5, disk, LOWEST).seconds;
		double automatic = model(1e5, disk, 0).seconds;

		assert_true(automatic < MIN(one, lowest) * 1.1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(extents_that_queue_up_lower_the_level),
		cmocka_unit_test(an_empty_queue_brings_level_1_back),
		cmocka_unit_test(a_full_queue_has_the_lowest_level),
		cmocka_unit_test(
			a_disk_with_too_much_to_do_brings_level_1_back),
		cmocka_unit_test(idle_processors_work_harder_for_a_slow_disk),
		cmocka_unit_test(a_disk_that_is_not_known_gets_level_1),
		cmocka_unit_test(each_window_moves_the_level_by_one_step),
		cmocka_unit_test(a_queue_that_wavers_keeps_its_level),
		cmocka_unit_test(every_level_is_one_that_zstd_takes),
		cmocka_unit_test(a_fast_disk_gets_the_time_of_the_lowest_level),
		cmocka_unit_test(a_slow_disk_gets_the_size_of_level_1),
		cmocka_unit_test(a_slow_writer_gets_level_1),
		cmocka_unit_test(no_disk_makes_it_slower_than_a_fixed_level),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
