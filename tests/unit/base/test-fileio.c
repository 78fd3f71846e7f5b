/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading, writing and replacing small files; holes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/fileio.h"

/* A folder of the test's own, and a descriptor of it. */
struct folder {
	char *path;
	int fd;
};

static int make_folder(void **state)
{
	struct folder *f = g_new0(struct folder, 1);

	f->path = g_dir_make_tmp("snapfs-fileio-XXXXXX", NULL);
	f->fd = open(f->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return f->fd < 0 ? -1 : 0;
}

static int remove_folder(void **state)
{
	struct folder *f = *state;
	g_autoptr(GDir) dir = g_dir_open(f->path, 0, NULL);
	const char *name;

	while ((name = g_dir_read_name(dir)) != NULL)
		if (unlinkat(f->fd, name, 0) < 0)
			unlinkat(f->fd, name, AT_REMOVEDIR);
	close(f->fd);
	g_rmdir(f->path);
	g_free(f->path);
	g_free(f);
	return 0;
}

static int make_file(const struct folder *f, const char *name, const void *data,
		     size_t size)
{
	int fd = openat(f->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
			0600);

	assert_true(fd >= 0);
	assert_int_equal(snap_pwrite_all(fd, data, size, 0), 0);
	return fd;
}

static guint count_names(const struct folder *f)
{
	g_autoptr(GDir) dir = g_dir_open(f->path, 0, NULL);
	guint n = 0;

	while (g_dir_read_name(dir))
		n++;
	return n;
}

static void reads_what_there_is_or_exactly(void **state)
{
	snap_autofd int fd = make_file(*state, "file", "0123456789", 10);
	char buf[16] = "";

	assert_int_equal(snap_pread_all(fd, buf, 4, 3), 4);
	assert_memory_equal(buf, "3456", 4);
	assert_int_equal(snap_pread_all(fd, buf, 16, 8), 2);
	assert_memory_equal(buf, "89", 2);
	assert_int_equal(snap_pread_all(fd, buf, 16, 10), 0);
	assert_int_equal(snap_pread_all(-1, buf, 16, 0), -EBADF);
	assert_int_equal(snap_pread_exact(fd, buf, 3, 7), 0);
	assert_memory_equal(buf, "789", 3);
	assert_int_equal(snap_pread_exact(fd, buf, 4, 7), -ENODATA);
	assert_int_equal(snap_pread_exact(-1, buf, 4, 7), -EBADF);
	assert_int_equal(snap_pread_exact(fd, buf, 0, 100), 0);
}

static void on_alarm(int number)
{
}

/* Writes `data` into a pipe while a timer interrupts it every millisecond. */
static int write_under_signals(int fd, const void *data, size_t size)
{
	struct sigaction act = { .sa_handler = on_alarm };
	struct itimerval often = { .it_interval = { 0, 1000 },
				   .it_value = { 0, 1000 } };

	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	return snap_write_all(fd, data, size);
}

static void writes_all_of_it_through_a_pipe_and_signals(void **state)
{
	static uint8_t data[1 << 20], got[sizeof(data)];
	size_t done = 0;
	int fds[2], status;
	ssize_t n;
	pid_t child;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + (i >> 8));
	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (child == 0) {
		close(fds[0]);
		_exit(write_under_signals(fds[1], data, sizeof(data)) ? 1 : 0);
	}
	close(fds[1]);
	/* The pipe is full by now: the writer waits, and is interrupted. */
	g_usleep(20000);
	while ((n = read(fds[0], got + done, sizeof(got) - done)) > 0)
		done += (size_t)n;
	close(fds[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(done, sizeof(data));
	assert_memory_equal(got, data, sizeof(data));
	assert_int_equal(snap_write_all(-1, data, 1), -EBADF);
}

static void a_full_disk_fails_a_write(void **state)
{
	snap_autofd int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(snap_pwrite_all(fd, "abc", 3, 0), -ENOSPC);
	assert_int_equal(snap_write_all(fd, "abc", 3), -ENOSPC);
	assert_int_equal(snap_write_all(fd, "abc", 0), 0);
}

static void reads_a_whole_file_up_to_a_size(void **state)
{
	struct folder *f = *state;
	snap_autofd int fd = make_file(f, "file", "hello", 5), proc_fd = -1;
	g_autofree char *text = NULL, *again = NULL, *proc = NULL;
	size_t size = 0;
	char *none = NULL;

	assert_int_equal(snap_read_file(f->fd, "file", 5, &text, &size), 0);
	assert_int_equal(size, 5);
	assert_string_equal(text, "hello");
	assert_int_equal(snap_read_fd(fd, 100, &again, NULL), 0);
	assert_string_equal(again, "hello");
	assert_int_equal(snap_read_file(f->fd, "file", 4, &none, &size),
			 -EFBIG);
	assert_int_equal(snap_read_file(f->fd, "other", 4, &none, &size),
			 -ENOENT);
	assert_null(none);
	assert_int_equal(size, 5);
	/* A file of /proc says that it has no bytes. */
	proc_fd = snap_open_named("/proc/self/stat", O_RDONLY, 0);
	assert_int_equal(snap_read_fd(proc_fd, 4096, &proc, &size), 0);
	assert_true(size > 0);
}

static void opens_regular_files_alone(void **state)
{
	struct folder *f = *state;
	snap_autofd int file = make_file(f, "file", "hello", 5), fd = -1;
	struct stat st;

	assert_int_equal(symlinkat("file", f->fd, "link"), 0);
	assert_int_equal(mkdirat(f->fd, "folder", 0700), 0);
	assert_int_equal(mkfifoat(f->fd, "fifo", 0600), 0);
	fd = snap_open_regular(f->fd, "file", &st);
	assert_true(fd >= 0);
	assert_int_equal(st.st_size, 5);
	assert_int_equal(snap_open_regular(f->fd, "link", NULL), -EINVAL);
	assert_int_equal(snap_open_regular(f->fd, "folder", NULL), -EINVAL);
	assert_int_equal(snap_open_regular(f->fd, "fifo", NULL), -EINVAL);
	assert_int_equal(snap_open_regular(f->fd, "other", NULL), -ENOENT);
}

static void replaces_a_file_with_owner_and_mode_of_another(void **state)
{
	struct folder *f = *state;
	snap_autofd int old = make_file(f, "file", "old", 3);
	snap_autofd int left = make_file(f, "tmp", "left by a crash", 15);
	snap_autofd int like = make_file(f, "like", "", 0);
	struct snap_replace how = { f->fd, "file", f->fd, "tmp",
				    like,  0666,   true };
	g_autofree char *text = NULL;
	struct stat st;
	char buf[3];

	assert_int_equal(fchmod(like, 0750), 0);
	if (getuid() == 0)
		assert_int_equal(fchown(like, 12, 34), 0);
	assert_int_equal(snap_replace_file(&how, "new bytes", 9), 0);
	assert_int_equal(snap_read_file(f->fd, "file", 100, &text, NULL), 0);
	assert_string_equal(text, "new bytes");
	assert_int_equal(fstatat(f->fd, "file", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	if (getuid() == 0) {
		assert_int_equal(st.st_uid, 12);
		assert_int_equal(st.st_gid, 34);
	}
	assert_int_equal(count_names(f), 2);
	/* A reader of the old one keeps it. */
	assert_int_equal(snap_pread_exact(old, buf, 3, 0), 0);
	assert_memory_equal(buf, "old", 3);
}

/* The linker puts this in the place of fsync(2) (--wrap). */
static guint syncs_left = G_MAXUINT;
static bool exchange_fails;
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_renameat2(int from, const char *old, int to, const char *name,
		     unsigned flags);
int __wrap_renameat2(int from, const char *old, int to, const char *name,
		     unsigned flags);

int __wrap_fsync(int fd)
{
	if (syncs_left) {
		syncs_left--;
		return __real_fsync(fd);
	}
	errno = EIO;
	return -1;
}

int __wrap_renameat2(int from, const char *old, int to, const char *name,
		     unsigned flags)
{
	if (!exchange_fails)
		return __real_renameat2(from, old, to, name, flags);
	errno = EINVAL;
	return -1;
}

static void put(struct folder *f, const char *name, const char *text)
{
	close(make_file(f, name, text, strlen(text)));
}

/* Renames "new" to "name" while the folder cannot be made durable. */
static int rename_unsynced(struct folder *f)
{
	snap_autofd int fd = snap_open_folder(f->fd);
	int r;

	assert_true(fd >= 0);
	syncs_left = 0;
	r = snap_rename_durably(f->fd, "new", fd, "name");
	syncs_left = G_MAXUINT;
	return r;
}

static void assert_holds(struct folder *f, const char *name, const char *want)
{
	g_autofree char *text = NULL;

	assert_int_equal(snap_read_file(f->fd, name, 100, &text, NULL), 0);
	assert_string_equal(text, want);
}

static void a_rename_that_is_not_durable_is_taken_back(void **state)
{
	struct folder *f = *state;

	put(f, "new", "new bytes");
	assert_int_equal(rename_unsynced(f), -EIO);
	assert_int_equal(faccessat(f->fd, "name", F_OK, 0), -1);
	assert_holds(f, "new", "new bytes");
	put(f, "name", "old bytes");
	assert_int_equal(rename_unsynced(f), -EIO);
	assert_holds(f, "name", "old bytes");
	assert_holds(f, "new", "new bytes");
	exchange_fails = true;
	assert_int_equal(rename_unsynced(f), -EUCLEAN);
	exchange_fails = false;
	assert_holds(f, "name", "new bytes");
	unlinkat(f->fd, "name", 0);
}

static void a_file_replaced_in_vain_is_the_old_one(void **state)
{
	struct folder *f = *state;
	struct snap_replace how = {
		f->fd, "name", f->fd, "tmp", -1, 0600, true
	};

	put(f, "name", "old bytes");
	syncs_left = 1; /* the file's own */
	assert_int_equal(snap_replace_file(&how, "new", 3), -EIO);
	syncs_left = G_MAXUINT;
	assert_holds(f, "name", "old bytes");
	assert_int_equal(faccessat(f->fd, "tmp", F_OK, 0), -1);
	unlinkat(f->fd, "name", 0);
}

static void a_file_that_cannot_be_replaced_stays(void **state)
{
	struct folder *f = *state;
	struct snap_replace how = { f->fd, "folder", f->fd, "tmp",
				    -1,	   0600,     false };

	assert_int_equal(mkdirat(f->fd, "folder", 0700), 0);
	assert_int_equal(snap_replace_file(&how, "new", 3), -EISDIR);
	assert_int_equal(count_names(f), 1);
	how.dirfd = -1;
	assert_true(snap_replace_file(&how, "new", 3) < 0);
	assert_int_equal(count_names(f), 1);
}

static void finds_the_next_run_of_data(void **state)
{
	struct folder *f = *state;
	snap_autofd int fd = make_file(f, "file", "", 0);
	const uint64_t mib = 1 << 20;
	static uint8_t data[4096] = { 1 };
	uint64_t from, to;

	assert_int_equal(ftruncate(fd, (off_t)(8 * mib)), 0);
	assert_int_equal(snap_pwrite_all(fd, data, sizeof(data), 2 * mib), 0);
	assert_int_equal(snap_pwrite_all(fd, data, sizeof(data), 5 * mib), 0);
	if (lseek(fd, 0, SEEK_DATA) == 0)
		skip(); /* this file system keeps no holes */
	snap_next_data(fd, 0, 8 * mib, &from, &to);
	assert_int_equal(from, 2 * mib);
	assert_in_range(to, 2 * mib + sizeof(data), 3 * mib);
	snap_next_data(fd, from + 1, from + 3, &from, &to);
	assert_int_equal(from, 2 * mib + 1);
	assert_int_equal(to, 2 * mib + 3);
	/* The next data begins after the range that was asked for. */
	snap_next_data(fd, 3 * mib, 4 * mib, &from, &to);
	assert_int_equal(from, 4 * mib);
	assert_int_equal(to, 4 * mib);
	/* No data follows. */
	snap_next_data(fd, 6 * mib, 8 * mib, &from, &to);
	assert_int_equal(from, 8 * mib);
	assert_int_equal(to, 8 * mib);
}

static void all_is_data_where_holes_are_unknown(void **state)
{
	uint64_t from, to;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	snap_next_data(fds[0], 5, 10, &from, &to);
	assert_int_equal(from, 5);
	assert_int_equal(to, 10);
	close(fds[0]);
	close(fds[1]);
}

#define IN_A_FOLDER(test)                                                      \
	cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_A_FOLDER(reads_what_there_is_or_exactly),
		cmocka_unit_test(writes_all_of_it_through_a_pipe_and_signals),
		cmocka_unit_test(a_full_disk_fails_a_write),
		IN_A_FOLDER(reads_a_whole_file_up_to_a_size),
		IN_A_FOLDER(opens_regular_files_alone),
		IN_A_FOLDER(replaces_a_file_with_owner_and_mode_of_another),
		IN_A_FOLDER(a_file_that_cannot_be_replaced_stays),
		IN_A_FOLDER(a_rename_that_is_not_durable_is_taken_back),
		IN_A_FOLDER(a_file_replaced_in_vain_is_the_old_one),
		IN_A_FOLDER(finds_the_next_run_of_data),
		cmocka_unit_test(all_is_data_where_holes_are_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
