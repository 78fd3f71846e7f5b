/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What another user does between two calls of a program, at the very moment: a
 * library for LD_PRELOAD, which runs a command before or after a call that
 *makes or opens a name.
 *
 *	SNAPFS_MEANWHILE="WHEN CALL PATTERN COMMAND"
 *
 * WHEN is before or after. CALL is mkdir, symlink, mknod, or create (an open
 *with O_CREAT). PATTERN (fnmatch(3)) is for the last part of the path. COMMAND
 *is the rest of the line, for sh, which gets that name as $1. It runs once.
 */

/* With it, openat is another name of openat64, and both are needed here. */
#undef _FILE_OFFSET_BITS

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/openat2.h>

static char when[16], which[16], pattern[64], command[4096];
static int done;

__attribute__((constructor)) static void read_environment(void)
{
	const char *text = getenv("SNAPFS_MEANWHILE");

	if (!text || sscanf(text, "%15s %15s %63s %4095[^\n]", when, which,
			    pattern, command) != 4)
		done = 1;
	unsetenv("LD_PRELOAD");
	unsetenv("SNAPFS_MEANWHILE");
}

static void at(const char *now, const char *call, const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;
	const char *name = slash ? slash + 1 : path;
	int code = errno;
	pid_t child;

	if (!path || strcmp(now, when) || strcmp(call, which) ||
	    fnmatch(pattern, name, FNM_PERIOD) ||
	    __atomic_exchange_n(&done, 1, __ATOMIC_SEQ_CST))
		return;
	child = fork();
	if (child == 0) {
		execl("/bin/sh", "sh", "-c", command, "sh", name, (char *)NULL);
		_exit(127);
	}
	waitpid(child, NULL, 0);
	errno = code;
}

/* Its address, as POSIX has it: ISO C knows no way from the one to the other.
 */
#define REAL(name)                                                             \
	__extension__({                                                        \
		__typeof__(&name) f_;                                          \
		*(void **)&f_ = dlsym(RTLD_NEXT, #name);                       \
		f_;                                                            \
	})

#define AROUND(call, path, expression)                                         \
	__extension__({                                                        \
		long r_;                                                       \
		at("before", call, path);                                      \
		r_ = (expression);                                             \
		if (r_ >= 0)                                                   \
			at("after", call, path);                               \
		r_;                                                            \
	})

#define EXPORT __attribute__((visibility("default")))

EXPORT int mkdir(const char *path, mode_t mode)
{
	return (int)AROUND("mkdir", path, REAL(mkdir)(path, mode));
}

EXPORT int mkdirat(int fd, const char *path, mode_t mode)
{
	return (int)AROUND("mkdir", path, REAL(mkdirat)(fd, path, mode));
}

EXPORT int symlinkat(const char *target, int fd, const char *path)
{
	return (int)AROUND("symlink", path, REAL(symlinkat)(target, fd, path));
}

EXPORT int mknodat(int fd, const char *path, mode_t mode, dev_t dev)
{
	return (int)AROUND("mknod", path, REAL(mknodat)(fd, path, mode, dev));
}

static int open_at(int fd, const char *path, int flags, mode_t mode)
{
	if (!(flags & O_CREAT))
		return (int)syscall(SYS_openat, fd, path, flags, mode);
	return (int)AROUND("create", path,
			   syscall(SYS_openat, fd, path, flags, mode));
}

EXPORT int openat(int fd, const char *path, int flags, ...)
{
	va_list list;
	mode_t mode;

	va_start(list, flags);
	mode = va_arg(list, mode_t);
	va_end(list);
	return open_at(fd, path, flags, mode);
}

EXPORT int openat64(int fd, const char *path, int flags, ...)
{
	va_list list;
	mode_t mode;

	va_start(list, flags);
	mode = va_arg(list, mode_t);
	va_end(list);
	return open_at(fd, path, flags, mode);
}

/* openat2(2) has no function of its own. */
EXPORT long syscall(long number, ...)
{
	static long (*real)(long, ...);
	const struct open_how *how;
	va_list list;
	long a[6];

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "syscall");
	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	how = (const struct open_how *)a[2];
	if (number == SYS_openat2 && (how->flags & O_CREAT))
		return AROUND("create", (const char *)a[1],
			      real(number, a[0], a[1], a[2], a[3], a[4], a[5]));
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
