/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Privileges are separated: the process that parses what guests and users send
 * cannot look into other processes, nor mount. This one can, and does nothing
 * but what stands in `enum what`: a hostile mount process can read from it
 * which addresses a process uses, and which of them are in memory, but no byte
 * of it.
 *
 * A descriptor is all that the other process needs: the kernel checks who may
 * look into a process when maps and pagemap are opened (proc_mem_open() in its
 * fs/proc/base.c), not when they are read.
 *
 * Requests and answers are messages over a pair of sockets.
 *
 * The mount's main thread holds a lock as long as it lives. When it was killed,
 * others of its threads may stay, and wait in the kernel: for the store, or for
 * a lock of a folder whose holder waits for an answer of the mount. Their files
 * stay open then, the kernel's connection to the mount among them, and whoever
 * uses the mount waits for ever. So this process ends the connection.
 */
#include "fs/mount/outside.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/start.h"
#include "fs/mount/confine.h"

/* How long the mount's process waits for an answer. */
#define ANSWER_SECONDS 10

/* The descriptor of the process outside, the only one but for /dev/null. */
#define SOCKET (STDERR_FILENO + 1)

enum what {
	OPEN_STATUS,
	OPEN_MAPS,
	OPEN_PAGEMAP,
	OPEN_STAT,
	MOUNTED,
	UNMOUNT,
};

static const char *const opened[] = { "status", "maps", "pagemap", "stat" };

struct request {
	enum what what;
	pid_t pid;
};

/* An answer is an int, 0 or -errno; and a descriptor, for OPEN. */
union control {
	struct cmsghdr header;
	char room[CMSG_SPACE(sizeof(int))];
};

/* What both processes have. */
static struct shared {
	pthread_mutex_t alive; /* the main thread of the mount holds it */
	gint unmount;	       /* when it has ended; atomic */
} * shared;

/* ---- the process outside ---- */

static gint mounted = -1; /* device_of() the mount; -1: not yet; atomic */

/* The minor number of the file system at `point`, without asking its program;
 * -1 for one that has a major number, as FUSE has not. Until *ret_fd is closed,
 * the mount is busy. */
static gint device_of(const char *point, int *ret_fd)
{
	struct statx st;

	*ret_fd = snap_open_named(point, O_PATH | O_NOFOLLOW, 0);
	if (*ret_fd < 0 ||
	    statx(*ret_fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &st) < 0)
		return -1;
	return st.stx_dev_major ? -1 : (gint)st.stx_dev_minor;
}

/* Ends the connection of the mount, if it is still there: all that waits for an
 * answer gets an error. */
static void end_connection(const char *point)
{
	snap_autofd int point_fd = -1, fd = -1;
	gint device = device_of(point, &point_fd);
	char path[64];

	if (device < 0 || device != g_atomic_int_get(&mounted))
		return;
	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%d/abort",
		 device);
	fd = snap_open_named(path, O_WRONLY, 0);
	if (fd >= 0 && write(fd, "1", 1) == 1)
		return;
	/* That is not mounted everywhere. This ends the connection first
	 * (do_umount() in fs/namespace.c of Linux), and then does not unmount,
	 * for the mount is busy. */
	(void)umount2(point, MNT_FORCE | UMOUNT_NOFOLLOW);
}

static int open_proc(const struct request *request)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)request->pid,
		 opened[request->what]);
	return snap_open_named(path, O_RDONLY, 0);
}

/* As an ordinary user unmounts. */
static int run_fusermount(const char *point)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		snap_start_undo();
		execlp("fusermount3", "fusermount3", "-u", "-q", "-z", "--",
		       point, NULL);
		_exit(1);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

/* Nothing but a mount without a program is unmounted: what else lies there was
 * put there by somebody else. stat(2) might answer from a cache; and statfs(2),
 * which looks into an automount, would mount again what was unmounted. */
static int unmount(const char *point)
{
	snap_autofd int fd = snap_open_named(point, O_PATH, 0);
	struct statfs fs;

	/* The next mount may have the same number. */
	g_atomic_int_set(&mounted, -1);
	if (fd < 0 || fstatfs(fd, &fs) == 0 || errno != ENOTCONN)
		return 0;
	snap_close_fd(&fd);
	if (umount2(point, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		return 0;
	return errno == EPERM ? run_fusermount(point) : -errno;
}

static int answer(int sock, int r, int fd)
{
	struct iovec bytes = { .iov_base = &r, .iov_len = sizeof(r) };
	struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1 };
	union control control = { 0 };

	if (fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	}
	return sendmsg(sock, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Told once, before the mount's process has read a byte of a user's: else that
 * process could choose later whose connection is ended. */
static int note_mounted(const char *point)
{
	static bool told;
	snap_autofd int fd = -1;

	if (told)
		return -EALREADY;
	told = true;
	g_atomic_int_set(&mounted, device_of(point, &fd));
	return 0;
}

/* Serves until the mount's process has closed its socket. */
static void serve(int sock, const char *point)
{
	struct request request;

	while (recv(sock, &request, sizeof(request), 0) == sizeof(request)) {
		snap_autofd int fd = -1;
		int r = -EINVAL;

		if (request.what == MOUNTED)
			r = note_mounted(point);
		else if (request.what == UNMOUNT)
			r = unmount(point);
		else if (request.what < G_N_ELEMENTS(opened))
			r = fd = open_proc(&request);
		if (answer(sock, MIN(r, 0), fd) < 0)
			return;
	}
}

static gpointer serve_thread(gpointer point)
{
	serve(SOCKET, point);
	return NULL;
}

/* Holds nothing of the mount's process: neither its files, with the lock of the
 * store, nor its terminal, nor its working folder. */
static void G_GNUC_NORETURN run_outside(int sock, const char *point)
{
	int null = snap_open_named("/dev/null", O_RDWR, 0);
	GThread *thread;

	for (int fd = 0; fd <= STDERR_FILENO && null >= 0; fd++)
		dup2(null, fd);
	if (dup2(sock, SOCKET) < 0 || fcntl(SOCKET, F_SETFD, FD_CLOEXEC) < 0 ||
	    chdir("/") < 0)
		_exit(1);
	/* Before Linux 5.9 one by one: few are open yet. */
	if (close_range(SOCKET + 1, ~0u, 0) < 0)
		for (int fd = SOCKET + 1; fd < 1024; fd++)
			close(fd);
	setsid();
	prctl(PR_SET_NAME, "snapfs-outside");
	if (geteuid() == 0)
		(void)snap_caps_keep((uint64_t)1 << CAP_SYS_ADMIN |
				     (uint64_t)1 << CAP_SYS_PTRACE |
				     (uint64_t)1 << CAP_DAC_READ_SEARCH);
	thread = g_thread_try_new("outside", serve_thread, (gpointer)point,
				  NULL);
	/* It is never released, but the end of its holder is told. */
	if (!thread || pthread_mutex_lock(&shared->alive) != EOWNERDEAD)
		_exit(1);
	end_connection(point);
	if (g_atomic_int_get(&shared->unmount))
		unmount(point);
	_exit(0);
}

/* ---- the mount's process ---- */

static int outside = -1; /* the socket; stays open until the process ends */
static GMutex lock;	 /* of requests: one at a time, with its answer */

/* Makes what is shared, and takes the lock for this thread. */
static int share(void)
{
	pthread_mutexattr_t attr;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return -errno;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&shared->alive, &attr);
	pthread_mutexattr_destroy(&attr);
	return -pthread_mutex_lock(&shared->alive);
}

int snap_outside_start(const char *point, GError **error)
{
	struct timeval wait = { .tv_sec = ANSWER_SECONDS };
	int pair[2];
	pid_t pid;

	if (!shared && share() < 0)
		return snap_fail_errno(error, errno, "memory to share");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return snap_fail_errno(error, errno, "socketpair");
	pid = fork();
	if (pid == 0)
		run_outside(pair[1], point);
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return snap_fail_errno(error, errno, "fork");
	}
	setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	outside = pair[0];
	return 0;
}

/* Receives an answer: a descriptor, 0 or -errno. */
static int receive(void)
{
	int r = 0, fd = 0;
	struct iovec bytes = { .iov_base = &r, .iov_len = sizeof(r) };
	union control control = { 0 };
	struct msghdr message = { .msg_iov = &bytes,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *header;

	if (recvmsg(outside, &message, MSG_CMSG_CLOEXEC) != sizeof(r))
		return -EPIPE;
	/* No number was free for the descriptor. */
	if (message.msg_flags & MSG_CTRUNC)
		return r < 0 ? r : -EMFILE;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return r < 0 ? r : fd;
}

static int ask(enum what what, pid_t pid)
{
	struct request request = { what, pid };
	SNAP_LOCKED(&lock);
	int r;

	if (outside < 0)
		return -EPIPE;
	r = send(outside, &request, sizeof(request), MSG_NOSIGNAL) < 0
		    ? -EPIPE
		    : receive();
	/* A late answer must not be taken for that of the next request. */
	if (r == -EPIPE)
		close(snap_steal_fd(&outside));
	return r;
}

int snap_outside_open_proc(pid_t pid, const char *name)
{
	int fd = -EINVAL;

	for (guint i = 0; i < G_N_ELEMENTS(opened); i++)
		if (!strcmp(name, opened[i]))
			fd = ask((enum what)i, pid);
	/* The answer 0 comes without a descriptor: no file is open by it. */
	return fd ? fd : -EPROTO;
}

void snap_outside_mounted(void)
{
	(void)ask(MOUNTED, 0);
}

void snap_outside_unmount_later(void)
{
	g_atomic_int_set(&shared->unmount, 1);
}

int snap_outside_unmount(void)
{
	return ask(UNMOUNT, 0);
}
