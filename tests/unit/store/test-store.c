/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Both back ends do the same, and leave no files behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/units.h"
#include "format/store/store.h"

static const enum snap_file_driver drivers[] = {
	SNAP_FILE_PLAIN,
	SNAP_FILE_URING,
};

/* A folder of its own for each test. */
struct folder {
	char *path;
	int fd;
};

static int setup(void **state)
{
	struct folder *f = g_new0(struct folder, 1);

	f->path = g_dir_make_tmp("snapfs-unit-XXXXXX", NULL);
	f->fd = open(f->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return f->fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct folder *f = *state;

	close(f->fd);
	g_rmdir(f->path);
	g_free(f->path);
	g_free(f);
	return 0;
}

/* The number of names in the folder. */
static guint count_names(const struct folder *f)
{
	DIR *dir = opendir(f->path);
	guint n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

/* Creates a file; skips the test where the kernel has no io_uring. */
static SnapFile *create(const struct folder *f, const char *name,
			enum snap_file_driver driver)
{
	SnapFile *file;
	int r = snap_file_create(f->fd, name, 0600, NULL, driver, &file);

	if (driver == SNAP_FILE_URING && (r == -ENOSYS || r == -EPERM)) {
		print_message("# io_uring is not allowed here\n");
		skip();
	}
	assert_int_equal(r, 0);
	return file;
}

static int append(SnapFile *file, const void *data, size_t size, uint64_t *at)
{
	int r = file->ops->pwrite(file, data, size, *at);

	*at += size;
	return r;
}

/* Writes about 20 MB in pieces of all sizes. */
static void write_much(SnapFile *file)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);
	g_autofree uint32_t *data = g_malloc(3 * SNAP_MIB);
	uint64_t at = 0;

	for (guint i = 0; i < 3 * SNAP_MIB / 4; i++)
		data[i] = g_rand_int(rand);
	while (at < 20 * SNAP_MIB) {
		int most =
			g_rand_int_range(rand, 0, 10) ? 100000 : 3 * SNAP_MIB;
		size_t size = (size_t)g_rand_int_range(rand, 1, most);

		assert_int_equal(append(file, data, size, &at), 0);
		memset(data, (int)at, 100);
	}
}

static char *contents(const struct folder *f, const char *name, gsize *ret_size)
{
	g_autofree char *path = g_build_filename(f->path, name, NULL);
	char *bytes;

	assert_true(g_file_get_contents(path, &bytes, ret_size, NULL));
	return bytes;
}

static void both_back_ends_write_the_same_file(void **state)
{
	struct folder *f = *state;
	char *bytes[2];
	gsize size[2];

	for (guint i = 0; i < 2; i++) {
		SnapFile *file = create(f, "new", drivers[i]);

		write_much(file);
		assert_int_equal(file->ops->sync(file), 0);
		assert_int_equal(file->ops->publish(file, f->fd, "name"), 0);
		snap_file_close(file);
		bytes[i] = contents(f, "name", &size[i]);
		assert_int_equal(count_names(f), 1);
	}
	assert_int_equal(size[0], size[1]);
	assert_memory_equal(bytes[0], bytes[1], size[0]);
	unlinkat(f->fd, "name", 0);
	g_free(bytes[0]);
	g_free(bytes[1]);
}

static void drained_bytes_can_be_read(void **state)
{
	struct folder *f = *state;

	for (guint i = 0; i < 2; i++) {
		SnapFile *file = create(f, "new", drivers[i]);
		uint64_t at = 0, size;
		char buf[8];

		assert_int_equal(append(file, "first ", 6, &at), 0);
		assert_int_equal(append(file, "second", 6, &at), 0);
		assert_int_equal(file->ops->drain(file), 0);
		assert_int_equal(file->ops->size(file, &size), 0);
		assert_int_equal(size, 12);
		assert_int_equal(snap_file_read(file, buf, 8, 2), 0);
		assert_memory_equal(buf, "rst seco", 8);
		assert_int_equal(snap_file_read(file, buf, 8, 5), -EBADMSG);
		assert_int_equal(file->ops->pread(file, buf, 8, 10), 2);
		/* Overwrites bytes, and goes past the end. */
		assert_int_equal(file->ops->pwrite(file, "SECOND", 6, 6), 0);
		assert_int_equal(file->ops->pwrite(file, "x", 1, 5000), 0);
		assert_int_equal(file->ops->drain(file), 0);
		assert_int_equal(snap_file_read(file, buf, 8, 5), 0);
		assert_memory_equal(buf, " SECOND", 8);
		snap_file_close(file);
		assert_int_equal(count_names(f), 0);
	}
}

static void an_unpublished_file_is_removed(void **state)
{
	struct folder *f = *state;

	for (guint i = 0; i < 2; i++) {
		SnapFile *file = create(f, "new", drivers[i]);

		assert_int_equal(count_names(f), 1);
		assert_int_equal(file->ops->pwrite(file, "x", 1, 0), 0);
		snap_file_close(file);
		assert_int_equal(count_names(f), 0);
	}
}

static void closing_removes_the_companion(void **state)
{
	struct folder *f = *state;

	for (guint i = 0; i < 4; i++) {
		SnapFile *file;

		assert_int_equal(symlinkat("anywhere", f->fd, "new.for"), 0);
		assert_int_equal(snap_file_create(f->fd, "new", 0600, "new.for",
						  drivers[i % 2], &file),
				 0);
		if (i >= 2)
			assert_int_equal(
				file->ops->publish(file, f->fd, "name"), 0);
		assert_int_equal(count_names(f), 2);
		snap_file_close(file);
		assert_int_equal(count_names(f), i >= 2);
		unlinkat(f->fd, "name", 0);
	}
}

static void a_name_that_is_taken_is_refused(void **state)
{
	struct folder *f = *state;
	SnapFile *file = create(f, "new", SNAP_FILE_PLAIN), *second;

	for (guint i = 0; i < 2; i++)
		assert_int_equal(snap_file_create(f->fd, "new", 0600, NULL,
						  drivers[i], &second),
				 -EEXIST);
	snap_file_close(file);
	assert_int_equal(openat(f->fd, "new", O_RDONLY | O_CLOEXEC), -1);
	assert_int_equal(errno, ENOENT);
}

static SnapFile *open_to_read(const struct folder *f, const char *name)
{
	int fd = openat(f->fd, name, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return snap_file_wrap(fd);
}

static void publishing_replaces_the_old_file(void **state)
{
	struct folder *f = *state;

	for (guint i = 0; i < 2; i++) {
		SnapFile *old = create(f, "old", SNAP_FILE_PLAIN);
		SnapFile *file = create(f, "new", drivers[i]), *reader;
		char buf[1];

		old->ops->pwrite(old, "o", 1, 0);
		assert_int_equal(old->ops->publish(old, f->fd, "name"), 0);
		snap_file_close(old);
		reader = open_to_read(f, "name");
		file->ops->pwrite(file, "n", 1, 0);
		assert_int_equal(file->ops->publish(file, f->fd, "name"), 0);
		assert_int_equal(file->ops->publish(file, f->fd, "again"),
				 -EINVAL);
		snap_file_close(file);
		/* An open reader keeps the old file. */
		assert_int_equal(snap_file_read(reader, buf, 1, 0), 0);
		assert_int_equal(buf[0], 'o');
		snap_file_close(reader);
		reader = open_to_read(f, "name");
		assert_int_equal(snap_file_read(reader, buf, 1, 0), 0);
		assert_int_equal(buf[0], 'n');
		snap_file_close(reader);
		unlinkat(f->fd, "name", 0);
	}
}

static void publishing_into_a_removed_folder_fails(void **state)
{
	struct folder *f = *state;

	for (guint i = 0; i < 2; i++) {
		SnapFile *file = create(f, "new", drivers[i]);
		int fd;

		assert_int_equal(mkdirat(f->fd, "gone", 0700), 0);
		fd = openat(f->fd, "gone", O_PATH | O_DIRECTORY);
		assert_int_equal(unlinkat(f->fd, "gone", AT_REMOVEDIR), 0);
		assert_int_equal(file->ops->publish(file, fd, "x"), -ENOENT);
		close(fd);
		snap_file_close(file);
		assert_int_equal(count_names(f), 0);
	}
}

static void a_scratch_file_has_no_name(void **state)
{
	struct folder *f = *state;
	SnapFile *file;
	char buf[2] = "";

	assert_int_equal(snap_file_scratch(f->fd, &file), 0);
	assert_int_equal(count_names(f), 0);
	assert_int_equal(file->ops->pwrite(file, "b", 1, 40960), 0);
	assert_int_equal(file->ops->pwrite(file, "a", 1, 0), 0);
	assert_int_equal(snap_file_read(file, buf, 1, 0), 0);
	assert_int_equal(snap_file_read(file, buf + 1, 1, 40960), 0);
	assert_memory_equal(buf, "ab", 2);
	snap_file_close(file);
}

/* No byte can be written past 2 MiB; this call or the next ones return the
 * error. */
static void an_error_is_returned_from_then_on(void **state)
{
	const struct rlimit small = { 2 * SNAP_MIB, RLIM_INFINITY };
	const struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };
	struct folder *f = *state;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (guint i = 0; i < 2; i++) {
		SnapFile *file = create(f, "new", drivers[i]);
		g_autofree char *data = g_malloc0(SNAP_MIB);
		uint64_t at = 0;
		int r = 0;

		for (guint n = 0; n < 6 && r == 0; n++)
			r = append(file, data, SNAP_MIB, &at);
		if (r == 0)
			r = file->ops->drain(file);
		assert_int_equal(r, -EFBIG);
		if (drivers[i] == SNAP_FILE_URING) {
			assert_int_equal(append(file, data, 1, &at), -EFBIG);
			assert_int_equal(file->ops->sync(file), -EFBIG);
			assert_int_equal(file->ops->publish(file, f->fd, "x"),
					 -EFBIG);
		}
		snap_file_close(file);
		assert_int_equal(count_names(f), 0);
	}
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
}

/* ---- what is on the disk ---- */

static void on_disk_reaches(SnapFile *file, uint64_t end)
{
	for (guint i = 0; i < 3000 && snap_file_on_disk(file) < end; i++)
		g_usleep(10000);
	assert_true(snap_file_on_disk(file) >= end);
}

/* Nobody asks for a sync. */
static void a_growing_file_is_written_to_the_disk(void **state)
{
	struct folder *f = *state;

	for (guint i = 0; i < 2; i++) {
		SnapFile *file = create(f, "new", drivers[i]);
		g_autofree char *data = g_malloc0(SNAP_MIB);
		uint64_t at = 0;

		for (guint n = 0; n < 3; n++) {
			while (at < (n + 1) * 20 * SNAP_MIB) {
				assert_int_equal(
					append(file, data, SNAP_MIB, &at), 0);
				assert_true(snap_file_on_disk(file) <= at);
			}
			on_disk_reaches(file, at - 10 * SNAP_MIB);
		}
		snap_file_close(file);
		assert_int_equal(count_names(f), 0);
	}
}

static void of_a_small_file_nothing_is_known(void **state)
{
	struct folder *f = *state;

	for (guint i = 0; i < 2; i++) {
		SnapFile *file = create(f, "new", drivers[i]);

		assert_int_equal(file->ops->pwrite(file, "x", 1, 0), 0);
		assert_int_equal(file->ops->sync(file), 0);
		assert_int_equal(snap_file_on_disk(file), 0);
		assert_int_equal(file->ops->publish(file, f->fd, "name"), 0);
		snap_file_close(file);
		file = open_to_read(f, "name");
		assert_int_equal(snap_file_on_disk(file), 0);
		snap_file_close(file);
		unlinkat(f->fd, "name", 0);
	}
}

/* ---- threads ---- */

struct turn {
	SnapFile *file;
	uint64_t at;
	int r;
};

/* Submits 2 MiB and ends at once; the kernel cancels the writes that it has not
 * begun. */
static gpointer one_turn(gpointer data)
{
	struct turn *t = data;
	g_autofree uint8_t *bytes = g_malloc(2 * SNAP_MIB);

	memset(bytes, (int)(t->at >> 20) + 1, 2 * SNAP_MIB);
	t->r = t->file->ops->pwrite(t->file, bytes, 2 * SNAP_MIB, t->at);
	return NULL;
}

static void threads_may_end_while_their_writes_are_in_flight(void **state)
{
	struct folder *f = *state;
	struct turn t = { .file = create(f, "new", SNAP_FILE_URING) };
	uint8_t byte;

	for (; t.at < 100 * SNAP_MIB; t.at += 2 * SNAP_MIB) {
		g_thread_join(g_thread_new("turn", one_turn, &t));
		assert_int_equal(t.r, 0);
	}
	assert_int_equal(t.file->ops->sync(t.file), 0);
	for (uint64_t at = 0; at < t.at; at += SNAP_MIB / 2) {
		assert_int_equal(snap_file_read(t.file, &byte, 1, at), 0);
		assert_int_equal(byte, ((at >> 21 << 21) >> 20) + 1);
	}
	snap_file_close(t.file);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(both_back_ends_write_the_same_file),
		test(drained_bytes_can_be_read),
		test(an_unpublished_file_is_removed),
		test(closing_removes_the_companion),
		test(a_name_that_is_taken_is_refused),
		test(publishing_replaces_the_old_file),
		test(publishing_into_a_removed_folder_fails),
		test(a_scratch_file_has_no_name),
		test(an_error_is_returned_from_then_on),
		test(a_growing_file_is_written_to_the_disk),
		test(of_a_small_file_nothing_is_known),
		test(threads_may_end_while_their_writes_are_in_flight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
