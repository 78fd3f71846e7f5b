/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/node/idle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#define THINGS 4

struct thing {
	struct snap_idle_place place;
	bool open;
};

static struct {
	GMutex lock;
	SnapIdle *idle;
	struct thing things[THINGS];
} all;

static void *part(void *thing)
{
	return thing;
}

static void close_thing(void *what)
{
	__atomic_store_n(&((struct thing *)what)->open, false,
			 __ATOMIC_RELEASE);
}

static bool is_open(const struct thing *thing)
{
	return __atomic_load_n(&thing->open, __ATOMIC_ACQUIRE);
}

static int setup(void **state)
{
	struct snap_idle_opts opts = { .lock = &all.lock,
				       .most = THINGS - 1,
				       .part = part,
				       .close = close_thing };

	memset(all.things, 0, sizeof(all.things));
	all.idle = snap_idle_new(&opts);
	return 0;
}

static int teardown(void **state)
{
	snap_idle_free(all.idle);
	return 0;
}

static void use(struct thing *thing)
{
	g_mutex_lock(&all.lock);
	__atomic_store_n(&thing->open, true, __ATOMIC_RELEASE);
	snap_idle_keep(all.idle, &thing->place, thing);
	g_mutex_unlock(&all.lock);
	snap_idle_trim(all.idle);
}

/* ---- the thread ---- */

/* Reads a file of a thread of this process; empty when the thread has ended. */
static void read_of(const char *task, const char *file, char ret[4096])
{
	g_autofree char *path =
		g_strdup_printf("/proc/self/task/%s/%s", task, file);
	FILE *f = fopen(path, "re");

	ret[f ? fread(ret, 1, 4095, f) : 0] = '\0';
	if (f)
		fclose(f);
}

/* How often the thread of SnapIdle has gone to sleep so far. */
static unsigned long sleeps(void)
{
	GDir *tasks = g_dir_open("/proc/self/task", 0, NULL);
	unsigned long n = 0;
	const char *task;

	assert_non_null(tasks);
	while ((task = g_dir_read_name(tasks)) != NULL) {
		char comm[4096], status[4096];
		const char *at;

		read_of(task, "comm", comm);
		read_of(task, "status", status);
		at = strstr(status, "\nvoluntary_ctxt");
		if (at && !strcmp(comm, "idle\n"))
			sscanf(at, "\nvoluntary_ctxt_switches: %lu", &n);
	}
	g_dir_close(tasks);
	return n;
}

/* ---- tests ---- */

static void test_a_thing_in_use_time_after_time_wakes_no_thread(void **state)
{
	enum { USES = 500 };
	gint64 began = g_get_monotonic_time();
	unsigned long before, seconds;

	use(&all.things[0]);
	before = sleeps();
	for (int i = 0; i < USES; i++) {
		/* As a node that is opened, and then kept again. */
		g_mutex_lock(&all.lock);
		snap_idle_take(all.idle, &all.things[0].place);
		g_mutex_unlock(&all.lock);
		use(&all.things[0]);
		g_usleep(100);
	}
	seconds = (unsigned long)((g_get_monotonic_time() - began) /
				  G_USEC_PER_SEC);
	/* It wakes by itself, as time passes. */
	assert_in_range(sleeps() - before, 0, USES / 10 + seconds);
}

static void test_a_thing_that_nobody_uses_is_closed_in_the_end(void **state)
{
	use(&all.things[0]);
	while (is_open(&all.things[0]))
		g_usleep(1000);
	/* The thread sleeps without an end now, and wakes for the next. */
	use(&all.things[1]);
	while (is_open(&all.things[1]))
		g_usleep(1000);
}

static void test_of_too_many_things_the_oldest_is_closed(void **state)
{
	for (int i = 0; i < THINGS - 1; i++)
		use(&all.things[i]);
	use(&all.things[0]);
	use(&all.things[THINGS - 1]);
	assert_false(is_open(&all.things[1]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_a_thing_in_use_time_after_time_wakes_no_thread,
			setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_thing_that_nobody_uses_is_closed_in_the_end,
			setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_of_too_many_things_the_oldest_is_closed, setup,
			teardown),
	};

	return cmocka_run_group_tests_name("idle", tests, NULL, NULL);
}
