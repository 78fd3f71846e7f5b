/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/base/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "format/base/beneath-internal.h"
#include "format/base/cleanup.h"

/* ---- opening ---- */

/* False once the kernel has said that it has no openat2(2) (before Linux 5.6).
 * A sandbox may refuse the call by EPERM, as container run-times did. */
static bool has_openat2 = true; /* atomic */

void snap_open_below_try_openat2(bool use)
{
	__atomic_store_n(&has_openat2, use, __ATOMIC_RELAXED);
}

/* Opens name by name. */
static int open_by_steps(int dirfd, const char *path, int flags, mode_t mode)
{
	snap_autofd int at = -1;
	int fd;

	for (;;) {
		size_t n = strcspn(path, "/");
		const char *rest = path + n + strspn(path + n, "/");
		g_autofree char *name = g_strndup(path, n);
		int next;

		if (!*rest) {
			fd = openat(at < 0 ? dirfd : at, name, flags, mode);
			return fd < 0 ? -errno : fd;
		}
		next = openat(at < 0 ? dirfd : at, name,
			      O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return -errno;
		snap_close_fd(&at);
		at = next;
		path = rest;
	}
}

static bool is_below(const char *path)
{
	if (!*path || *path == '/')
		return false;
	while (*path) {
		size_t n = strcspn(path, "/");

		if (n == 2 && !strncmp(path, "..", 2))
			return false;
		path += n + strspn(path + n, "/");
	}
	return true;
}

int snap_open_below(int dirfd, const char *path, int flags, mode_t mode)
{
	struct open_how how = { .resolve = RESOLVE_BENEATH |
					   RESOLVE_NO_SYMLINKS |
					   RESOLVE_NO_MAGICLINKS };
	long fd;

	if (!is_below(path))
		return -EINVAL;
	flags |= O_NOFOLLOW | O_CLOEXEC;
	/* A file that is made by this call cannot keep anybody waiting, and
	 * io_uring fails rather than waits on files with O_NONBLOCK. */
	if (!(flags & (O_PATH | O_EXCL)))
		flags |= O_NONBLOCK | O_NOCTTY;
	how.flags = (uint64_t)(unsigned)flags;
	if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)))
		how.mode = mode & 07777;
	if (__atomic_load_n(&has_openat2, __ATOMIC_RELAXED)) {
		fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
		if (fd >= 0)
			return (int)fd;
		if (errno == ENOSYS)
			snap_open_below_try_openat2(false);
		else if (errno != EPERM)
			return -errno;
	}
	return open_by_steps(dirfd, path, flags, mode);
}

int snap_open_above(int fd, int flags)
{
	int above = openat(fd, "..", flags | O_DIRECTORY | O_CLOEXEC);

	return above < 0 ? -errno : above;
}

int snap_open_named(const char *path, int flags, mode_t mode)
{
	int fd = open(path, flags | O_CLOEXEC, mode);

	return fd < 0 ? -errno : fd;
}

void snap_proc_path(char ret[SNAP_PROC_PATH], int fd)
{
	snprintf(ret, SNAP_PROC_PATH, "/proc/self/fd/%d", fd);
}

int snap_open_again(int fd, int flags)
{
	char path[SNAP_PROC_PATH];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!(flags & O_PATH) && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return -EINVAL;
	snap_proc_path(path, fd);
	return snap_open_named(path,
			       flags & O_PATH ? flags : flags | O_NONBLOCK, 0);
}

/* ---- owner and mode ---- */

int snap_link_below(int fd, int dirfd, const char *name)
{
	char path[SNAP_PROC_PATH];

	/* AT_EMPTY_PATH would need a capability (linkat(2)). */
	snap_proc_path(path, fd);
	return linkat(AT_FDCWD, path, dirfd, name, AT_SYMLINK_FOLLOW) < 0
		       ? -errno
		       : 0;
}

int snap_set_owner(int fd, uid_t uid, gid_t gid)
{
	return fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) <
			       0
		       ? -errno
		       : 0;
}

int snap_set_mode(int fd, mode_t mode)
{
	char path[SNAP_PROC_PATH];
	struct stat st;

	if (fchmod(fd, mode) == 0)
		return 0;
	if (errno != EBADF)
		return -errno;
	/* Of O_PATH descriptors, fchmod(2) knows nothing; only Linux 6.6 has
	 * fchmodat2(2). */
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode))
		return -EOPNOTSUPP;
	snap_proc_path(path, fd);
	return chmod(path, mode) < 0 ? -errno : 0;
}

/* ---- making ---- */

/*
 * The calls that make a folder, a link or a FIFO give no descriptor, so the new
 * name must be looked up, and by then it may stand for something else. Nothing
 * can prevent that; but what is given away must be new. So what is to be given
 * away is made with a mode that nothing in use has: no permission at all, and
 * the sticky bit. What bears it and belongs to this process was made a moment
 * ago for somebody, holds nothing, and nobody could open it. If two of them
 * were exchanged, each still goes to one who has asked for one, under the name
 * that it has by now.
 *
 * A folder of our own to make it in, and a rename, would not do: a folder may
 * be a mount point in the store, and `.snapfs` may belong to that other user.
 */
#define MODE_NEW S_ISVTX

static int make(int dirfd, const char *name, const struct snap_new *what,
		mode_t mode)
{
	int r;

	if (S_ISLNK(what->mode))
		r = symlinkat(what->target, dirfd, name);
	else if (S_ISDIR(what->mode))
		r = mkdirat(dirfd, name, mode);
	else
		r = mknodat(dirfd, name, (what->mode & S_IFMT) | mode,
			    what->dev);
	return r < 0 ? -errno : 0;
}

/* A new link has no mode, but one like it is as good. */
static bool is_same_link(int fd, const char *target)
{
	char text[PATH_MAX];
	ssize_t n = readlinkat(fd, "", text, sizeof(text));

	return n >= 0 && (size_t)n == strlen(target) &&
	       !memcmp(text, target, (size_t)n);
}

/* Is it what make() has made, or as new? */
static bool is_new(int fd, const struct stat *st, const struct snap_new *what)
{
	if ((st->st_mode & S_IFMT) != (what->mode & S_IFMT))
		return false;
	if (S_ISLNK(st->st_mode))
		return st->st_nlink == 1 && is_same_link(fd, what->target);
	if ((S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) &&
	    st->st_rdev != what->dev)
		return false;
	/* A folder may have got the set-group-ID bit of the one above. */
	return (st->st_mode & 07777 & ~S_ISGID) == MODE_NEW &&
	       (S_ISDIR(st->st_mode) ||
		(st->st_nlink == 1 && st->st_size == 0));
}

static int give(int fd, const struct snap_new *what, mode_t mode)
{
	struct stat st;
	int r = 0;

	if (fstatat(fd, "", &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!is_new(fd, &st, what))
		return -ESTALE;
	/* A mount may show all files as another user's, and give them none. */
	if (st.st_uid == geteuid())
		r = snap_set_owner(fd, what->uid, what->gid);
	if (r < 0 || S_ISLNK(st.st_mode))
		return r;
	return snap_set_mode(
		fd, mode | (S_ISDIR(st.st_mode) ? st.st_mode & S_ISGID : 0));
}

int snap_make_below(int dirfd, const char *name, const struct snap_new *what)
{
	bool gives = what->uid != (uid_t)-1 || what->gid != (gid_t)-1;
	mode_t mode = what->mode & 07777;
	snap_autofd int fd = -1;
	int r = make(dirfd, name, what, gives ? MODE_NEW : mode);

	if (r < 0)
		return r;
	fd = snap_open_below(dirfd, name, O_PATH, 0);
	if (fd < 0)
		return fd == -ENOENT ? -ESTALE : fd;
	r = gives ? give(fd, what, mode) : 0;
	if (r < 0 && r != -ESTALE)
		unlinkat(dirfd, name, S_ISDIR(what->mode) ? AT_REMOVEDIR : 0);
	return r < 0 ? r : snap_steal_fd(&fd);
}
