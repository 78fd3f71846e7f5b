/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files that snapshots share stay as long as they are used, and no longer;
 * also through crashes. */
#include "tests/unit/catalog/world.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/log.h"
#include "tests/lib/crash-names.h"

/* The lines that were logged. */
static guint logged;

static void count_line(enum snap_log_level level, const char *line)
{
	assert_int_equal(level, SNAP_LOG_WARNING);
	assert_non_null(line);
	logged++;
}

/* ---- folders that fail ---- */

/* The snapshot of one folder cannot be looked at; that of another is seen, and
 * gone a moment later. -1: none. */
static int unreadable = -1, vanishing = -1;
/* The snapshot of folder b of this world is replaced before it is looked at. */
static struct world *replaced;

static bool is_folder(int fd, int other)
{
	struct stat a, b;

	return other >= 0 && fstat(fd, &a) == 0 && fstat(other, &b) == 0 &&
	       a.st_ino == b.st_ino;
}

static void look_begins(int dirfd)
{
	struct world *w = replaced;

	if (!w || !is_folder(dirfd, w->fds[1]))
		return;
	replaced = NULL;
	save(w, 1, -1, 0);
}

/* The C library has the call by two names. */
#define WRAP(call)                                                             \
	int __real_##call(int dirfd, const char *name, struct stat *st,        \
			  int flags);                                          \
	int __wrap_##call(int dirfd, const char *name, struct stat *st,        \
			  int flags);                                          \
	int __wrap_##call(int dirfd, const char *name, struct stat *st,        \
			  int flags)                                           \
	{                                                                      \
		bool ours = !strcmp(name, SNAP_CATALOG_SNAPSHOT);              \
		if (ours)                                                      \
			look_begins(dirfd);                                    \
                                                                               \
		if (ours && is_folder(dirfd, unreadable)) {                    \
			errno = EIO;                                           \
			return -1;                                             \
		}                                                              \
		return ours && is_folder(dirfd, vanishing)                     \
			       ? 0                                             \
			       : __real_##call(dirfd, name, st, flags);        \
	}

WRAP(fstatat)
WRAP(fstatat64)

/* ---- what is used stays ---- */

static void a_removed_parent_stays_while_it_is_used(void **state)
{
	struct world *w = *state;

	save(w, 0, -1, 0);
	assert_int_equal(count_layers(w), 0);
	save(w, 1, 0, 2);
	collects(w, 1);
	removes(w, 0);
	collects(w, 1);
	assert_int_equal(check(w, 1, NULL), 0);
	removes(w, 1);
	collects(w, 0);
}

static void a_snapshot_can_replace_its_own_parent(void **state)
{
	struct world *w = *state;

	save(w, 0, -1, 0);
	for (guint i = 0; i < 6; i++) {
		save(w, 0, 0, i % 4);
		assert_int_equal(check(w, 0, NULL), 0);
		/* Each region is in the file that wrote it last. */
		collects(w, MIN(i + 1, 3));
	}
	save(w, 0, -1, 0);
	collects(w, 0);
}

/* Saves a snapshot and its child; the name of the parent's layer. */
static void save_child(struct world *w, char ret[SNAP_CATALOG_LAYER_NAME])
{
	g_autoptr(SnapReader) r = NULL;

	save(w, 0, -1, 0);
	save(w, 1, 0, 2);
	assert_int_equal(snap_catalog_find(w->fds[0], &r, NULL), 0);
	snap_catalog_layer_name(snap_reader_meta(r)->uuid, ret);
}

static void a_missing_parent_is_named_and_may_come_back(void **state)
{
	struct world *w = *state;
	g_autoptr(GError) error = NULL;
	char name[SNAP_CATALOG_LAYER_NAME];

	save_child(w, name);
	assert_int_equal(unlinkat(w->layers_fd, name, 0), 0);
	assert_int_equal(check(w, 1, &error), -ENOLINK);
	assert_non_null(strstr(error->message, name));
	assert_int_equal(
		linkat(w->fds[0], SNAP_CATALOG_SNAPSHOT, w->layers_fd, name, 0),
		0);
	assert_int_equal(check(w, 1, NULL), 0);
}

static void another_file_in_the_place_of_a_parent_is_refused(void **state)
{
	struct world *w = *state;
	g_autoptr(GError) error = NULL;
	char name[SNAP_CATALOG_LAYER_NAME];

	save_child(w, name);
	unlinkat(w->layers_fd, name, 0);
	linkat(w->fds[1], SNAP_CATALOG_SNAPSHOT, w->layers_fd, name, 0);
	assert_int_equal(check(w, 1, &error), -EBADMSG);
	assert_non_null(strstr(error->message, name));
}

/* Removes the only layer. */
static void lose_the_layer(struct world *w)
{
	g_autofree char *path =
		g_build_filename(w->path, SNAP_CATALOG_LAYERS, NULL);
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);

	assert_int_equal(unlinkat(w->layers_fd, g_dir_read_name(dir), 0), 0);
}

static void a_snapshot_that_is_gone_lacks_no_parent(void **state)
{
	struct world *w = *state;
	g_autoptr(GError) error = NULL;
	SnapReader *r;
	int fd;

	save(w, 0, -1, 0);
	save(w, 1, 0, 2);
	fd = openat(w->fds[1], SNAP_CATALOG_SNAPSHOT, O_PATH | O_CLOEXEC);
	lose_the_layer(w);
	assert_int_equal(snap_catalog_read(w->catalog, w->fds[1], fd, &r, NULL),
			 -ENOLINK);
	save(w, 1, -1, 0);
	assert_int_equal(snap_catalog_read(w->catalog, w->fds[1], fd, &r, NULL),
			 -ESTALE);
	removes(w, 1);
	assert_int_equal(
		snap_catalog_read(w->catalog, w->fds[1], fd, &r, &error),
		-ENOENT);
	assert_int_equal(error->code, ENOENT);
	close(fd);
}

static void a_snapshot_that_is_replaced_meanwhile_is_opened_again(void **state)
{
	struct world *w = *state;
	g_autoptr(SnapReader) r = NULL;
	g_autoptr(GError) error = NULL;

	save(w, 0, -1, 0);
	save(w, 1, 0, 2);
	lose_the_layer(w);
	replaced = w;
	assert_int_equal(
		snap_catalog_find_whole(w->catalog, w->fds[1], &r, &error), 0);
	assert_null(error);
	assert_int_equal(snap_reader_meta(r)->n_layers, 0);
}

/* ---- what is not removed ---- */

static void what_a_save_keeps_is_not_removed(void **state)
{
	struct world *w = *state;
	g_autoptr(SnapReader) r = NULL;
	SnapKept *kept;

	save(w, 0, -1, 0);
	assert_int_equal(snap_catalog_keep(w->catalog, w->fds[0], geteuid(), &r,
					   &kept, NULL),
			 0);
	assert_int_equal(snap_catalog_link(w->catalog, kept, &r, NULL), 0);
	removes(w, 0);
	collects(w, 1);
	snap_kept_free(kept);
	collects(w, 0);
}

static void nothing_is_removed_while_a_snapshot_cannot_be_read(void **state)
{
	struct world *w = *state;
	g_autoptr(GError) error = NULL;
	g_autofree char *path =
		g_build_filename(w->path, "c", SNAP_CATALOG_SNAPSHOT, NULL);

	save(w, 0, -1, 0);
	save(w, 1, 0, 2);
	removes(w, 1);
	assert_true(g_file_set_contents(path, "damaged", -1, NULL));
	assert_int_equal(snap_catalog_collect(w->catalog, &error), -ENODATA);
	assert_non_null(strstr(error->message, "c: "));
	assert_int_equal(count_layers(w), 1);
	removes(w, 2);
	collects(w, 0);
}

static void
a_folder_that_fails_is_named_whatever_vanishes_meanwhile(void **state)
{
	struct world *w = *state;
	g_autoptr(GError) error = NULL;
	int r;

	save(w, 0, -1, 0);
	save(w, 2, 0, 2);
	removes(w, 2);
	unreadable = w->fds[0];
	vanishing = w->fds[1];
	r = snap_catalog_collect(w->catalog, &error);
	unreadable = vanishing = -1;
	assert_int_equal(r, -EIO);
	assert_non_null(error);
	assert_non_null(strstr(error->message, "folder a"));
	assert_int_equal(count_layers(w), 1);
}

static void nothing_is_removed_while_a_folder_is_moved(void **state)
{
	struct world *w = *state;

	save(w, 0, -1, 0);
	save(w, 1, 0, 2);
	removes(w, 1);
	snap_catalog_move_begin(w->catalog);
	logged = 0;
	collects(w, 1);
	assert_int_equal(logged, 1);
	snap_catalog_move_end(w->catalog);
	collects(w, 0);
}

static void the_background_does_the_same(void **state)
{
	struct world *w = *state;

	save(w, 0, -1, 0);
	save(w, 1, 0, 2);
	removes(w, 1);
	for (guint i = 0; i < 20; i++)
		snap_catalog_collect_later(w->catalog);
	while (count_layers(w))
		g_thread_yield();
}

static void closing_the_store_does_not_wait_for_a_collection(void **state)
{
	struct world *w = *state;
	g_autoptr(GError) error = NULL;

	save(w, 0, -1, 0);
	save(w, 1, 0, 2);
	removes(w, 1);
	snap_catalog_collect_stop(w->catalog);
	snap_catalog_collect_later(w->catalog);
	assert_int_equal(snap_catalog_collect(w->catalog, &error), -ECANCELED);
	assert_non_null(error);
	snap_catalog_free(w->catalog);
	assert_int_equal(count_layers(w), 1);
	assert_int_equal(
		snap_catalog_open(w->path, false, "a test", &w->catalog, NULL),
		0);
	collects(w, 0);
}

/* ---- crashes ---- */

/* A day of a store. */
static void live(struct world *w)
{
	save(w, 0, -1, 0);
	save(w, 1, 0, 1);
	removes(w, 0);
	collects(w, 1);
	save(w, 0, 1, 2);
	save(w, 1, 1, 3);
	collects(w, 2);
	removes(w, 0);
	collects(w, 2);
	save(w, 2, 1, 0);
	removes(w, 1);
	collects(w, 3);
	save(w, 2, -1, 0);
	collects(w, 0);
	removes(w, 2);
}

/* True when a snapshot that a crash has left has its parents. */
static bool is_whole(struct world *w, GHashTable *names, int fd)
{
	g_autoptr(SnapReader) r = NULL;
	const struct snap_meta *meta;

	assert_int_equal(snap_reader_open(snap_file_wrap(fd), &r, NULL), 0);
	meta = snap_reader_meta(r);
	for (guint i = 0; i < meta->n_layers; i++) {
		char name[SNAP_CATALOG_LAYER_NAME];
		int layer;

		snap_catalog_layer_name(meta->layers[i].uuid, name);
		layer = crash_names_open(names, w->layers_fd, name);
		if (layer < 0 || snap_reader_set_layer(
					 r, i, snap_file_wrap(layer), NULL) < 0)
			return false;
	}
	return snap_verify(r, NULL, NULL, NULL, NULL) == 0;
}

/* Crashes after each change, in several ways; counts what is left. */
static void crash_everywhere(struct world *w, guint *ret_whole, guint *ret_torn)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(7);

	*ret_whole = *ret_torn = 0;
	for (guint n = 0; n <= crash_names_count(); n++)
		for (guint way = 0; way < 30; way++) {
			g_autoptr(GHashTable) names =
				crash_names_after(n, rand);

			for (guint i = 0; i < WORLD_FOLDERS; i++) {
				int fd =
					crash_names_open(names, w->fds[i],
							 SNAP_CATALOG_SNAPSHOT);

				if (fd >= 0 && is_whole(w, names, fd))
					(*ret_whole)++;
				else if (fd >= 0)
					(*ret_torn)++;
			}
		}
}

static void a_crash_leaves_every_snapshot_whole(void **state)
{
	struct world *w = *state;
	guint whole, torn;

	live(w);
	crash_everywhere(w, &whole, &torn);
	assert_true(whole > 1000);
	assert_int_equal(torn, 0);
}

/* Checks that the test above can fail. */
static void folders_that_are_not_synced_are_caught_by_this_test(void **state)
{
	struct world *w = *state;
	guint whole, torn;

	crash_names_lie();
	live(w);
	crash_everywhere(w, &whole, &torn);
	assert_true(torn > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, world_open, world_close)
		TEST(a_removed_parent_stays_while_it_is_used),
		TEST(a_snapshot_can_replace_its_own_parent),
		TEST(a_missing_parent_is_named_and_may_come_back),
		TEST(another_file_in_the_place_of_a_parent_is_refused),
		TEST(a_snapshot_that_is_gone_lacks_no_parent),
		TEST(a_snapshot_that_is_replaced_meanwhile_is_opened_again),
		TEST(what_a_save_keeps_is_not_removed),
		TEST(nothing_is_removed_while_a_snapshot_cannot_be_read),
		TEST(a_folder_that_fails_is_named_whatever_vanishes_meanwhile),
		TEST(nothing_is_removed_while_a_folder_is_moved),
		TEST(the_background_does_the_same),
		TEST(closing_the_store_does_not_wait_for_a_collection),
		TEST(a_crash_leaves_every_snapshot_whole),
		TEST(folders_that_are_not_synced_are_caught_by_this_test),
	};

	snap_log_open(count_line, SNAP_LOG_WARNING);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
