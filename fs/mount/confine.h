/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a mount gives up once it is mounted, so that a fault in it harms nothing
 * but the store. Inside fs/mount.
 *
 * All of it holds for the calling thread and for threads that it starts later:
 * no other thread may run yet. What cannot be given up is logged, and the mount
 * goes on.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* True in a build for a sanitizer, which opens files of its own and traces its
 * own threads: such a mount confines neither files nor system calls. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SNAP_SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SNAP_SANITIZED true
#endif
#endif
#ifndef SNAP_SANITIZED
#define SNAP_SANITIZED false
#endif

struct snap_confine_opts {
	int store_fd; /* the store's folder */
	bool read_only;
	int cache_fd; /* the folder of the disk cache, or -1 */
	bool debug;   /* the kernel's log names system calls that fail */
	/* What not to give up. */
	bool keep_caps;
	bool keep_new_privs;
	bool no_landlock;
	bool no_seccomp;
};

/* Gives up what these options let go (confine.c). */
void snap_confine(const struct snap_confine_opts *opts);

/* The parts, each 0 or -errno. */

/* Drops all capabilities but those in a set of bits (caps.c). */
int snap_caps_keep(uint64_t caps);

/* Opens no file but those of the folder `store_fd`, or only to read, and those
 * of the folder `cache_fd` unless it is -1 (landlock.c). *ret_abi is the
 * version of Landlock. -EOPNOTSUPP where the kernel has none that we can use.
 */
int snap_landlock_keep(int store_fd, bool read_only, int cache_fd,
		       int *ret_abi);

/* Makes no system call but those in a list (seccomp.c). Others fail with
 * ENOSYS, and with `log` the kernel's log names them. */
int snap_seccomp_keep(bool log);

/* Tells libseccomp's version (format/base/version.h). */
char *snap_seccomp_library(void);
