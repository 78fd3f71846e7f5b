/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A store that does not answer keeps no writer waiting for longer than it was
 * told, and a save that has timed out harms no other one. */
#include "tests/unit/save/world.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "format/base/cleanup.h"
#include "tests/lib/stream.h"

/* ---- a store that hangs ---- */

enum call {
	NONE,
	FSYNC,
	LAST, /* calls that follow when the outcome is known */
};

static struct {
	GMutex lock;
	GCond changed;
	enum call hangs;
	int error; /* of calls that hang */
	guint waiting;
} far;

static void set_far(enum call hangs, int error)
{
	SNAP_LOCKED(&far.lock);

	far.hangs = hangs;
	far.error = error;
	g_cond_broadcast(&far.changed);
}

/* Waits until the store is back: 0, or an errno. */
static int wait_for_store(enum call call)
{
	SNAP_LOCKED(&far.lock);

	if (far.hangs != call)
		return 0;
	far.waiting++;
	g_cond_broadcast(&far.changed);
	while (far.hangs == call)
		g_cond_wait(&far.changed, &far.lock);
	far.waiting--;
	return far.error;
}

/* Waits until a call hangs: how many do. */
static guint wait_hanging(void)
{
	SNAP_LOCKED(&far.lock);

	while (!far.waiting)
		g_cond_wait(&far.changed, &far.lock);
	return far.waiting;
}

/* The linker puts this in the place of fsync(2) (--wrap). */
int __real_fsync(int fd);
int __wrap_fsync(int fd);

int __wrap_fsync(int fd)
{
	int error = wait_for_store(FSYNC);

	if (!error)
		return __real_fsync(fd);
	errno = error;
	return -1;
}

/* And this in the place of renameat2(2). */
static gint no_exchange; /* atomic */
int __real_renameat2(int from, const char *old, int to, const char *name,
		     unsigned flags);
int __wrap_renameat2(int from, const char *old, int to, const char *name,
		     unsigned flags);

int __wrap_renameat2(int from, const char *old, int to, const char *name,
		     unsigned flags)
{
	if (!g_atomic_int_get(&no_exchange))
		return __real_renameat2(from, old, to, name, flags);
	errno = EIO;
	return -1;
}

/* ---- saves ---- */

static void open_world(struct world *w)
{
	world_open(w, SNAP_SAVER_BUFFER_DEFAULT);
	world_timeout(w, 1);
	w->stream = g_byte_array_new();
	w->ram = g_malloc0(FLAT_SIZE);
	stream_list(w->stream, RAM_SIZE, ROM_SIZE);
	stream_more(w->stream, 3, 2);
	stream_eos(w->stream);
	stream_footer(w->stream, 2);
	stream_description(w->stream, "{\"devices\": []}");
}

static ssize_t put_whole(struct world *w)
{
	return put(w, w->stream->data, w->stream->len, 0);
}

static uint64_t snapshot(const struct world *w)
{
	struct stat st;

	if (fstatat(w->folder_fd, SNAP_CATALOG_SNAPSHOT, &st, 0) < 0)
		return 0;
	return st.st_ino;
}

static int begin(struct world *w, snap_save_over_fn over, void *data)
{
	struct snap_save_opts opts = { .folder_fd = w->folder_fd,
				       .path = "vm1",
				       .owner = { (uid_t)-1, (gid_t)-1, 0600 },
				       .preamble_fd = -1,
				       .over = over,
				       .over_data = data };

	snap_save_unref(w->save);
	w->save = NULL;
	return snap_save_new(w->saver, &opts, &w->save, NULL);
}

static void note_saved(void *data, SnapSave *save, bool saved)
{
	*(bool *)data = saved;
}

/* Lets a save time out while its snapshot gets its name, and asks for the next
 * one before the store answers `error`. Returns what the owner of the save is
 * told. */
static bool time_out(struct world *w, int error)
{
	bool saved = false;

	assert_int_equal(begin(w, note_saved, &saved), 0);
	set_far(FSYNC, error);
	assert_int_equal(put_whole(w), -ETIMEDOUT);
	assert_int_equal(snap_save_wait(w->save, NULL), -ETIMEDOUT);
	snap_save_unref(w->save);
	w->save = NULL;
	assert_int_equal(begin(w, NULL, NULL), -EBUSY);
	set_far(NONE, error);
	snap_saver_wait(w->saver);
	return saved;
}

static void check_next(struct world *w)
{
	uint64_t before = snapshot(w);

	begin_save(w);
	assert_int_equal(put_whole(w), w->stream->len);
	assert_int_not_equal(snapshot(w), before);
	assert_saved(w);
}

/* A world with a snapshot; gives its number. */
static uint64_t open_saved(struct world *w)
{
	open_world(w);
	check_next(w);
	return snapshot(w);
}

/* ---- tests ---- */

static void no_save_begins_before_one_that_timed_out_is_over(void **state)
{
	struct world w;
	uint64_t before = open_saved(&w);

	assert_false(time_out(&w, EIO));
	assert_int_equal(snapshot(&w), before);
	check_next(&w);
	world_close(&w);
}

static void a_name_that_was_asked_for_in_time_is_kept(void **state)
{
	g_autofree char *note = NULL;
	struct world w;
	uint64_t before = open_saved(&w);

	assert_true(time_out(&w, 0));
	assert_int_not_equal(snapshot(&w), before);
	note = snap_catalog_noted(w.folder_fd);
	assert_null(note);
	assert_saved(&w);
	check_next(&w);
	world_close(&w);
}

/* The older snapshot cannot be put back, and the new one may not last. */
static void a_name_that_may_not_last_is_told(void **state)
{
	g_autofree char *note = NULL;
	struct world w;
	uint64_t before = open_saved(&w);

	begin_save(&w);
	set_far(FSYNC, EIO);
	assert_int_equal(put_whole(&w), -ETIMEDOUT);
	g_atomic_int_set(&no_exchange, 1);
	set_far(NONE, EIO);
	snap_saver_wait(w.saver);
	g_atomic_int_set(&no_exchange, 0);
	assert_int_not_equal(snapshot(&w), before);
	note = snap_catalog_noted(w.folder_fd);
	assert_non_null(note);
	assert_non_null(strstr(note, "may lose it"));
	assert_saved(&w);
	world_close(&w);
}

static void saves_into_other_folders_begin(void **state)
{
	struct world w;
	int folder;

	open_world(&w);
	begin_save(&w);
	set_far(FSYNC, 0);
	assert_int_equal(put_whole(&w), -ETIMEDOUT);
	snap_save_unref(w.save);
	w.save = NULL;
	assert_int_equal(mkdirat(snap_catalog_fd(w.catalog), "vm2", 0700), 0);
	folder = w.folder_fd;
	w.folder_fd = openat(snap_catalog_fd(w.catalog), "vm2",
			     O_RDONLY | O_DIRECTORY);
	assert_int_equal(begin(&w, NULL, NULL), 0);
	set_far(NONE, 0);
	assert_int_equal(put_whole(&w), w.stream->len);
	assert_int_equal(close(folder), 0);
	world_close(&w);
}

/* Two names of one folder take streams. */
static void saves_into_one_folder_publish_one_after_the_other(void **state)
{
	g_autofree char *note = NULL;
	struct outcome *a, *b;
	SnapSave *first;
	struct world w;

	open_world(&w);
	world_timeout(&w, 0);
	set_far(FSYNC, EIO);
	begin_save(&w);
	first = snap_save_ref(w.save);
	a = put_later(&w, w.stream->data, w.stream->len, 0);
	assert_int_equal(wait_hanging(), 1);
	begin_save(&w);
	b = put_later(&w, w.stream->data, w.stream->len, 0);
	g_usleep(300000);
	assert_int_equal(wait_hanging(), 1);
	set_far(NONE, EIO);
	assert_int_equal(outcome_wait(a), -EIO);
	assert_int_equal(outcome_wait(b), w.stream->len);
	note = snap_catalog_noted(w.folder_fd);
	assert_null(note);
	assert_saved(&w);
	snap_save_unref(first);
	world_close(&w);
}

static void wait_over(void *data, SnapSave *save, bool saved)
{
	(void)wait_for_store(LAST);
}

/* The snapshot is on disk, and the store does not answer what is left to do. */
static void
a_writer_does_not_wait_for_what_comes_after_its_snapshot(void **state)
{
	struct world w;

	open_world(&w);
	assert_int_equal(begin(&w, wait_over, NULL), 0);
	set_far(LAST, 0);
	assert_int_equal(put_whole(&w), w.stream->len);
	assert_int_equal(snap_save_wait(w.save, NULL), 0);
	set_far(NONE, 0);
	assert_saved(&w);
	world_close(&w);
}

static void
a_writer_does_not_wait_for_what_comes_after_its_failure(void **state)
{
	struct world w;

	open_world(&w);
	assert_int_equal(begin(&w, wait_over, NULL), 0);
	set_far(LAST, 0);
	w.stream->data[0] ^= 1;
	assert_int_equal(put_whole(&w), -ETIMEDOUT);
	set_far(NONE, 0);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			no_save_begins_before_one_that_timed_out_is_over),
		cmocka_unit_test(a_name_that_was_asked_for_in_time_is_kept),
		cmocka_unit_test(a_name_that_may_not_last_is_told),
		cmocka_unit_test(saves_into_other_folders_begin),
		cmocka_unit_test(
			saves_into_one_folder_publish_one_after_the_other),
		cmocka_unit_test(
			a_writer_does_not_wait_for_what_comes_after_its_snapshot),
		cmocka_unit_test(
			a_writer_does_not_wait_for_what_comes_after_its_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
