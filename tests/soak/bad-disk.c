/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk that fails when it is told to: preloaded into the daemon, it stands
 * before the calls of the C library that touch the store.
 *
 * BAD_DISK names a file that holds a struct order. The soak maps it and gives
 * its orders there while the daemon runs. A call counts if its file lies on
 * the store's device.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
/* Whether an open with these flags makes a file. */
#define MAKES(flags) ((flags) & (O_CREAT | O_TMPFILE) & ~O_DIRECTORY)

enum call { READ, WRITE, SYNC, RENAME, CREATE, REMOVE, TRUNCATE };

struct order {
	uint32_t calls; /* a bit for each enum call that may fail */
	int32_t skip;	/* so many go well first */
	int32_t times;	/* so many fail then */
	int32_t error;	/* with this errno */
	uint32_t hits;	/* so many have failed; for the soak to read */
	uint32_t unused;
	uint64_t device; /* the store's st_dev */
};

static struct order *order;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("BAD_DISK");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map;

	if (fd < 0)
		abort();
	map = mmap(NULL, sizeof(*order), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		   0);
	if (map == MAP_FAILED)
		abort();
	close(fd);
	order = map;
}

/* Whether this call fails; errno is set. */
static int fails(enum call call, int fd)
{
	struct stat st;

	if (!order || !(order->calls & 1u << call) || fstat(fd, &st) < 0 ||
	    st.st_dev != order->device)
		return 0;
	if (__atomic_fetch_sub(&order->skip, 1, __ATOMIC_RELAXED) > 0)
		return 0;
	if (__atomic_fetch_sub(&order->times, 1, __ATOMIC_RELAXED) <= 0)
		return 0;
	__atomic_fetch_add(&order->hits, 1, __ATOMIC_RELAXED);
	errno = order->error;
	return 1;
}

/* The C library's function of this name. */
static void (*real(const char *name))(void)
{
	void (*found)(void);

	*(void **)&found = dlsym(RTLD_NEXT, name);
	if (!found)
		abort();
	return found;
}

/* The names below are those that a program built for large files calls.
 *
 * NAME(parameters) fails as `call` on `fd`, or is what it always was. */
#define STAND_BEFORE(call, type, name, parameters, fd, ...)                    \
	EXPORT type name parameters;                                           \
	EXPORT type name parameters                                            \
	{                                                                      \
		type(*next) parameters = (type(*) parameters)real(#name);      \
                                                                               \
		return fails(call, fd) ? (type)-1 : next(__VA_ARGS__);         \
	}

STAND_BEFORE(READ, ssize_t, pread64,
	     (int fd, void *data, size_t size, off64_t at), fd, fd, data, size,
	     at)
STAND_BEFORE(WRITE, ssize_t, pwrite64,
	     (int fd, const void *data, size_t size, off64_t at), fd, fd, data,
	     size, at)
STAND_BEFORE(WRITE, ssize_t, write, (int fd, const void *data, size_t size), fd,
	     fd, data, size)
STAND_BEFORE(SYNC, int, fsync, (int fd), fd, fd)
STAND_BEFORE(SYNC, int, fdatasync, (int fd), fd, fd)
STAND_BEFORE(RENAME, int, renameat,
	     (int from, const char *old, int to, const char *new), to, from,
	     old, to, new)
STAND_BEFORE(RENAME, int, renameat2,
	     (int from, const char *old, int to, const char *new, unsigned how),
	     to, from, old, to, new, how)
STAND_BEFORE(CREATE, int, mkdirat, (int at, const char *name, mode_t mode), at,
	     at, name, mode)
STAND_BEFORE(CREATE, int, symlinkat, (const char *to, int at, const char *name),
	     at, to, at, name)
STAND_BEFORE(REMOVE, int, unlinkat, (int at, const char *name, int how), at, at,
	     name, how)
STAND_BEFORE(TRUNCATE, int, ftruncate64, (int fd, off64_t size), fd, fd, size)

EXPORT int openat64(int at, const char *path, int flags, ...);
EXPORT int openat64(int at, const char *path, int flags, ...)
{
	int (*next)(int, const char *, int, ...) =
		(int (*)(int, const char *, int, ...))real("openat64");
	va_list rest;
	mode_t mode;

	va_start(rest, flags);
	mode = va_arg(rest, mode_t);
	va_end(rest);
	if (MAKES(flags) && fails(CREATE, at))
		return -1;
	return next(at, path, flags, mode);
}

/* Calls for which the C library has no function. */
EXPORT long syscall(long number, ...);
EXPORT long syscall(long number, ...)
{
	long (*next)(long, ...) = (long (*)(long, ...))real("syscall");
	long a[6];
	va_list rest;

	va_start(rest, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(rest, long);
	va_end(rest);
#ifdef SYS_openat2
	/* a[2] is a struct open_how, which begins with the flags. */
	if (number == SYS_openat2 && MAKES(*(const uint64_t *)a[2]) &&
	    fails(CREATE, (int)a[0]))
		return -1;
#endif
	return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* No ring: its writes would pass by. The daemon then writes without one. */
EXPORT int io_uring_queue_init(unsigned entries, void *ring, unsigned flags);
EXPORT int io_uring_queue_init(unsigned entries, void *ring, unsigned flags)
{
	(void)entries, (void)ring, (void)flags;
	return -ENOSYS;
}
