/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all nodes of the store have in common. */
#include "fs/plain/plain-internal.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <unistd.h>

#include "format/base/cleanup.h"

/* Descriptors that open files leave to all else: an eighth of the process's is
 * for nodes (descriptor.c), and a sixteenth for snapshots. */
#define FDS_LEFT(limit) MIN((limit) / 4, 4096)

int snap_store_getattr(SnapNode *node, SnapHandle *handle,
		       struct snap_attr *ret_attr)
{
	snap_autofd int fd = snap_store_open(node);

	if (fd < 0)
		return fd;
	return fstatat(fd, "", &ret_attr->st,
		       AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0
		       ? -errno
		       : 0;
}

bool snap_store_is(SnapNode *node, int fd)
{
	struct snap_attr a;
	struct stat b;

	return snap_store_getattr(node, NULL, &a) == 0 && fstat(fd, &b) == 0 &&
	       a.st.st_dev == b.st_dev && a.st.st_ino == b.st_ino;
}

static int set_times(int path_fd, unsigned set, const struct stat *st)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
				     { .tv_nsec = UTIME_OMIT } };

	if (set & SNAP_SET_ATIME)
		times[0] = st->st_atim;
	if (set & SNAP_SET_MTIME)
		times[1] = st->st_mtim;
	return utimensat(path_fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

int snap_store_setattr(int path_fd, unsigned set, const struct stat *st)
{
	int r = 0;

	if (set & (SNAP_SET_UID | SNAP_SET_GID))
		r = snap_set_owner(path_fd,
				   set & SNAP_SET_UID ? st->st_uid : (uid_t)-1,
				   set & SNAP_SET_GID ? st->st_gid : (gid_t)-1);
	if (r == 0 && (set & SNAP_SET_MODE))
		r = snap_set_mode(path_fd, st->st_mode & 07777);
	if (r == 0 && (set & (SNAP_SET_ATIME | SNAP_SET_MTIME)))
		r = set_times(path_fd, set, st);
	return r;
}

bool snap_plain_fd_fits(const SnapPlain *plain, int fd)
{
	/* The kernel gives out the lowest free number. */
	return fd < plain->fds_open;
}

uint64_t snap_plain_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT_MAX)
		return INT_MAX;
	return limit.rlim_cur;
}

void snap_plain_init(SnapPlain *plain, SnapNodes *nodes, SnapCatalog *catalog)
{
	uint64_t limit = snap_plain_descriptors();

	plain->nodes = nodes;
	plain->catalog = catalog;
	plain->privileged = geteuid() == 0;
	plain->fds_open = (int)(limit - FDS_LEFT(limit));
	g_mutex_init(&plain->lock);
	snap_descriptors_init(plain, limit);
}

void snap_plain_free(SnapPlain *plain)
{
	if (!plain)
		return;
	if (plain->root)
		snap_node_unref(plain->root, 1);
	snap_idle_free(plain->open);
	g_mutex_clear(&plain->lock);
	g_free(plain);
}

SnapNode *snap_plain_root(SnapPlain *plain)
{
	return plain->root;
}

bool snap_plain_privileged(const SnapPlain *plain)
{
	return plain->privileged;
}
