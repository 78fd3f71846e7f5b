/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Turns a command into a daemon. The fork comes first and the child does all
 * the work: threads and io_uring rings do not survive a fork, and the lock of
 * the store names the process that holds it. The parent only waits for a byte
 * from the child.
 */
#include "fs/mount/process.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"

/* Waits for the byte from the child, or for its end. */
static void G_GNUC_NORETURN wait_for_child(int fd, pid_t child)
{
	char byte;
	ssize_t n;
	int status;

	do
		n = read(fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		_exit(SNAP_MOUNT_OK);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : SNAP_MOUNT_SYSTEM);
}

int snap_process_fork(int *ret_tell, GError **error)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return snap_fail_errno(error, errno, "pipe");
	pid = fork();
	if (pid < 0)
		return snap_fail_errno(error, errno, "fork");
	if (pid > 0) {
		close(fds[1]);
		wait_for_child(fds[0], pid);
	}
	close(fds[0]);
	*ret_tell = fds[1];
	return 0;
}

void snap_process_detach(int tell, int errors, bool keep_stderr)
{
	int null = snap_open_named("/dev/null", O_RDWR, 0);

	/* Not earlier: if the mount point is one of systemd's automounts, the
	 * kernel lets only the process group that systemd started go there
	 * (autofs_oz_mode() in its fs/autofs), and all others wait until it is
	 * mounted. */
	setsid();
	for (int fd = 0; fd < (keep_stderr ? 2 : 3) && null >= 0; fd++)
		dup2(null, fd);
	snap_close_fd(&null);
	if (errors > 2)
		close(errors);
	if (write(tell, "", 1) < 0)
		errno = 0;
	close(tell);
}

/* Raises the limit of open files: every file that the kernel knows takes one.
 * Root may raise it up to the limit of the system. */
static void raise_limits(void)
{
	g_autofree char *text = NULL;
	struct rlimit limit;
	guint64 most;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	if (geteuid() == 0 && limit.rlim_max != RLIM_INFINITY &&
	    g_file_get_contents("/proc/sys/fs/nr_open", &text, NULL, NULL)) {
		most = g_ascii_strtoull(text, NULL, 10);
		if (most > limit.rlim_max) {
			struct rlimit more = { most, most };

			if (setrlimit(RLIMIT_NOFILE, &more) == 0)
				return;
		}
	}
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static rlim_t file_size_limit(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_FSIZE, &limit) < 0 ? RLIM_INFINITY
						   : limit.rlim_cur;
}

/* Blocks the signals that end the mount, in this thread and all later ones. A
 * thread of fs/fuse waits for them. */
static void block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

int snap_process_prepare(const struct snap_mount_opts *opts, int *ret_stderr,
			 GError **error)
{
	snap_autofd int fd = -1;

	if (access("/proc/self/fd", X_OK) < 0)
		return snap_fail_errno(error, errno, "/proc is not mounted");
	if (opts->log) {
		fd = snap_open_named(opts->log, O_WRONLY | O_CREAT | O_APPEND,
				     0640);
		if (fd < 0)
			return snap_fail_errno(error, -fd, "log file %s",
					       opts->log);
	}
	*ret_stderr = fcntl(2, F_DUPFD_CLOEXEC, 3);
	if (fd >= 0 && dup2(fd, 2) < 0)
		return snap_fail_errno(error, errno, "log file %s", opts->log);
	snap_log_open(opts->log		 ? snap_log_to_file
		      : opts->foreground ? snap_log_to_stderr
					 : snap_log_to_syslog,
		      opts->log_level);
#ifdef __GLIBC__
	/* One arena: with one per thread, the free memory that they keep
	 * exceeds the cache. */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 256 * 1024);
#endif
	raise_limits();
	if (!opts->read_only && file_size_limit() == 0)
		return snap_fail(error, EFBIG,
				 "the limit of file sizes (ulimit -f) is 0: "
				 "nothing can be written");
	block_signals();
	umask(0);
	return 0;
}

int snap_process_enter(const char *ns, GError **error)
{
	snap_autofd int fd = snap_open_named(ns, O_RDONLY, 0);
	int r = fd < 0 ? fd : 0;

	if (r == 0 && setns(fd, CLONE_NEWNS) < 0)
		r = -errno;
	return r < 0 ? snap_fail_errno(error, -r, "mount namespace %s", ns) : 0;
}

bool snap_process_from_mount(void)
{
	g_autofree char *path =
		g_strdup_printf("/proc/%d/comm", (int)getppid());
	g_autofree char *comm = NULL;

	if (!g_file_get_contents(path, &comm, NULL, NULL))
		return false;
	return !strcmp(g_strchomp(comm), "mount");
}
