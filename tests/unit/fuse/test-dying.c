/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/fuse/fuse-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* PF_EXITING of the kernel, with flags of an ordinary process; and SIGKILL
 * among the signals that wait. */
#define EXITING "4194308"
#define ALIVE "4194304"
#define KILLED "256"
#define NONE "0"

/* The text of a thread's stat, as far as it is read. */
#define STAT(name, state, flags, pending)                                      \
	"12 (" name ") " state " 1 12 12 0 -1 " flags                          \
	" 0 0 0 0 0 0 0 0 20 0 1 0 7 8 9 10 0 0 0 0 0 " pending " 0 0"

static void test_a_thread_dies_that_exits_or_was_killed(void **state)
{
	assert_false(snap_dying_parse(STAT("cat", "D", ALIVE, NONE)));
	assert_true(snap_dying_parse(STAT("cat", "D", EXITING, NONE)));
	assert_true(snap_dying_parse(STAT("cat", "D", ALIVE, KILLED)));
	assert_false(snap_dying_parse(STAT("cat", "D", ALIVE, "512")));
}

static void test_a_dead_thread_waits_for_nothing(void **state)
{
	assert_false(snap_dying_parse(STAT("cat", "Z", EXITING, NONE)));
	assert_false(snap_dying_parse(STAT("cat", "X", EXITING, KILLED)));
}

static void test_a_name_may_hold_any_byte(void **state)
{
	assert_true(snap_dying_parse(STAT("a) D (b", "D", EXITING, NONE)));
	assert_false(snap_dying_parse(STAT("a) D (b", "D", ALIVE, NONE)));
}

static void test_a_text_that_is_cut_tells_nothing(void **state)
{
	const char *text = STAT("cat", "D", EXITING, KILLED);
	size_t flags = strlen("12 (cat) D 1 12 12 0 -1 ");

	for (size_t n = 0; n < flags + strlen(EXITING); n++) {
		/* Exactly as long as it is: a sanitizer sees who reads on. */
		g_autofree char *cut = g_strndup(text, n);

		assert_false(snap_dying_parse(cut));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_thread_dies_that_exits_or_was_killed),
		cmocka_unit_test(test_a_dead_thread_waits_for_nothing),
		cmocka_unit_test(test_a_name_may_hold_any_byte),
		cmocka_unit_test(test_a_text_that_is_cut_tells_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
