/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening below a folder, with openat2(2) and name by name; owner and mode by
 * descriptor; making what can be given away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/beneath-internal.h"
#include "format/base/beneath.h"
#include "format/base/cleanup.h"

/* A folder of the test's own, and a descriptor of it. */
struct folder {
	char *path;
	int fd;
};

static int make_folder(void **state)
{
	struct folder *f = g_new0(struct folder, 1);

	f->path = g_dir_make_tmp("snapfs-beneath-XXXXXX", NULL);
	f->fd = open(f->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return f->fd < 0 ? -1 : 0;
}

static void remove_all(int dirfd, const char *name)
{
	g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", dirfd);
	g_autofree char *whole = g_build_filename(path, name, NULL);
	g_autoptr(GDir) dir = g_dir_open(whole, 0, NULL);
	snap_autofd int fd = openat(dirfd, name, O_PATH | O_DIRECTORY);
	const char *inner;

	while (dir && (inner = g_dir_read_name(dir)) != NULL)
		if (unlinkat(fd, inner, 0) < 0 &&
		    unlinkat(fd, inner, AT_REMOVEDIR) < 0)
			remove_all(fd, inner);
	unlinkat(dirfd, name, AT_REMOVEDIR);
}

static int remove_folder(void **state)
{
	struct folder *f = *state;

	snap_open_below_try_openat2(true);
	remove_all(AT_FDCWD, f->path);
	remove_all(f->fd, ".");
	g_rmdir(f->path);
	close(f->fd);
	g_free(f->path);
	g_free(f);
	return 0;
}

static int make_file(int dirfd, const char *name)
{
	return openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
}

static bool is_same(int fd, int dirfd, const char *name)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 &&
	       fstatat(dirfd, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static void check_opens(int dirfd, const char *path, int flags)
{
	snap_autofd int fd = snap_open_below(dirfd, path, flags, 0600);

	assert_true(fd >= 0);
	assert_true(is_same(fd, dirfd, path));
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

/* ---- opening ---- */

static void check_names(struct folder *f)
{
	check_opens(f->fd, ".", O_RDONLY | O_DIRECTORY);
	check_opens(f->fd, "a", O_PATH);
	check_opens(f->fd, "a/b/file", O_RDWR);
	check_opens(f->fd, "a//b/", O_RDONLY | O_DIRECTORY);
	check_opens(f->fd, "a/./b/link", O_PATH);
	assert_int_equal(snap_open_below(f->fd, "", O_PATH, 0), -EINVAL);
	assert_int_equal(snap_open_below(f->fd, "/", O_PATH, 0), -EINVAL);
	assert_int_equal(snap_open_below(f->fd, "..", O_PATH, 0), -EINVAL);
	assert_int_equal(snap_open_below(f->fd, "a/../a", O_PATH, 0), -EINVAL);
	assert_int_equal(snap_open_below(f->fd, "a/none", O_PATH, 0), -ENOENT);
	assert_int_equal(snap_open_below(f->fd, "a/b/file",
					 O_RDONLY | O_CREAT | O_EXCL, 0600),
			 -EEXIST);
}

/* No link is followed: not the last, not one on the way, not one of /proc. */
static void check_links(struct folder *f)
{
	snap_autofd int proc = open("/proc/self", O_PATH | O_DIRECTORY);
	int r;

	assert_int_equal(snap_open_below(f->fd, "a/b/link", O_RDONLY, 0),
			 -ELOOP);
	assert_int_equal(
		snap_open_below(f->fd, "a/b/dangling", O_WRONLY | O_CREAT, 0),
		-ELOOP);
	assert_false(is_same(f->fd, f->fd, "a/b/new"));
	r = snap_open_below(f->fd, "way/b/file", O_RDONLY, 0);
	assert_true(r == -ELOOP || r == -ENOTDIR);
	r = snap_open_below(proc, "cwd/.", O_PATH, 0);
	assert_true(r == -ELOOP || r == -ENOTDIR);
}

/* Nothing is waited for. */
static void check_fifo(struct folder *f)
{
	snap_autofd int fd = -1;

	assert_int_equal(
		snap_open_below(f->fd, "a/fifo", O_WRONLY | O_CREAT, 0600),
		-ENXIO);
	fd = snap_open_below(f->fd, "a/fifo", O_RDONLY, 0);
	assert_true(fd >= 0);
	assert_int_equal(snap_open_again(fd, O_RDONLY), -EINVAL);
}

static void check_both(struct folder *f)
{
	snap_autofd int a = -1, b = -1, file = -1;

	assert_int_equal(mkdirat(f->fd, "a", 0700), 0);
	a = openat(f->fd, "a", O_PATH | O_DIRECTORY);
	assert_int_equal(mkdirat(a, "b", 0700), 0);
	b = openat(a, "b", O_PATH | O_DIRECTORY);
	file = make_file(b, "file");
	assert_int_equal(symlinkat("file", b, "link"), 0);
	assert_int_equal(symlinkat("new", b, "dangling"), 0);
	assert_int_equal(symlinkat("a", f->fd, "way"), 0);
	assert_int_equal(mkfifoat(a, "fifo", 0600), 0);
	check_names(f);
	check_links(f);
	check_fifo(f);
}

static void opens_below_a_folder_with_openat2(void **state)
{
	check_both(*state);
}

static void opens_below_a_folder_name_by_name(void **state)
{
	snap_open_below_try_openat2(false);
	check_both(*state);
}

static void
opens_the_file_of_a_descriptor_whatever_its_name_is_now(void **state)
{
	struct folder *f = *state;
	snap_autofd int file = make_file(f->fd, "file"), other = -1, fd = -1;

	assert_int_equal(renameat(f->fd, "file", f->fd, "moved"), 0);
	other = make_file(f->fd, "file");
	fd = snap_open_again(file, O_PATH);
	assert_true(is_same(fd, f->fd, "moved"));
}

/* ---- owner and mode ---- */

static void changes_the_file_of_a_descriptor_and_no_link(void **state)
{
	struct folder *f = *state;
	snap_autofd int file = make_file(f->fd, "file"), path = -1, link = -1;
	struct stat st;

	assert_int_equal(symlinkat("file", f->fd, "link"), 0);
	path = snap_open_below(f->fd, "file", O_PATH, 0);
	link = snap_open_below(f->fd, "link", O_PATH, 0);
	assert_int_equal(snap_set_mode(file, 0640), 0);
	assert_int_equal(fstat(file, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(snap_set_mode(path, 0604), 0);
	assert_int_equal(snap_set_mode(link, 0777), -EOPNOTSUPP);
	assert_int_equal(fstat(file, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0604);
	if (geteuid() != 0)
		skip();
	assert_int_equal(snap_set_owner(path, 12, (gid_t)-1), 0);
	assert_int_equal(snap_set_owner(link, 34, 56), 0);
	assert_int_equal(fstat(file, &st), 0);
	assert_int_equal(st.st_uid, 12);
	assert_int_equal(st.st_gid, getegid());
}

/* ---- making ---- */

static void check_made(int dirfd, mode_t mode, const char *target)
{
	struct snap_new what = {
		.mode = mode, .target = target, .uid = 12, .gid = 34
	};
	snap_autofd int fd = snap_make_below(dirfd, "new", &what);
	struct stat st;

	assert_true(fd >= 0);
	assert_true(is_same(fd, dirfd, "new"));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & S_IFMT, mode & S_IFMT);
	if (!S_ISLNK(mode))
		assert_int_equal(st.st_mode & 07777, mode & 07777);
	assert_int_equal(st.st_uid, 12);
	assert_int_equal(st.st_gid, 34);
	assert_int_equal(snap_make_below(dirfd, "new", &what), -EEXIST);
	unlinkat(dirfd, "new", S_ISDIR(mode) ? AT_REMOVEDIR : 0);
}

static void makes_each_kind_with_its_owner_and_mode(void **state)
{
	struct folder *f = *state;
	struct snap_new plain = { S_IFDIR | 0750, 0, NULL, (uid_t)-1,
				  (gid_t)-1 };
	snap_autofd int fd = snap_make_below(f->fd, "plain", &plain);
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0750);
	assert_int_equal(st.st_uid, geteuid());
	if (geteuid() != 0)
		skip();
	check_made(f->fd, S_IFDIR | 0751, NULL);
	check_made(f->fd, S_IFREG | 04755, NULL);
	check_made(f->fd, S_IFIFO | 0640, NULL);
	check_made(f->fd, S_IFSOCK | 0600, NULL);
	check_made(f->fd, S_IFLNK, "some/where");
}

static void a_folder_keeps_the_bit_that_hands_the_group_on(void **state)
{
	struct folder *f = *state;
	struct snap_new what = { S_IFDIR | 0700, 0, NULL, 12, 34 };
	snap_autofd int fd = -1;
	struct stat st;

	if (geteuid() != 0)
		skip();
	assert_int_equal(g_chmod(f->path, 02700), 0);
	fd = snap_make_below(f->fd, "inner", &what);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 02700);
}

/* What another user does between two calls of the kernel: after mkdirat(2),
 * the new name stands for the folder that had this one. */
static const char *exchanged;

int __real_mkdirat(int dirfd, const char *name, mode_t mode);
int __wrap_mkdirat(int dirfd, const char *name, mode_t mode);
int __wrap_mkdirat(int dirfd, const char *name, mode_t mode)
{
	int r = __real_mkdirat(dirfd, name, mode);

	if (r == 0 && exchanged)
		renameat2(dirfd, exchanged, dirfd, name, RENAME_EXCHANGE);
	return r;
}

static void check_exchange(struct folder *f, const char *for_what, int expected)
{
	struct snap_new what = { S_IFDIR | 0755, 0, NULL, 12, 34 };
	int fd;

	exchanged = for_what;
	fd = snap_make_below(f->fd, "new", &what);
	exchanged = NULL;
	assert_int_equal(fd < 0 ? fd : 0, expected);
	snap_close_fd(&fd);
}

static void gives_away_nothing_that_another_user_puts_in_its_place(void **state)
{
	struct folder *f = *state;
	snap_autofd int kept = -1;
	struct stat st;

	if (geteuid() != 0)
		skip();
	assert_int_equal(mkdirat(f->fd, "kept", 0700), 0);
	kept = openat(f->fd, "kept", O_PATH);
	assert_int_equal(symlinkat("kept", f->fd, "link"), 0);
	check_exchange(f, "kept", -ESTALE);
	assert_true(is_same(kept, f->fd, "new"));
	assert_int_equal(renameat(f->fd, "new", f->fd, "old"), 0);
	check_exchange(f, "link", -ESTALE);
	assert_int_equal(fstat(kept, &st), 0);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

static void what_was_exchanged_for_another_new_one_is_as_good(void **state)
{
	struct folder *f = *state;
	struct stat st;

	if (geteuid() != 0)
		skip();
	assert_int_equal(mkdirat(f->fd, "other", 01000), 0);
	check_exchange(f, "other", 0);
	assert_int_equal(fstatat(f->fd, "new", &st, 0), 0);
	assert_int_equal(st.st_uid, 12);
	assert_int_equal(st.st_mode & 07777, 0755);
}

#define IN_A_FOLDER(test)                                                      \
	cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_A_FOLDER(opens_below_a_folder_with_openat2),
		IN_A_FOLDER(opens_below_a_folder_name_by_name),
		IN_A_FOLDER(
			opens_the_file_of_a_descriptor_whatever_its_name_is_now),
		IN_A_FOLDER(changes_the_file_of_a_descriptor_and_no_link),
		IN_A_FOLDER(makes_each_kind_with_its_owner_and_mode),
		IN_A_FOLDER(a_folder_keeps_the_bit_that_hands_the_group_on),
		IN_A_FOLDER(
			gives_away_nothing_that_another_user_puts_in_its_place),
		IN_A_FOLDER(what_was_exchanged_for_another_new_one_is_as_good),
	};

	return cmocka_run_group_tests_name("beneath", tests, NULL, NULL);
}
