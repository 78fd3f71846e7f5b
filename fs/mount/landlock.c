/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Landlock: which files may be opened (the kernel's
 * Documentation/userspace-api/landlock.rst, which also lists what came with
 * which version of the ABI).
 *
 * It also forbids to mount, to unmount, and to look into processes outside:
 * outside.c does the two of these that a mount needs.
 */
#include "fs/mount/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"

/* The system calls have the same numbers on every architecture. */
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

/* The oldest version that lets names move between folders (Linux 5.19). */
#define ABI_REFER 2
#define ABI_TRUNCATE 3	/* Linux 6.2 */
#define ABI_NET 4	/* Linux 6.7 */
#define ABI_IOCTL_DEV 5 /* Linux 6.10 */
#define ABI_SCOPE 6	/* Linux 6.12 */

/* struct landlock_ruleset_attr of version 6; older headers have a part of it,
 * older kernels take it with zeros in the rest. */
struct ruleset {
	uint64_t files;
	uint64_t net;
	uint64_t scoped;
};

#define FILES_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FILES_WRITE                                                            \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |       \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |       \
	 LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |           \
	 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |         \
	 LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM |         \
	 FILES_REFER)
#define FILES_REFER ((uint64_t)1 << 13)
#define FILES_TRUNCATE ((uint64_t)1 << 14)
#define FILES_IOCTL_DEV ((uint64_t)1 << 15)
#define NET_TCP ((uint64_t)3)	/* to bind, to connect */
#define SCOPE_ALL ((uint64_t)3) /* abstract unix sockets, signals */

/* Allows these kinds of access to a file, or below a folder. */
static int allow(int ruleset, int fd, uint64_t access)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = access,
						   .parent_fd = fd };

	return syscall(SYS_landlock_add_rule, ruleset,
		       LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0
		       ? -errno
		       : 0;
}

/* A device; it need not be there. */
static int allow_device(int ruleset, const char *path, uint64_t access)
{
	snap_autofd int fd = snap_open_named(path, O_PATH, 0);

	return fd < 0 ? 0 : allow(ruleset, fd, access);
}

/* Stderr becomes /dev/null when the mount answers; GLib takes its random
 * numbers from /dev/urandom. */
static int allow_devices(int ruleset)
{
	int r = allow_device(ruleset, "/dev/null",
			     LANDLOCK_ACCESS_FS_READ_FILE |
				     LANDLOCK_ACCESS_FS_WRITE_FILE);

	return r < 0 ? r
		     : allow_device(ruleset, "/dev/urandom",
				    LANDLOCK_ACCESS_FS_READ_FILE);
}

int snap_landlock_keep(int store_fd, bool read_only, int cache_fd, int *ret_abi)
{
	int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
			       LANDLOCK_CREATE_RULESET_VERSION);
	uint64_t write = FILES_WRITE;
	struct ruleset all = { 0 };
	snap_autofd int ruleset = -1;
	int r;

	if (abi < 0)
		return -errno;
	*ret_abi = abi;
	if (abi < ABI_REFER)
		return -EOPNOTSUPP;
	if (abi >= ABI_TRUNCATE)
		write |= FILES_TRUNCATE;
	all.files = FILES_READ | write | LANDLOCK_ACCESS_FS_EXECUTE;
	if (abi >= ABI_NET)
		all.net = NET_TCP;
	if (abi >= ABI_IOCTL_DEV)
		all.files |= FILES_IOCTL_DEV;
	if (abi >= ABI_SCOPE)
		all.scoped = SCOPE_ALL;
	ruleset =
		(int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	if (ruleset < 0)
		return -errno;
	r = allow(ruleset, store_fd,
		  read_only ? FILES_READ : FILES_READ | write);
	if (r == 0 && cache_fd >= 0)
		r = allow(ruleset, cache_fd, FILES_READ | write);
	if (r == 0)
		r = allow_devices(ruleset);
	if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		r = -errno;
	return r;
}
