/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One process at a time writes to a store. It holds two locks (flock(2)):
 *
 * 1. `.snapfs/lock`, which says who holds it. Its mode is 0600: a user who may
 *    not write to the store cannot open it, and so cannot keep it locked.
 *
 * 2. The store's own folder. `rm -r STORE/.snapfs` takes the first lock away
 *    from a process that goes on writing, but not this one. Whoever may read
 *    the folder can lock it too. So a lock on it counts only if it was taken by
 * a snapfs that runs for root, for the folder's owner or for this user. The
 *    real user of that process is what matters, for a program with the
 *    set-user-ID bit is root's at the wish of any user.
 *
 * A user who holds the second lock while a store is mounted can thus only undo
 * what it is good for, until the next mount.
 */
#include "fs/catalog/catalog-internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "format/base/log.h"

/* The longest text that is read from the lock, in bytes. */
#define HOLDER_MAX 512

/* ---- the file ---- */

/* Reads what the holder of the lock wrote into it. */
static char *read_holder(int fd)
{
	g_autofree char *text = NULL;

	if (snap_read_fd(fd, HOLDER_MAX, &text, NULL) == 0 && *g_strstrip(text))
		return g_steal_pointer(&text);
	return g_strdup("by another process");
}

static int open_lock(const char *store, int private_fd, GError **error)
{
	snap_autofd int fd =
		snap_open_below(private_fd, "lock", O_RDWR | O_CREAT, 0600);
	struct stat st;

	if (fd < 0)
		return snap_fail_errno(error, -fd, "store %s cannot be written",
				       store);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1)
		return snap_fail(error, EINVAL,
				 "store %s: " SNAP_CATALOG_PRIVATE
				 "/lock is not a file of its own",
				 store);
	/* Older versions made it readable by all. */
	if (st.st_mode & 077)
		snap_set_mode(fd, 0600);
	return snap_steal_fd(&fd);
}

/* ---- the folder ---- */

/* True when a snapfs that may write to the store runs as this process. One that
 * has ended does not: a writer lives as long as its lock. */
static bool is_writer(unsigned pid, const struct stat *store)
{
	g_autofree char *path = g_strdup_printf("/proc/%u/status", pid);
	g_autofree char *text = NULL;
	unsigned uid;
	char *line;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return false;
	line = strstr(text, "\nUid:");
	if (!line || sscanf(line, "\nUid: %u", &uid) != 1)
		return false;
	/* "Name:" is the first line. The kernel cuts it at 15 bytes, so that
	 * mount.fuse.snapfs is not whole (proc_pid_status(5)). */
	*strchrnul(text, '\n') = '\0';
	return strstr(text, "snap") &&
	       (uid == 0 || uid == getuid() || uid == store->st_uid);
}

/* Finds the process that keeps the store's folder locked: 0 where that is none
 * that counts, -1 where it cannot be seen from here. The kernel's list has the
 * process that took the lock and the inode (proc_locks(5); fs/locks.c,
 * lock_get_status()). On btrfs the device is not that of stat(2), so it is not
 * compared. */
static int find_writer(int store_fd)
{
	g_autofree char *text = NULL;
	g_auto(GStrv) lines = NULL;
	bool seen = false, volumes;
	struct statfs fs;
	struct stat st;

	if (fstat(store_fd, &st) < 0 || fstatfs(store_fd, &fs) < 0 ||
	    !g_file_get_contents("/proc/locks", &text, NULL, NULL))
		return -1;
	/* There stat(2) tells the device of a subvolume. */
	volumes = fs.f_type == BTRFS_SUPER_MAGIC;
	lines = g_strsplit(text, "\n", -1);
	for (char **line = lines; *line; line++) {
		unsigned pid, major, minor;
		uint64_t inode;

		if (sscanf(*line, "%*d: FLOCK %*s %*s %u %x:%x:%" SCNu64, &pid,
			   &major, &minor, &inode) != 4 ||
		    inode != (uint64_t)st.st_ino ||
		    !(volumes || makedev(major, minor) == st.st_dev))
			continue;
		seen = true;
		if (is_writer(pid, &st))
			return (int)pid;
	}
	return seen ? 0 : -1;
}

static int lock_folder(const char *store, int store_fd, GError **error)
{
	int pid;

	/* Some file systems, NFS among them, cannot lock a folder. */
	if (flock(store_fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return 0;
	pid = find_writer(store_fd);
	if (pid > 0)
		return snap_fail(error, EBUSY,
				 "store %s is in use: process %d still writes "
				 "to it, though its " SNAP_CATALOG_PRIVATE
				 " was removed or replaced",
				 store, pid);
	if (pid < 0)
		return snap_fail(error, EBUSY,
				 "store %s is in use: a process that cannot be "
				 "seen from here has locked the folder",
				 store);
	snap_log(
		SNAP_LOG_WARNING,
		"store %s: a process that is no snapfs of its owner or of root "
		"has locked the folder; that is ignored",
		store);
	return 0;
}

/* ---- both ---- */

int snap_lock_take(const char *store, int store_fd, int private_fd,
		   const char *holder, GError **error)
{
	snap_autofd int fd = open_lock(store, private_fd, error);
	g_autofree char *text = NULL;
	int r;

	if (fd < 0)
		return fd;
	r = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
	if (r < 0 && r != -EWOULDBLOCK)
		return snap_fail_errno(error, -r, "store %s cannot be locked",
				       store);
	if (r < 0) {
		text = read_holder(fd);
		return snap_fail(error, EBUSY, "store %s is in use: %s", store,
				 text);
	}
	r = lock_folder(store, store_fd, error);
	if (r < 0)
		return r;
	/* A store may be shared by several hosts. */
	text = g_strdup_printf("%s (process %d on %s)\n", holder, (int)getpid(),
			       g_get_host_name());
	/* The lock holds without the text. */
	if (ftruncate(fd, 0) == 0)
		snap_pwrite_all(fd, text, strlen(text), 0);
	return snap_steal_fd(&fd);
}

bool snap_lock_may_go(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == NFS_SUPER_MAGIC;
}

/* The client of NFS learns from the server that a lock was lost, and then
 * refuses to read and write by that file (Linux, nfs4_select_rw_stateid() in
 * fs/nfs/nfs4state.c). Nobody writes to the file without the lock, so to write
 * a byte of it once more changes nothing. */
int snap_lock_check(int fd)
{
	char byte;
	ssize_t n = pread(fd, &byte, 1, 0);

	if (n == 1)
		n = pwrite(fd, &byte, 1, 0);
	return n < 0 || fdatasync(fd) < 0 ? -errno : 0;
}

void snap_lock_drop(int fd)
{
	/* An empty file tells the reader that no process holds it. */
	if (ftruncate(fd, 0) < 0)
		errno = 0;
	close(fd);
}
