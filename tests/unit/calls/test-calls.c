/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/calls/call.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SECONDS G_USEC_PER_SEC
/* How long the end waits without a save, and for the sake of one. */
#define PATIENCE (10 * SECONDS)
#define SAVE_PATIENCE (600 * SECONDS)

static char *name(const struct snap_call *call, void **ret_held)
{
	return g_strdup("a request");
}

static const struct snap_call_ops ops = { .name = name };

/* Begins a call as if it were so many seconds ago. */
static void begin_ago(struct snap_call *call, gint64 seconds)
{
	snap_call_begin(call);
	call->since -= seconds * SECONDS;
}

/* True when the end would wait for less than `us` from now. */
static bool waits_less(gint64 us)
{
	return snap_calls_until(0) < g_get_monotonic_time() + us;
}

/* True when the store has answered since `before` was asked. */
static bool is_told(gint64 before)
{
	return snap_calls_until(0) > before;
}

/* Until when, before what follows. */
static gint64 until_now(void)
{
	gint64 until = snap_calls_until(0);

	g_usleep(100);
	return until;
}

static void test_the_end_waits_from_its_begin_or_the_last_answer(void **state)
{
	struct snap_call call = { .what = "write", .path = "vm1" };
	gint64 later = g_get_monotonic_time() + 100 * SECONDS;

	assert_true(snap_calls_until(later) == later + PATIENCE);
	snap_call_begin(&call);
	snap_call_end(&call);
	assert_true(snap_calls_until(0) <= g_get_monotonic_time() + PATIENCE);
	assert_false(waits_less(PATIENCE - 5 * SECONDS));
}

static void test_the_end_waits_for_minutes_while_a_save_runs(void **state)
{
	snap_calls_save_begin();
	snap_calls_save_begin();
	assert_false(waits_less(SAVE_PATIENCE - 5 * SECONDS));
	snap_calls_save_end();
	assert_false(waits_less(SAVE_PATIENCE - 5 * SECONDS));
	snap_calls_save_end();
	assert_true(waits_less(PATIENCE + 1));
	assert_false(waits_less(PATIENCE - 5 * SECONDS));
}

static void test_a_step_is_an_answer_and_begins_the_call_anew(void **state)
{
	struct snap_call call = { .what = "compaction", .path = "vm1" };
	gint64 before = until_now();

	begin_ago(&call, 20);
	assert_int_equal(snap_calls_seconds(), 20);
	snap_call_go_on();
	assert_int_equal(snap_calls_seconds(), 0);
	assert_true(is_told(before));
	snap_call_end(&call);
	/* Outside of a call as well. */
	snap_call_go_on();
}

static void test_what_returns_at_once_tells_nothing_in_a_hang(void **state)
{
	struct snap_call hangs = { .ops = &ops }, other = { .ops = &ops };
	struct snap_call save = { .what = "write", .path = "vm1" };
	gint64 before;

	begin_ago(&hangs, 6);
	before = until_now();
	snap_call_begin(&other);
	snap_call_end(&other);
	assert_false(is_told(before));
	/* It waited for the store. */
	begin_ago(&other, 2);
	snap_call_end(&other);
	assert_true(is_told(before));
	/* A save calls nothing but the store. */
	before = until_now();
	snap_call_begin(&save);
	snap_call_end(&save);
	assert_true(is_told(before));
	snap_call_end(&hangs);
}

static void test_a_hushed_call_tells_nothing(void **state)
{
	struct snap_call call = { .ops = &ops };
	gint64 before;

	begin_ago(&call, 20);
	snap_call_hush(&call);
	before = until_now();
	assert_int_equal(snap_calls_seconds(), 0);
	snap_call_end(&call);
	assert_false(is_told(before));
	/* Without one that hangs, a request tells. */
	snap_call_begin(&call);
	snap_call_end(&call);
	assert_true(is_told(before));
}

/* A thing that is held while it is named. */
static gint held;

static char *name_held(const struct snap_call *call, void **ret_held)
{
	*ret_held = &held;
	return g_strdup("a request");
}

/* The room's lock is free: this may call the store. */
static void let_go(void *thing)
{
	struct snap_call call = { .what = "close", .path = "vm1" };

	snap_call_begin(&call);
	snap_call_end(&call);
	g_atomic_int_set((gint *)thing, 1);
}

static void test_what_was_named_is_let_go_without_the_lock(void **state)
{
	static const struct snap_call_ops holds = { .name = name_held,
						    .let_go = let_go };
	struct snap_call call = { .ops = &holds };

	begin_ago(&call, 6);
	snap_calls_start();
	for (guint i = 0; i < 1000 && !g_atomic_int_get(&held); i++)
		g_usleep(10000);
	assert_true(g_atomic_int_get(&held));
	snap_call_end(&call);
	snap_calls_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_the_end_waits_from_its_begin_or_the_last_answer),
		cmocka_unit_test(
			test_the_end_waits_for_minutes_while_a_save_runs),
		cmocka_unit_test(
			test_a_step_is_an_answer_and_begins_the_call_anew),
		cmocka_unit_test(
			test_what_returns_at_once_tells_nothing_in_a_hang),
		cmocka_unit_test(test_a_hushed_call_tells_nothing),
		cmocka_unit_test(
			test_what_was_named_is_let_go_without_the_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
