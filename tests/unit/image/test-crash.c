/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Wherever a crash happens, there is a complete snapshot or none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "format/base/error.h"
#include "tests/unit/image/model.h"

#define STEPS 12

/* Saves a small guest; the first error. */
static int save(struct model *m, SnapWriter *w, GError **error)
{
	int r = model_play(m, w, STEPS);

	return r < 0 ? r : model_commit(m, w, -1, "x", error);
}

enum outcome {
	NOTHING, /* no snapshot */
	WHOLE,
	TORN, /* opens, but does not read */
};

static enum outcome look(const struct model *m, const GByteArray *bytes)
{
	enum outcome o = NOTHING;
	SnapReader *r;

	if (snap_reader_open(memory_file_new(bytes->data, bytes->len), &r,
			     NULL) == 0) {
		o = model_read(m, r) == 0 ? WHOLE : TORN;
		snap_reader_free(r);
	}
	return o;
}

/* Crashes after every event, in several ways each; counts the results. */
static void crash_everywhere(const struct model *m,
			     const struct crash_disk *disk, guint counts[3])
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(11);

	for (guint n = 0; n <= disk->events->len; n++) {
		for (guint way = 0; way < 20; way++) {
			g_autoptr(GByteArray) bytes =
				crash_disk_after(disk, n, rand);
			enum outcome o = look(m, bytes);

			counts[o]++;
			if (crash_disk_has_name(disk, n) && !disk->lies)
				assert_int_equal(o, WHOLE);
		}
	}
}

static void a_crash_leaves_a_whole_snapshot_or_none(void **state)
{
	guint counts[3] = { 0 };
	struct crash_disk disk;
	struct model m;
	SnapWriter *w;

	crash_disk_init(&disk);
	model_init(&m, 600, 5);
	w = model_writer(&disk, 0);
	assert_int_equal(save(&m, w, NULL), 0);
	snap_writer_free(w);
	crash_everywhere(&m, &disk, counts);
	assert_true(counts[NOTHING] > 0);
	assert_true(counts[WHOLE] > 0);
	assert_int_equal(counts[TORN], 0);
	model_clear(&m);
	crash_disk_clear(&disk);
}

/* Checks that the test above can fail: a disk that does not sync leaves torn
 * snapshots. */
static void a_disk_that_lies_is_caught_by_this_test(void **state)
{
	guint counts[3] = { 0 };
	struct crash_disk disk;
	struct model m;
	SnapWriter *w;

	crash_disk_init(&disk);
	disk.lies = true;
	model_init(&m, 600, 5);
	w = model_writer(&disk, 0);
	assert_int_equal(save(&m, w, NULL), 0);
	snap_writer_free(w);
	crash_everywhere(&m, &disk, counts);
	assert_true(counts[TORN] > 0);
	model_clear(&m);
	crash_disk_clear(&disk);
}

/* Makes call `n` to the disk fail; returns false if there were fewer calls. */
static bool fail_at(guint n, int code)
{
	g_autoptr(GError) error = NULL;
	struct crash_disk disk;
	struct model m;
	SnapWriter *w;
	bool was_reached;
	int r = -code;

	crash_disk_init(&disk);
	disk.fail_at = n;
	disk.error = code;
	model_init(&m, 600, 5);
	w = model_writer(&disk, 0);
	if (w)
		r = save(&m, w, &error);
	was_reached = disk.calls >= n;
	assert_int_equal(r, was_reached ? -code : 0);
	assert_int_equal(disk.is_published, !was_reached);
	if (w && was_reached) {
		/* The writer returns the same error from now on, and does not
		 * try again. */
		guint calls = disk.calls;

		assert_int_equal(snap_writer_fill(w, 0, 1, 1), -code);
		assert_int_equal(model_commit(&m, w, -1, "x", NULL), -code);
		assert_int_equal(disk.calls, calls);
	}
	snap_writer_free(w);
	assert_true(disk.is_closed);
	model_clear(&m);
	crash_disk_clear(&disk);
	return was_reached;
}

static void any_write_that_fails_fails_the_save(void **state)
{
	guint n = 1;

	while (fail_at(n, n % 2 ? ENOSPC : EIO))
		n++;
	assert_in_range(n, STEPS, 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_crash_leaves_a_whole_snapshot_or_none),
		cmocka_unit_test(a_disk_that_lies_is_caught_by_this_test),
		cmocka_unit_test(any_write_that_fails_fails_the_save),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
