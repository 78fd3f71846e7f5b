/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A vector gives the bytes that were put in, in order, wherever they lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <unistd.h>

#include "format/base/units.h"
#include "format/base/vec.h"

static void count_release(void *owner, const void *thing)
{
	(*(guint *)owner)++;
}

static void gives_all_kinds_of_pieces_in_order(void **state)
{
	g_autoptr(SnapVec) vec = snap_vec_new();
	uint8_t buf[16], expected[16] = "ab\0\0\0cdefgh";
	guint released = 0, n;

	snap_vec_begin(vec, sizeof(buf));
	memcpy(snap_vec_room(vec, 2), "ab", 2);
	assert_int_equal(snap_vec_zero(vec, 3), 0);
	assert_true(snap_vec_hold(vec, 1, count_release, &released, NULL));
	assert_int_equal(snap_vec_point(vec, "cdef", 4), 0);
	assert_int_equal(snap_vec_copy_in(vec, "ghij", 4), 0);
	snap_vec_cut(vec, 11);
	memset(buf, 0, sizeof(buf));
	snap_vec_copy_out(vec, buf);
	assert_memory_equal(buf, expected, sizeof(buf));
	snap_vec_get(vec, &n);
	assert_int_equal(n, 4);
	assert_int_equal(released, 0);
	snap_vec_begin(vec, 0);
	assert_int_equal(released, 1);
}

static void what_lies_together_is_one_piece(void **state)
{
	g_autoptr(SnapVec) vec = snap_vec_new();
	const char *text = "abcdef";
	guint n;

	snap_vec_begin(vec, 6);
	assert_int_equal(snap_vec_point(vec, text, 3), 0);
	assert_int_equal(snap_vec_point(vec, text + 3, 3), 0);
	assert_int_equal(snap_vec_get(vec, &n)[0].iov_len, 6);
	assert_int_equal(n, 1);
}

/* Single bytes of a text backwards: none lies behind the other. */
static void more_pieces_than_it_holds_are_copied(void **state)
{
	enum { MANY = 3 * SNAP_VEC_MAX };
	g_autoptr(SnapVec) vec = snap_vec_new();
	uint8_t text[MANY], back[MANY], out[MANY];
	guint released = 0, refused = 0, n;

	for (guint i = 0; i < MANY; i++) {
		text[i] = (uint8_t)(i * 7);
		back[MANY - 1 - i] = text[i];
	}
	for (int round = 0; round < 2; round++) {
		snap_vec_begin(vec, MANY);
		for (guint i = MANY; i-- > 0;) {
			refused += !snap_vec_hold(vec, 1, count_release,
						  &released, NULL);
			assert_int_equal(snap_vec_point(vec, &text[i], 1), 0);
		}
		snap_vec_copy_out(vec, out);
		assert_memory_equal(out, back, MANY);
		snap_vec_get(vec, &n);
		assert_int_equal(n, SNAP_VEC_MAX);
	}
	snap_vec_begin(vec, 0);
	assert_int_equal(released + refused, 2 * MANY);
}

static void holds_no_more_than_twice_its_answer(void **state)
{
	g_autoptr(SnapVec) vec = snap_vec_new();
	guint released = 0;

	snap_vec_begin(vec, 10);
	assert_true(snap_vec_hold(vec, 100, count_release, &released, NULL));
	assert_false(snap_vec_hold(vec, 1, count_release, &released, NULL));
	snap_vec_begin(vec, 10);
	for (int i = 0; i < 20; i++)
		assert_true(
			snap_vec_hold(vec, 1, count_release, &released, NULL));
	assert_false(snap_vec_hold(vec, 1, count_release, &released, NULL));
}

static void writes_what_it_holds(void **state)
{
	g_autoptr(SnapVec) vec = snap_vec_new();
	char buf[8] = { 0 };
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	snap_vec_begin(vec, 5);
	assert_int_equal(snap_vec_point(vec, "xyz", 3), 0);
	assert_int_equal(snap_vec_zero(vec, 1), 0);
	memcpy(snap_vec_room(vec, 1), "!", 1);
	assert_int_equal(snap_vec_write(vec, fds[1]), 0);
	assert_int_equal(read(fds[0], buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "xyz\0!", 5);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_all_kinds_of_pieces_in_order),
		cmocka_unit_test(what_lies_together_is_one_piece),
		cmocka_unit_test(more_pieces_than_it_holds_are_copied),
		cmocka_unit_test(holds_no_more_than_twice_its_answer),
		cmocka_unit_test(writes_what_it_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
