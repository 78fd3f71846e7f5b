/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files in a folder that other users may change.
 *
 * Who may write to a folder can exchange a name in it at any moment: for a
 * symbolic link, for a FIFO, for another file. So a name is looked up once, and
 * from then on the descriptor stands for the file. Only this file opens files
 * and changes their owner and mode (tests/lint/paths.py holds that).
 *
 * What returns int returns a descriptor or 0, or -errno.
 */
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

/* Opens `path`, one name or several, below the folder `dirfd` (O_PATH will do);
 * `flags` as open(2). No link is followed, not the last one either: with O_PATH
 * that is opened itself. Nothing is waited for: neither the other end of a FIFO
 * nor the holder of a lease (-EAGAIN). The caller checks what it got by
 * fstat(2). -EINVAL for "..", an absolute path or an empty one; -ELOOP or
 * -ENOTDIR where a link is in the way. */
int snap_open_below(int dirfd, const char *path, int flags, mode_t mode);

/* Opens the folder in which the folder `fd` lies. Another user may have moved
 * it there: the caller checks what it got. `flags` as open(2). */
int snap_open_above(int fd, int flags);

/* Opens a path that the user has typed, or one of the system's own (/dev/null,
 * /proc). Links are followed, and a FIFO is waited for unless `flags` says
 * otherwise: so it is never called on behalf of another user. */
int snap_open_named(const char *path, int flags, mode_t mode);

/* Opens the file of a descriptor anew, through /proc: a regular file or a
 * folder, or with O_PATH any. -EINVAL for all others, whose open might wait. */
int snap_open_again(int fd, int flags);

/* The path by which the kernel finds the file of a descriptor, for the few
 * calls that take no descriptor, or none with O_PATH. */
#define SNAP_PROC_PATH 32
void snap_proc_path(char ret[SNAP_PROC_PATH], int fd);

/* Gives the file of a descriptor one more name (a hard link). -EEXIST where the
 * name is taken, -ENOENT where the file has no name any more. */
int snap_link_below(int fd, int dirfd, const char *name);

/* Changes the owner of the file of a descriptor (O_PATH will do, also of a
 * link); (uid_t)-1 and (gid_t)-1 change nothing. */
int snap_set_owner(int fd, uid_t uid, gid_t gid);

/* Changes its mode. -EOPNOTSUPP for a link, which has none. */
int snap_set_mode(int fd, mode_t mode);

/* What is to be made. */
struct snap_new {
	mode_t mode;	    /* its type too; what umask(2) takes is gone */
	dev_t dev;	    /* of a device */
	const char *target; /* of a symbolic link */
	uid_t uid;	    /* its owner; (uid_t)-1: this process */
	gid_t gid;
};

/* Makes anything but an open file as `name` in a folder, and opens it with
 * O_PATH. -ESTALE where another user has exchanged the name meanwhile; then
 * nothing is changed that was not new. */
int snap_make_below(int dirfd, const char *name, const struct snap_new *what);
