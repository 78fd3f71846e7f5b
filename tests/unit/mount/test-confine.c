/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a process can do after it has given things up: all that a store needs,
 * and nothing else. Each test tries in a child, as there is no way back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/mount/confine.h"

/* A child that could not give something up says so by this exit code. */
#define LACKING 77

struct place {
	char *path; /* has the folders store, store/a, store/b and outside */
	int store_fd;
};

static void make(const struct place *p, const char *name, bool folder)
{
	g_autofree char *path = g_build_filename(p->path, name, NULL);

	if (folder)
		assert_int_equal(mkdir(path, 0700), 0);
	else
		assert_true(g_file_set_contents(path, "x", 1, NULL));
}

static int set_up(void **state)
{
	struct place *p = g_new0(struct place, 1);
	g_autofree char *store = NULL;

	p->path = g_dir_make_tmp("snapfs-confine-XXXXXX", NULL);
	make(p, "store", true);
	make(p, "store/a", true);
	make(p, "store/b", true);
	make(p, "store/a/file", false);
	make(p, "outside", true);
	make(p, "outside/file", false);
	store = g_build_filename(p->path, "store", NULL);
	p->store_fd = open(store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(p->store_fd >= 0);
	assert_int_equal(chdir(p->path), 0);
	*state = p;
	return 0;
}

static int tear_down(void **state)
{
	struct place *p = *state;
	g_autofree char *command = g_strdup_printf("rm -rf %s", p->path);

	close(p->store_fd);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(system(command), 0);
	g_free(p->path);
	g_free(p);
	return 0;
}

/* Runs `child` in a child process. It returns the number of the line where
 * something was not as it should be, or 0, or LACKING. */
static void run_child(const struct place *p, int (*child)(const struct place *))
{
	int pipe_fds[2], line = -1, status;
	pid_t pid;

	assert_int_equal(pipe(pipe_fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		line = child(p);
		_exit(write(pipe_fds[1], &line, sizeof(line)) != sizeof(line));
	}
	close(pipe_fds[1]);
	if (read(pipe_fds[0], &line, sizeof(line)) != sizeof(line))
		line = -1;
	close(pipe_fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	if (line == -LACKING)
		skip();
	assert_int_equal(line, 0);
}

/* For a child: what must be so. */
#define MUST(condition)                                                        \
	do {                                                                   \
		if (!(condition))                                              \
			return __LINE__;                                       \
	} while (0)

/* The same for a call that must fail in this way. */
#define MUST_FAIL(code, call) MUST((call) < 0 && errno == (code))

/* ---- Landlock ---- */

static int prepare(int r)
{
	return r == -ENOSYS || r == -EOPNOTSUPP ? -LACKING : r;
}

static int files_child(const struct place *p)
{
	int abi, r;

	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	r = prepare(snap_landlock_keep(p->store_fd, false, -1, &abi));
	if (r == -LACKING)
		return r;
	MUST(r == 0);
	MUST_FAIL(EACCES, open("outside/file", O_RDONLY));
	MUST_FAIL(EACCES, open("outside/file", O_WRONLY));
	MUST_FAIL(EACCES, open("outside/new", O_WRONLY | O_CREAT, 0600));
	MUST_FAIL(EACCES, open("outside", O_RDONLY | O_DIRECTORY));
	MUST_FAIL(EACCES, open("/etc/passwd", O_RDONLY));
	MUST_FAIL(EACCES, open("/proc/1/environ", O_RDONLY));
	MUST_FAIL(EACCES, unlink("outside/file"));
	MUST_FAIL(EACCES, mkdir("outside/new", 0700));
	MUST(rename("store/a/file", "outside/moved") < 0);
	MUST(link("outside/file", "store/a/linked") < 0);
	if (geteuid() == 0)
		MUST_FAIL(EPERM, mount("none", "outside", "tmpfs", 0, NULL));
	MUST_FAIL(EACCES, execl("/bin/true", "true", NULL));
	MUST(open("store/a/new", O_RDWR | O_CREAT | O_EXCL, 0600) >= 0);
	MUST(open("store/a", O_RDWR | O_TMPFILE, 0600) >= 0);
	MUST(open("/dev/null", O_RDWR) >= 0);
	MUST(open("/dev/urandom", O_RDONLY) >= 0);
	MUST(rename("store/a/new", "store/b/moved") == 0);
	MUST(link("store/a/file", "store/b/linked") == 0);
	MUST(truncate("store/b/moved", 4096) == 0);
	MUST(mkdir("store/b/folder", 0700) == 0 &&
	     rmdir("store/b/folder") == 0);
	MUST(symlink("x", "store/b/link") == 0 && unlink("store/b/link") == 0);
	MUST(mkfifo("store/b/fifo", 0600) == 0);
	return 0;
}

static void only_files_of_the_store_can_be_opened(void **state)
{
	run_child(*state, files_child);
}

static int read_only_child(const struct place *p)
{
	int abi, r;

	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	r = prepare(snap_landlock_keep(p->store_fd, true, -1, &abi));
	if (r == -LACKING)
		return r;
	MUST(r == 0);
	MUST(open("store/a/file", O_RDONLY) >= 0);
	MUST_FAIL(EACCES, open("store/a/file", O_WRONLY));
	MUST_FAIL(EACCES, open("store/a/new", O_WRONLY | O_CREAT, 0600));
	MUST_FAIL(EACCES, unlink("store/a/file"));
	return 0;
}

static void a_read_only_mount_cannot_write(void **state)
{
	run_child(*state, read_only_child);
}

static int disk_cache_child(const struct place *p)
{
	int abi, r, fd = open("outside", O_RDONLY | O_DIRECTORY);

	MUST(fd >= 0);
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	r = prepare(snap_landlock_keep(p->store_fd, true, fd, &abi));
	if (r == -LACKING)
		return r;
	MUST(r == 0);
	MUST_FAIL(EACCES, open("store/a/file", O_WRONLY));
	MUST(open("outside/new", O_RDWR | O_CREAT | O_EXCL, 0600) >= 0);
	MUST(truncate("outside/new", 4096) == 0);
	MUST(unlink("outside/new") == 0);
	return 0;
}

static void a_read_only_mount_writes_to_its_disk_cache(void **state)
{
	run_child(*state, disk_cache_child);
}

/* ---- seccomp ---- */

static gpointer add_one(gpointer data)
{
	return GINT_TO_POINTER(GPOINTER_TO_INT(data) + 1);
}

static int calls_child(const struct place *p)
{
	struct sockaddr_in address = { .sin_family = AF_INET };

	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	MUST(snap_seccomp_keep(false) == 0);
	MUST_FAIL(ENOSYS, execl("/bin/true", "true", NULL));
	MUST_FAIL(ENOSYS, fork());
	MUST_FAIL(ENOSYS, syscall(SYS_clone3, NULL, 0));
	MUST_FAIL(ENOSYS, socket(AF_INET, SOCK_STREAM, 0));
	MUST_FAIL(ENOSYS, socket(AF_NETLINK, SOCK_RAW, 0));
	MUST_FAIL(ENOSYS,
		  bind(0, (struct sockaddr *)&address, sizeof(address)));
	MUST_FAIL(ENOSYS, ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
	MUST_FAIL(ENOSYS, mount("none", "outside", "tmpfs", 0, NULL));
	MUST_FAIL(ENOSYS, unshare(CLONE_NEWUSER));
	MUST_FAIL(ENOSYS, chroot("store"));
	MUST_FAIL(ENOSYS, setuid(0));
	MUST_FAIL(ENOSYS, kill(getppid(), 0));
	MUST_FAIL(ENOSYS, prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
	MUST_FAIL(ENOSYS, syscall(SYS_bpf, 0, NULL, 0));
	MUST_FAIL(ENOSYS, syscall(SYS_userfaultfd, 0));
	MUST(mmap(NULL, 4096, PROT_READ | PROT_EXEC,
		  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
	MUST(kill(getpid(), 0) == 0);
	MUST(socket(AF_UNIX, SOCK_DGRAM, 0) >= 0);
	MUST(open("store/a/file", O_RDONLY) >= 0);
	MUST(g_thread_join(g_thread_new("t", add_one, GINT_TO_POINTER(1))) ==
	     GINT_TO_POINTER(2));
	return 0;
}

static void only_listed_system_calls_can_be_made(void **state)
{
	run_child(*state, calls_child);
}

/* ---- capabilities ---- */

static bool get_caps(struct __user_cap_data_struct *ret)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};

	return syscall(SYS_capget, &header, ret) == 0;
}

static int caps_child(const struct place *p)
{
	struct __user_cap_data_struct caps[2];
	uint32_t kept = 1u << CAP_CHOWN | 1u << CAP_SYS_PTRACE;

	if (geteuid() != 0)
		return -LACKING;
	MUST(snap_caps_keep(kept) == 0);
	MUST(get_caps(caps));
	MUST(caps[0].permitted == kept && caps[0].effective == kept);
	MUST(caps[1].permitted == 0 && caps[1].effective == 0);
	MUST_FAIL(EPERM, mount("none", "outside", "tmpfs", 0, NULL));
	MUST_FAIL(EPERM, chroot("store"));
	return 0;
}

static void capabilities_are_dropped_but_for_some(void **state)
{
	run_child(*state, caps_child);
}

/* ---- all together ---- */

static gpointer try_in_thread(gpointer data)
{
	bool closed = open("outside/file", O_RDONLY) < 0 &&
		      socket(AF_INET, SOCK_STREAM, 0) < 0;

	return GINT_TO_POINTER(closed);
}

static int all_child(const struct place *p)
{
	struct snap_confine_opts opts = { .store_fd = p->store_fd,
					  .cache_fd = -1 };

	snap_confine(&opts);
	MUST(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 || errno == ENOSYS);
	MUST_FAIL(ENOSYS, socket(AF_INET, SOCK_STREAM, 0));
	MUST(open("store/a/file", O_RDWR) >= 0);
	MUST(g_thread_join(g_thread_new("t", try_in_thread, NULL)) != NULL);
	return 0;
}

static void later_threads_are_confined_too(void **state)
{
	run_child(*state, all_child);
}

/* A kernel without Landlock says what this filter says. */
static int old_kernel_child(const struct place *p)
{
	struct snap_confine_opts opts = { .store_fd = p->store_fd,
					  .cache_fd = -1,
					  .no_seccomp = true };
	struct __user_cap_data_struct caps[2];
	int abi;

	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	MUST(snap_seccomp_keep(false) == 0);
	MUST(snap_landlock_keep(p->store_fd, false, -1, &abi) == -ENOSYS);
	snap_confine(&opts);
	MUST(open("outside/file", O_RDONLY) >= 0);
	MUST(get_caps(caps));
	MUST((caps[0].permitted & 1u << CAP_SYS_ADMIN) == 0);
	return 0;
}

static void what_the_kernel_lacks_stops_nothing(void **state)
{
	run_child(*state, old_kernel_child);
}

static int nothing_child(const struct place *p)
{
	struct snap_confine_opts opts = { .store_fd = p->store_fd,
					  .cache_fd = -1,
					  .keep_caps = true,
					  .keep_new_privs = true,
					  .no_landlock = true,
					  .no_seccomp = true };
	struct __user_cap_data_struct before[2], after[2];

	MUST(get_caps(before));
	snap_confine(&opts);
	MUST(get_caps(after) && memcmp(before, after, sizeof(after)) == 0);
	MUST(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
	MUST(open("outside/file", O_RDWR) >= 0);
	MUST(socket(AF_INET, SOCK_STREAM, 0) >= 0);
	execl("/bin/true", "true", NULL);
	return __LINE__;
}

static void each_part_can_be_turned_off(void **state)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(nothing_child(*state) & 255);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0); /* that of /bin/true */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			only_files_of_the_store_can_be_opened, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(a_read_only_mount_cannot_write,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_read_only_mount_writes_to_its_disk_cache, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(
			only_listed_system_calls_can_be_made, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(
			capabilities_are_dropped_but_for_some, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(later_threads_are_confined_too,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			what_the_kernel_lacks_stops_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(each_part_can_be_turned_off,
						set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
