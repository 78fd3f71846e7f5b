/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A store has one writer and is cleared of the files of a killed one. Its
 * snapshots are found by their folders, whatever the names. */
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
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "fs/catalog/catalog.h"
#include "tests/lib/image-fixture.h"

static const struct snap_catalog_owner nobody = { .uid = (uid_t)-1,
						  .gid = (gid_t)-1,
						  .mode = 0600 };

/* A folder of its own for each test. */
static int set_up(void **state)
{
	*state = g_dir_make_tmp("snapfs-catalog-XXXXXX", NULL);
	return *state ? 0 : -1;
}

static void remove_all(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		g_autofree char *child =
			g_build_filename(path, d->d_name, NULL);
		struct stat st;

		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
			continue;
		if (lstat(child, &st) == 0 && S_ISDIR(st.st_mode))
			remove_all(child);
		else
			unlink(child);
	}
	if (dir)
		closedir(dir);
	rmdir(path);
}

static int tear_down(void **state)
{
	remove_all(*state);
	g_free(*state);
	return 0;
}

static SnapCatalog *open_store(const char *path)
{
	SnapCatalog *c = NULL;

	assert_int_equal(
		snap_catalog_open(path, false, "mounted at /x", &c, NULL), 0);
	return c;
}

static guint count_names(const char *path)
{
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	guint n = 0;

	while (dir && g_dir_read_name(dir))
		n++;
	return n;
}

static guint count_tmp(const char *store)
{
	g_autofree char *tmp = g_build_filename(store, ".snapfs/tmp", NULL);

	return count_names(tmp);
}

/* Puts a snapshot into the folder `path` of a store. */
static void put_snapshot(const char *store, const char *path)
{
	g_autofree char *folder = g_build_filename(store, path, NULL);
	g_autofree char *to =
		g_build_filename(folder, SNAP_CATALOG_SNAPSHOT, NULL);
	struct image_fixture f;
	g_autofree char *from = NULL;
	g_autofree char *bytes = NULL;
	gsize size;

	image_fixture_make(&f, 600, 1);
	from = g_build_filename(f.folder, "snapshot.zst", NULL);
	assert_true(g_file_get_contents(from, &bytes, &size, NULL));
	assert_int_equal(g_mkdir_with_parents(folder, 0755), 0);
	assert_true(g_file_set_contents(to, bytes, (gssize)size, NULL));
	image_fixture_clear(&f);
}

static int open_folder(const char *store, const char *path)
{
	g_autofree char *folder = g_build_filename(store, path, NULL);
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* ---- opening ---- */

static void has_one_writer_and_names_it(void **state)
{
	g_autoptr(SnapCatalog) first = open_store(*state);
	g_autoptr(SnapCatalog) second = NULL;
	g_autoptr(GError) error = NULL;

	assert_int_equal(
		snap_catalog_open(*state, false, "me", &second, &error),
		-EBUSY);
	assert_non_null(strstr(error->message, "mounted at /x (process "));
	assert_non_null(strstr(error->message, *state));
	assert_int_equal(snap_catalog_open(*state, true, "me", &second, NULL),
			 0);
	assert_true(snap_catalog_read_only(second));
}

static void has_another_writer_once_the_first_is_gone(void **state)
{
	snap_catalog_free(open_store(*state));
	snap_catalog_free(open_store(*state));
}

static void touches_nothing_when_it_only_reads(void **state)
{
	g_autoptr(SnapCatalog) c = NULL;
	SnapFile *file, *scratch;

	assert_int_equal(snap_catalog_open(*state, true, "me", &c, NULL), 0);
	assert_int_equal(count_names(*state), 0);
	assert_int_equal(
		snap_catalog_create(c, "vm1", &nobody, &file, &scratch, NULL),
		-EROFS);
}

static void says_what_is_wrong_with_a_store(void **state)
{
	g_autofree char *none = g_build_filename(*state, "none", NULL);
	g_autofree char *file = g_build_filename(*state, ".snapfs", NULL);
	g_autoptr(GError) error = NULL;
	SnapCatalog *c = NULL;

	assert_int_equal(snap_catalog_open(none, false, "me", &c, &error),
			 -ENOENT);
	assert_non_null(strstr(error->message, none));
	g_clear_error(&error);
	assert_true(g_file_set_contents(file, "x", 1, NULL));
	assert_int_equal(snap_catalog_open(file, false, "me", &c, &error),
			 -ENOTDIR);
	g_clear_error(&error);
	assert_int_equal(snap_catalog_open(*state, false, "me", &c, &error),
			 -ENOTDIR);
	assert_null(c);
}

static void reserves_its_own_names(void **state)
{
	assert_true(snap_catalog_reserved("snapshot.zst"));
	assert_true(snap_catalog_reserved(".snapfs"));
	assert_true(snap_catalog_reserved(".snapfs-error"));
	assert_true(snap_catalog_reserved("snapshot.head"));
	assert_false(snap_catalog_reserved("snapshot.zst2"));
	assert_false(snap_catalog_reserved(".snap"));
}

/* ---- temporary files ---- */

static void leaves_nothing_of_a_file_that_was_not_published(void **state)
{
	g_autoptr(SnapCatalog) c = open_store(*state);
	SnapFile *file, *scratch;

	assert_int_equal(
		snap_catalog_create(c, "a/b", &nobody, &file, &scratch, NULL),
		0);
	assert_int_equal(count_tmp(*state), 2);
	assert_int_equal(file->ops->pwrite(file, "bytes", 5, 0), 0);
	snap_file_close(scratch);
	snap_file_close(file);
	assert_int_equal(count_tmp(*state), 0);
}

static void publishes_a_file_of_the_given_mode(void **state)
{
	g_autoptr(SnapCatalog) c = open_store(*state);
	g_autofree char *path = g_build_filename(*state, "snapshot.zst", NULL);
	struct snap_catalog_owner owner = nobody;
	SnapFile *file;
	struct stat st;

	owner.mode = 0646;
	assert_int_equal(snap_catalog_create(c, "", &owner, &file, NULL, NULL),
			 0);
	assert_int_equal(file->ops->pwrite(file, "bytes", 5, 0), 0);
	assert_int_equal(file->ops->sync(file), 0);
	assert_int_equal(
		file->ops->publish(file, snap_catalog_fd(c), "snapshot.zst"),
		0);
	snap_file_close(file);
	assert_int_equal(count_tmp(*state), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0646);
	assert_int_equal(st.st_size, 5);
}

/* Makes the files that a killed writer leaves. */
static void leave_behind(const char *store, const char *name, const char *path)
{
	g_autofree char *file =
		g_build_filename(store, ".snapfs/tmp", name, NULL);
	g_autofree char *link = g_strconcat(file, ".for", NULL);

	assert_true(g_file_set_contents(file, "torn", 4, NULL));
	assert_int_equal(symlink(path, link), 0);
}

static void clears_what_a_killed_writer_left_and_notes_it(void **state)
{
	snap_autofd int fd = -1, outside = -1;
	g_autofree char *note = NULL;
	g_autofree char *link = g_build_filename(*state, "link", NULL);

	put_snapshot(*state, "a/b");
	assert_int_equal(symlink("a", link), 0);
	snap_catalog_free(open_store(*state));
	leave_behind(*state, "1", "a/b");
	leave_behind(*state, "2", "no/such");
	leave_behind(*state, "3", "../../../../../etc");
	leave_behind(*state, "4", "link");
	snap_catalog_free(open_store(*state));
	assert_int_equal(count_tmp(*state), 0);
	fd = open_folder(*state, "a/b");
	note = snap_catalog_noted(fd);
	assert_non_null(note);
	assert_non_null(strstr(note, "cut off"));
	outside = open_folder(*state, "a");
	assert_null(snap_catalog_noted(outside));
}

/* ---- notes ---- */

static void remembers_a_note_until_it_is_forgotten(void **state)
{
	snap_autofd int fd = open_folder(*state, "");
	g_autofree char *note = NULL;

	assert_null(snap_catalog_noted(fd));
	snap_catalog_note(fd, "first");
	snap_catalog_note(fd, "the disk is full");
	note = snap_catalog_noted(fd);
	assert_string_equal(note, "the disk is full");
	snap_catalog_note(fd, NULL);
	assert_null(snap_catalog_noted(fd));
	assert_int_equal(count_names(*state), 0);
}

/* ---- snapshots ---- */

static void finds_and_removes_a_snapshot(void **state)
{
	g_autoptr(SnapCatalog) c = open_store(*state);
	g_autoptr(SnapReader) reader = NULL;
	snap_autofd int fd = -1;

	put_snapshot(*state, "vm1");
	fd = open_folder(*state, "vm1");
	snap_catalog_note(fd, "old");
	assert_int_equal(snap_catalog_find(fd, &reader, NULL), 0);
	assert_int_equal(snap_catalog_remove(c, fd), 0);
	assert_int_equal(snap_catalog_remove(c, fd), -ENOENT);
	assert_int_equal(count_tmp(*state), 0);
	assert_null(snap_catalog_noted(fd));
	g_clear_pointer(&reader, snap_reader_free);
	assert_int_equal(snap_catalog_find(fd, &reader, NULL), -ENOENT);
}

static void refuses_a_file_that_is_not_a_snapshot(void **state)
{
	g_autofree char *path = g_build_filename(*state, "snapshot.zst", NULL);
	snap_autofd int fd = open_folder(*state, "");
	g_autoptr(GError) error = NULL;
	SnapReader *reader;

	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(snap_catalog_find(fd, &reader, &error), -EBADMSG);
	assert_non_null(strstr(error->message, "symbolic link"));
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(snap_catalog_find(fd, &reader, NULL), -EBADMSG);
	unlink(path);
	assert_int_equal(g_mkdir(path, 0700), 0);
	assert_int_equal(snap_catalog_find(fd, &reader, NULL), -EBADMSG);
}

static int collect(const char *path, int folder_fd, void *data)
{
	g_string_append_printf(data, "%s;", path);
	return strstr(path, "stop") ? 7 : 0;
}

static void lists_snapshots_by_name_and_follows_no_links(void **state)
{
	g_autoptr(SnapCatalog) c = open_store(*state);
	g_autoptr(GString) found = g_string_new(NULL);
	g_autofree char *link = g_build_filename(*state, "link", NULL);

	put_snapshot(*state, "b");
	put_snapshot(*state, "a/z");
	put_snapshot(*state, "a");
	put_snapshot(*state, "\xff\x01 x");
	put_snapshot(*state, ".snapfs/tmp/x");
	assert_int_equal(symlink(".", link), 0);
	assert_int_equal(snap_catalog_list(c, "", collect, found, NULL), 0);
	assert_string_equal(found->str, "a;a/z;b;\xff\x01 x;");
	g_string_truncate(found, 0);
	assert_int_equal(snap_catalog_list(c, "a/", collect, found, NULL), 0);
	assert_string_equal(found->str, "a;a/z;");
	assert_int_equal(snap_catalog_list(c, "none", collect, found, NULL),
			 -ENOENT);
	assert_int_equal(snap_catalog_list(c, "link", collect, found, NULL),
			 -ENOTDIR);
	assert_int_equal(snap_catalog_list(c, "..", collect, found, NULL),
			 -EINVAL);
}

static void stops_when_the_visitor_says_so(void **state)
{
	g_autoptr(SnapCatalog) c = open_store(*state);
	g_autoptr(GString) found = g_string_new(NULL);

	put_snapshot(*state, "a");
	put_snapshot(*state, "stop");
	put_snapshot(*state, "z");
	assert_int_equal(snap_catalog_list(c, "", collect, found, NULL), 7);
	assert_string_equal(found->str, "a;stop;");
}

/* ---- the preamble ---- */

static const uint8_t uuid[16] = "the snapshot's";
static const uint8_t other[16] = "another one's";

/* The bytes of the side file, or NULL. */
static char *read_preamble(int fd, int expected)
{
	g_autoptr(GError) error = NULL;
	GBytes *preamble = NULL;
	char *text;

	assert_int_equal(
		snap_catalog_preamble_read(fd, uuid, &preamble, &error),
		expected);
	if (expected < 0) {
		assert_null(preamble);
		assert_non_null(strstr(error->message, SNAP_CATALOG_PREAMBLE));
	}
	if (!preamble)
		return NULL;
	text = g_strndup(g_bytes_get_data(preamble, NULL),
			 g_bytes_get_size(preamble));
	g_bytes_unref(preamble);
	return text;
}

static int write_preamble(SnapCatalog *c, int fd, const uint8_t *whose,
			  const char *text)
{
	snap_autofd int snapshot =
		openat(fd, SNAP_CATALOG_SNAPSHOT, O_PATH | O_CLOEXEC);

	return snap_catalog_preamble_write(c, fd, snapshot, whose, text,
					   strlen(text), NULL);
}

static void keeps_the_preamble_of_one_snapshot(void **state)
{
	g_autoptr(SnapCatalog) c = open_store(*state);
	g_autofree char *text = NULL;
	snap_autofd int fd = -1;
	struct stat st;

	put_snapshot(*state, "vm1");
	fd = open_folder(*state, "vm1");
	assert_int_equal(fchmodat(fd, SNAP_CATALOG_SNAPSHOT, 0640, 0), 0);
	assert_null(read_preamble(fd, 0));
	assert_int_equal(write_preamble(c, fd, uuid, "first"), 0);
	assert_int_equal(write_preamble(c, fd, uuid, "and second"), 0);
	text = read_preamble(fd, 0);
	assert_string_equal(text, "and second");
	assert_int_equal(fstatat(fd, SNAP_CATALOG_PREAMBLE, &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(st.st_size, 32 + strlen("and second"));
	assert_int_equal(count_tmp(*state), 0);
	/* That of another snapshot is ignored. */
	assert_int_equal(write_preamble(c, fd, other, "third"), 0);
	assert_null(read_preamble(fd, 0));
	assert_int_equal(snap_catalog_remove(c, fd), 0);
	assert_int_equal(fstatat(fd, SNAP_CATALOG_PREAMBLE, &st, 0), -1);
}

static void writes_no_preamble_where_it_cannot(void **state)
{
	g_autoptr(SnapCatalog) c = open_store(*state);
	g_autoptr(SnapCatalog) reader = NULL;
	snap_autofd int fd = -1, snapshot = -1;

	put_snapshot(*state, "vm1");
	fd = open_folder(*state, "vm1");
	assert_int_equal(write_preamble(c, fd, uuid, ""), -EINVAL);
	assert_int_equal(snap_catalog_open(*state, true, "me", &reader, NULL),
			 0);
	assert_int_equal(write_preamble(reader, fd, uuid, "x"), -EROFS);
	snapshot = openat(fd, SNAP_CATALOG_SNAPSHOT, O_PATH | O_CLOEXEC);
	assert_int_equal(
		snap_catalog_preamble_write(c, fd, fd, uuid, "x", 1, NULL),
		-ESTALE);
	assert_int_equal(snap_catalog_remove(c, fd), 0);
	assert_int_equal(snap_catalog_preamble_write(c, fd, snapshot, uuid, "x",
						     1, NULL),
			 -ENOENT);
	assert_int_equal(count_tmp(*state), 0);
	assert_null(read_preamble(fd, 0));
}

static void refuses_a_preamble_with_any_bit_flipped(void **state)
{
	g_autoptr(SnapCatalog) c = open_store(*state);
	g_autofree char *path =
		g_build_filename(*state, "vm1", SNAP_CATALOG_PREAMBLE, NULL);
	g_autofree char *bytes = NULL;
	snap_autofd int fd = -1;
	gsize size;

	put_snapshot(*state, "vm1");
	fd = open_folder(*state, "vm1");
	assert_int_equal(write_preamble(c, fd, uuid, "what libvirt wrote"), 0);
	assert_true(g_file_get_contents(path, &bytes, &size, NULL));
	for (gsize i = 0; i < size; i++) {
		bytes[i] ^= 4;
		assert_true(
			g_file_set_contents(path, bytes, (gssize)size, NULL));
		assert_null(read_preamble(fd, -EBADMSG));
		bytes[i] ^= 4;
	}
	for (gsize n = 0; n < size; n++) {
		assert_true(g_file_set_contents(path, bytes, (gssize)n, NULL));
		assert_null(read_preamble(fd, -EBADMSG));
	}
}

static void refuses_a_preamble_that_is_not_a_file(void **state)
{
	g_autofree char *path =
		g_build_filename(*state, SNAP_CATALOG_PREAMBLE, NULL);
	snap_autofd int fd = open_folder(*state, "");

	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_null(read_preamble(fd, -EBADMSG));
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_null(read_preamble(fd, -EBADMSG));
	unlink(path);
	assert_int_equal(g_mkdir(path, 0700), 0);
	assert_null(read_preamble(fd, -EBADMSG));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(has_one_writer_and_names_it),
		TEST(has_another_writer_once_the_first_is_gone),
		TEST(touches_nothing_when_it_only_reads),
		TEST(says_what_is_wrong_with_a_store),
		TEST(reserves_its_own_names),
		TEST(leaves_nothing_of_a_file_that_was_not_published),
		TEST(publishes_a_file_of_the_given_mode),
		TEST(clears_what_a_killed_writer_left_and_notes_it),
		TEST(remembers_a_note_until_it_is_forgotten),
		TEST(finds_and_removes_a_snapshot),
		TEST(refuses_a_file_that_is_not_a_snapshot),
		TEST(keeps_the_preamble_of_one_snapshot),
		TEST(writes_no_preamble_where_it_cannot),
		TEST(refuses_a_preamble_with_any_bit_flipped),
		TEST(refuses_a_preamble_that_is_not_a_file),
		TEST(lists_snapshots_by_name_and_follows_no_links),
		TEST(stops_when_the_visitor_says_so),
	};

	return cmocka_run_group_tests_name("catalog", tests, NULL, NULL);
}
