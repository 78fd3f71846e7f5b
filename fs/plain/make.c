/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is made in a folder for a caller, who owns it then.
 *
 * The caller may also own the folder in the store, and exchange names in it. So
 * an owner is only given to what is certainly new: to a file by the descriptor
 * that made it, to all else as snap_make_below() says.
 */
#include "fs/plain/plain-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "format/base/cleanup.h"

/* The owner that must be set; -1 where this process's is right. */
static struct snap_catalog_owner owner_to_set(SnapNode *folder, mode_t mode,
					      const struct snap_caller *caller)
{
	struct snap_catalog_owner owner =
		snap_folder_owner(folder, mode, caller);

	if (!snap_store_node(folder)->plain->privileged ||
	    (owner.uid == geteuid() && owner.gid == getegid())) {
		owner.uid = (uid_t)-1;
		owner.gid = (gid_t)-1;
	}
	return owner;
}

/* False where the store's file system gives files an owner of its own choice,
 * as NFS does with root's. */
static bool belongs_to(int fd, uid_t uid)
{
	struct stat st;

	return fstatat(fd, "", &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_uid == uid;
}

int snap_folder_make(SnapNode *folder, const char *name,
		     const struct snap_new *what,
		     const struct snap_caller *caller, SnapNode **ret_node,
		     struct snap_attr *ret_attr)
{
	struct snap_catalog_owner owner =
		owner_to_set(folder, what->mode, caller);
	struct snap_new new = *what;
	snap_autofd int at = snap_store_open(folder);
	int fd, r;

	if (at < 0)
		return at;
	new.uid = owner.uid;
	new.gid = owner.gid;
	fd = snap_make_below(at, name, &new);
	if (fd >= 0 && new.uid != (uid_t)-1 && !belongs_to(fd, new.uid)) {
		close(fd);
		unlinkat(at, name, S_ISDIR(new.mode) ? AT_REMOVEDIR : 0);
		fd = -EPERM;
	}
	if (fd < 0)
		return fd;
	r = snap_folder_node(folder, name, fd, ret_node);
	if (r < 0)
		return r;
	r = snap_node_getattr(*ret_node, NULL, ret_attr);
	if (r < 0)
		snap_node_unref(*ret_node, 1);
	return r;
}

/* Gives a new file to its owner. */
static int give_file(SnapNode *folder, int fd, mode_t mode,
		     const struct snap_caller *caller)
{
	struct snap_catalog_owner owner = owner_to_set(folder, mode, caller);
	int r;

	if (owner.uid == (uid_t)-1)
		return 0;
	r = snap_set_owner(fd, owner.uid, owner.gid);
	/* The kernel clears these bits when the owner changes. */
	if (r == 0 && (mode & (S_ISUID | S_ISGID)))
		r = snap_set_mode(fd, mode & 07777);
	return r;
}

int snap_folder_make_file(SnapNode *folder, const char *name, int flags,
			  mode_t mode, const struct snap_caller *caller)
{
	snap_autofd int at = snap_store_open(folder);
	snap_autofd int fd = -1;
	int r;

	if (at < 0)
		return at;
	fd = snap_open_below(at, name,
			     (flags & (O_ACCMODE | O_SYNC | O_DSYNC)) |
				     O_CREAT | O_EXCL,
			     mode & 07777);
	/* The kernel has looked before: there was no such name. It looks again,
	 * and asks whether the caller may open what it finds. */
	if (fd == -EEXIST && !(flags & O_EXCL))
		return -ESTALE;
	if (fd < 0)
		return fd;
	r = snap_plain_fd_fits(snap_store_node(folder)->plain, fd)
		    ? give_file(folder, fd, mode, caller)
		    : -ENFILE;
	if (r < 0) {
		unlinkat(at, name, 0);
		return r;
	}
	return snap_steal_fd(&fd);
}
