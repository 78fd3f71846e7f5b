/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The system calls that a mount makes, once mounted: its own, and those of
 * glibc, GLib, libfuse and liburing.
 *
 * Any other fails with ENOSYS, as on a kernel that does not have it: libraries
 * know what to do then (glibc starts threads by clone where there is no
 * clone3), and a mount that saves a guest does not die of a call that a newer
 * library makes.
 *
 * Opcodes of io_uring are no system calls, and are not checked. Landlock and
 * capabilities hold for them.
 */
#include "fs/mount/confine.h"

#include <errno.h>
#include <glib.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* By name: libseccomp leaves out what this architecture, or its version, does
 * not know. */
static const char *const allowed[] = {
	/* files and names */
	"access", "chmod", "chown", "close", "close_range", "copy_file_range",
	"creat", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64",
	"fadvise64_64", "fallocate", "fchdir", "fchmod", "fchmodat",
	"fchmodat2", "fchown", "fchownat", "fcntl", "fcntl64", "fdatasync",
	"fgetxattr", "flistxattr", "flock", "fremovexattr", "fsetxattr",
	"fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync",
	"ftruncate", "ftruncate64", "getcwd", "getdents", "getdents64",
	"getxattr", "lchown", "lgetxattr", "link", "linkat", "listxattr",
	"llistxattr", "lremovexattr", "lseek", "_llseek", "lsetxattr", "lstat",
	"lstat64", "mkdir", "mkdirat", "mknod", "mknodat", "newfstatat", "open",
	"openat", "openat2", "pread64", "preadv", "preadv2", "pwrite64",
	"pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat",
	"readv", "removexattr", "rename", "renameat", "renameat2", "rmdir",
	"sendfile", "sendfile64", "setxattr", "splice", "stat", "stat64",
	"statfs", "statfs64", "statx", "symlink", "symlinkat", "sync",
	"sync_file_range", "sync_file_range2", "syncfs", "truncate",
	"truncate64", "umask", "unlink", "unlinkat", "utimensat",
	"utimensat_time64", "vmsplice", "write", "writev",
	/* waiting */
	"epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2",
	"epoll_wait", "eventfd2", "pipe", "pipe2", "poll", "ppoll",
	"ppoll_time64", "pselect6", "pselect6_time64", "select", "signalfd4",
	/* memory */
	"brk", "madvise", "membarrier", "mincore", "mlock", "mlock2", "mremap",
	"msync", "munlock", "munmap",
	/* threads and signals */
	"exit", "exit_group", "futex", "futex_time64", "futex_waitv",
	"get_robust_list", "getcpu", "getpid", "getppid", "getpriority",
	"gettid", "restart_syscall", "rseq", "rt_sigaction", "rt_sigpending",
	"rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
	"rt_sigtimedwait_time64", "sched_get_priority_max",
	"sched_get_priority_min", "sched_getaffinity", "sched_getattr",
	"sched_getparam", "sched_getscheduler", "sched_setaffinity",
	"sched_setattr", "sched_setscheduler", "sched_yield", "set_robust_list",
	"set_tid_address", "setpriority", "setsid", "sigaltstack", "sigreturn",
	"tgkill",
	/* the process and the system */
	"capget", "capset", "clock_getres", "clock_getres_time64",
	"clock_gettime", "clock_gettime64", "clock_nanosleep",
	"clock_nanosleep_time64", "getegid", "geteuid", "getgid", "getgroups",
	"getrandom", "getrlimit", "getrusage", "gettimeofday", "getuid",
	"nanosleep", "prlimit64", "sysinfo", "time", "times", "ugetrlimit",
	"uname",
	/* io_uring */
	"io_uring_enter", "io_uring_register", "io_uring_setup",
	/* the log, and the process outside */
	"connect", "getsockopt", "recvfrom", "recvmsg", "sendmsg", "sendto",
	"setsockopt", "shutdown"
};

/* The argument of clone(2) that has its flags. */
#ifdef __s390x__
#define CLONE_FLAGS 1
#else
#define CLONE_FLAGS 0
#endif

/* Calls that are allowed with some arguments: `mask` of argument `index` is
 * `value`. */
struct partly {
	const char *name;
	unsigned index;
	uint64_t mask, value;
};

static int allow(scmp_filter_ctx filter, const char *name, unsigned n,
		 const struct scmp_arg_cmp *compared)
{
	int number = seccomp_syscall_resolve_name(name), r;

	if (number == __NR_SCMP_ERROR)
		return 0;
	r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, n, compared);
	/* -EDOM: not on this architecture. -EEXIST: another name for a call
	 * that is in the list. */
	return r == -EDOM || r == -EEXIST ? 0 : r;
}

static int allow_all(scmp_filter_ctx filter)
{
	const struct partly partly[] = {
		/* threads, no process */
		{ "clone", CLONE_FLAGS, CLONE_THREAD, CLONE_THREAD },
		{ "kill", 0, UINT32_MAX, (uint64_t)getpid() },
		{ "mmap", 2, PROT_EXEC, 0 },
		{ "mmap2", 2, PROT_EXEC, 0 },
		{ "mprotect", 2, PROT_EXEC, 0 },
		{ "prctl", 0, UINT32_MAX, PR_SET_NAME },
		{ "socket", 0, UINT32_MAX, AF_UNIX },
	};
	int r = 0;

	for (guint i = 0; r == 0 && i < G_N_ELEMENTS(allowed); i++)
		r = allow(filter, allowed[i], 0, NULL);
	for (guint i = 0; r == 0 && i < G_N_ELEMENTS(partly); i++) {
		struct scmp_arg_cmp compared = { .arg = partly[i].index,
						 .op = SCMP_CMP_MASKED_EQ,
						 .datum_a = partly[i].mask,
						 .datum_b = partly[i].value };

		r = allow(filter, partly[i].name, 1, &compared);
	}
	return r;
}

int snap_seccomp_keep(bool log)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int r;

	if (!filter)
		return -ENOMEM;
	r = allow_all(filter);
	/* libfuse calls it at the end, and prints an error when it fails. What
	 * it wanted, outside.c does. */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(0),
				     SCMP_SYS(umount2), 0);
	/* The caller decides about no_new_privs. The binary tree makes a call
	 * cost the same wherever it stands in the list. */
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0);
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	/* What the kernel says is -ECANCELED otherwise. */
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
	if (r == 0 && log)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
}

char *snap_seccomp_library(void)
{
	const struct scmp_version *v = seccomp_version();

	return g_strdup_printf("libseccomp %u.%u.%u", v->major, v->minor,
			       v->micro);
}
