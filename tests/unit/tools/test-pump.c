/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "format/base/fileio.h"
#include "format/base/units.h"
#include "tools/guest/pump.h"

struct line {
	SnapPump *pump;
	int end;  /* that is written */
	int file; /* that it comes to, for reading */
};

/* Begins a line that ends in `file`, which is taken over. */
static void begin_into(struct line *l, int file)
{
	int in;

	assert_int_equal(snap_pump_pipe(&in, &l->end, NULL), 0);
	assert_int_equal(snap_pump_new(in, file, &l->pump, NULL), 0);
}

static void begin(struct line *l)
{
	l->file = memfd_create("pump", MFD_CLOEXEC);
	assert_true(l->file >= 0);
	begin_into(l, dup(l->file));
}

static void end(struct line *l)
{
	snap_pump_free(l->pump);
	close(l->end);
	close(l->file);
}

static off_t size_of(const struct line *l)
{
	struct stat st;

	assert_int_equal(fstat(l->file, &st), 0);
	return st.st_size;
}

/* Waits until a condition is true; a pump that does not get there fails. */
#define WAIT_UNTIL(condition)                                                  \
	do {                                                                   \
		for (int i = 0; i < 20000 && !(condition); i++)                \
			g_usleep(1000);                                        \
		assert_true(condition);                                        \
	} while (0)

static void put(const struct line *l, const char *text)
{
	assert_int_equal(snap_write_all(l->end, text, strlen(text)), 0);
}

static void assert_holds(const struct line *l, const char *text)
{
	char data[64] = "";

	assert_int_equal(size_of(l), strlen(text));
	assert_int_equal(pread(l->file, data, sizeof(data), 0), strlen(text));
	assert_memory_equal(data, text, strlen(text));
}

/* All is in the pipe: it ends with this outcome. */
static void assert_finishes(const struct line *l, int outcome)
{
	snap_pump_finish(l->pump);
	WAIT_UNTIL(snap_pump_ended(l->pump));
	assert_int_equal(snap_pump_stop(l->pump), outcome);
}

static void holds_back_the_last_byte_until_it_may_finish(void **state)
{
	struct line l;

	begin(&l);
	put(&l, "abc");
	WAIT_UNTIL(size_of(&l) == 2);
	put(&l, "d");
	WAIT_UNTIL(size_of(&l) == 3);
	assert_false(snap_pump_ended(l.pump));
	assert_finishes(&l, 0);
	assert_holds(&l, "abcd");
	end(&l);
}

static void writes_all_that_was_in_the_pipe_when_it_may_finish(void **state)
{
	struct line l;

	/* The pipe is open still, as if another process had it. */
	begin(&l);
	put(&l, "abc");
	assert_finishes(&l, 0);
	assert_holds(&l, "abc");
	end(&l);
}

static void takes_the_end_of_the_pipe_for_no_end_of_the_stream(void **state)
{
	struct line l;

	begin(&l);
	put(&l, "abc");
	close(l.end);
	l.end = -1;
	WAIT_UNTIL(size_of(&l) == 2);
	assert_int_equal(snap_pump_stop(l.pump), -EINTR);
	assert_true(snap_pump_ended(l.pump));
	assert_holds(&l, "");
	end(&l);
}

static void reads_on_when_it_drops(void **state)
{
	g_autofree char *data = g_strnfill(4 * SNAP_MIB, 'x');
	struct line l;

	begin(&l);
	put(&l, "abc");
	WAIT_UNTIL(size_of(&l) == 2);
	snap_pump_drop(l.pump);
	/* More than the pipe holds. */
	put(&l, data);
	assert_false(snap_pump_ended(l.pump));
	assert_int_equal(snap_pump_stop(l.pump), -EINTR);
	assert_holds(&l, "");
	end(&l);
}

static void finishes_after_the_end_of_the_pipe(void **state)
{
	struct line l;

	begin(&l);
	put(&l, "abc");
	close(l.end);
	l.end = -1;
	WAIT_UNTIL(size_of(&l) == 2);
	assert_finishes(&l, 0);
	assert_holds(&l, "abc");
	end(&l);
}

static void breaks_the_pipe_when_it_is_stopped(void **state)
{
	struct line l;

	begin(&l);
	put(&l, "abc");
	assert_int_equal(snap_pump_stop(l.pump), -EINTR);
	assert_int_equal(snap_write_all(l.end, "d", 1), -EPIPE);
	end(&l);
}

static void breaks_the_pipe_when_the_file_is_full(void **state)
{
	struct line l;
	int r;

	l.file = open("/dev/full", O_WRONLY | O_CLOEXEC);
	begin_into(&l, dup(l.file));
	do
		r = snap_write_all(l.end, "abc", 3);
	while (r == 0);
	assert_int_equal(r, -EPIPE);
	assert_int_equal(snap_pump_stop(l.pump), -ENOSPC);
	end(&l);
}

static void tells_when_the_file_cannot_be_synced(void **state)
{
	struct line l;
	int ends[2];

	/* A pipe takes bytes, but fsync(2) says EINVAL. */
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	l.file = ends[0];
	begin_into(&l, ends[1]);
	put(&l, "abc");
	assert_finishes(&l, -EINVAL);
	end(&l);
}

static void takes_no_bytes_for_no_stream(void **state)
{
	struct line l;

	begin(&l);
	assert_finishes(&l, -ENODATA);
	end(&l);
}

static void moves_pieces_of_all_sizes_in_order(void **state)
{
	g_autofree uint8_t *data = g_malloc(5 * SNAP_MIB);
	g_autofree uint8_t *back = g_malloc(5 * SNAP_MIB);
	size_t size = 0;
	struct line l;

	for (size_t i = 0; i < 5 * SNAP_MIB; i++)
		data[i] = (uint8_t)((i * 2654435761u) >> 13);
	begin(&l);
	for (size_t n = 1; size + n <= 5 * SNAP_MIB; n = n * 3 % 65521) {
		assert_int_equal(snap_write_all(l.end, data + size, n), 0);
		size += n;
	}
	assert_finishes(&l, 0);
	assert_int_equal(size_of(&l), size);
	assert_int_equal(snap_pread_exact(l.file, back, size, 0), 0);
	assert_memory_equal(data, back, size);
	end(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holds_back_the_last_byte_until_it_may_finish),
		cmocka_unit_test(
			writes_all_that_was_in_the_pipe_when_it_may_finish),
		cmocka_unit_test(
			takes_the_end_of_the_pipe_for_no_end_of_the_stream),
		cmocka_unit_test(reads_on_when_it_drops),
		cmocka_unit_test(finishes_after_the_end_of_the_pipe),
		cmocka_unit_test(breaks_the_pipe_when_it_is_stopped),
		cmocka_unit_test(breaks_the_pipe_when_the_file_is_full),
		cmocka_unit_test(tells_when_the_file_cannot_be_synced),
		cmocka_unit_test(takes_no_bytes_for_no_stream),
		cmocka_unit_test(moves_pieces_of_all_sizes_in_order),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
