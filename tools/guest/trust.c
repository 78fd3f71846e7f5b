/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stat(2) says of a file is as true as the file system that answers. Any
 * user may run one by FUSE; its mount says who. A mount of snapfs may show all
 * files as those of one user, but also tells who owns them in the store.
 */
#include "tools/guest/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/error.h"

#define MOUNT_TYPE "fuse.snapfs"
#define OWNER "user.snapfs.owner"
#define OWNER_MAX 64

/* ---- the mount ---- */

/* The mount of FUSE that a file is in. */
struct mount {
	bool snapfs;
	uid_t user; /* who serves it */
};

/* Parses what stands behind " - " in a line of /proc/self/mountinfo: type,
 * source and options; see proc_pid_mountinfo(5). False if it is no FUSE. */
static bool parse_mount(const char *text, struct mount *ret)
{
	g_auto(GStrv) words = g_strsplit(text, " ", 3);
	const char *user;

	if (g_strv_length(words) < 3)
		return false;
	/* Linux, fs/fuse/inode.c, fuse_show_options(): each FUSE mount says
	 * who has opened its /dev/fuse. */
	user = strstr(words[2], ",user_id=");
	if (!user)
		return false;
	ret->snapfs = !strcmp(words[0], MOUNT_TYPE);
	ret->user = (uid_t)strtoul(user + strlen(",user_id="), NULL, 10);
	return true;
}

/* Finds the FUSE mount of an open file. False if it is in none that can be
 * seen. */
static bool find_mount(int fd, struct mount *ret)
{
	g_autofree char *text = NULL;
	g_auto(GStrv) lines = NULL;
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) < 0 ||
	    !(st.stx_mask & STATX_MNT_ID) ||
	    !g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
		return false;
	lines = g_strsplit(text, "\n", -1);
	for (char **line = lines; *line; line++) {
		const char *rest = strstr(*line, " - ");

		if (rest && g_ascii_strtoull(*line, NULL, 10) == st.stx_mnt_id)
			return parse_mount(rest + strlen(" - "), ret);
	}
	return false;
}

static bool is_fuse(int fd)
{
	struct statfs st;

	return fstatfs(fd, &st) == 0 && st.f_type == FUSE_SUPER_MAGIC;
}

bool snap_trust_in_mount(int fd)
{
	struct mount m;

	return is_fuse(fd) && find_mount(fd, &m) && m.snapfs;
}

/* ---- the owner ---- */

static bool is_trusted(uid_t user)
{
	return user == 0 || user == geteuid();
}

/* Asks a mount of snapfs for owner and mode of an open file in the store. */
static int ask_owner(int fd, struct stat *ret)
{
	char text[OWNER_MAX + 1], proc[SNAP_PROC_PATH];
	unsigned uid, mode;
	ssize_t n;

	/* The descriptor may be one of O_PATH, of which fgetxattr(2) knows
	 * nothing. */
	snap_proc_path(proc, fd);
	n = getxattr(proc, OWNER, text, OWNER_MAX);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	if (sscanf(text, "%u:%*u:%o", &uid, &mode) != 2)
		return -EPROTO;
	ret->st_uid = uid;
	ret->st_mode = mode;
	return 0;
}

/* Finds the true owner and mode of an open file. */
static int find_owner(int fd, const char *path, struct stat *ret,
		      GError **error)
{
	struct mount m;
	int r;

	if (fstat(fd, ret) < 0)
		return snap_fail_errno(error, errno, "%s", path);
	if (!is_fuse(fd))
		return 0;
	if (!find_mount(fd, &m))
		return snap_fail(error, EPERM,
				 "%s: /proc does not say who serves its mount",
				 path);
	if (!is_trusted(m.user))
		return snap_fail(error, EPERM,
				 "%s: its mount is served by user %u, who can "
				 "show there what he likes",
				 path, (unsigned)m.user);
	r = m.snapfs ? ask_owner(fd, ret) : 0;
	if (r < 0)
		return snap_fail_errno(error, -r,
				       "%s: the mount does not say who owns it "
				       "in the store (an older mount.snapfs?)",
				       path);
	return 0;
}

/* Tells whether only root and the caller can write to it. */
static bool is_ours(const struct stat *st)
{
	return is_trusted(st->st_uid) && !(st->st_mode & (S_IWGRP | S_IWOTH));
}

int snap_trust_check(int fd, const char *path, GError **error)
{
	struct stat st;
	int r = find_owner(fd, path, &st, error);

	if (r < 0)
		return r;
	if (is_ours(&st))
		return 0;
	return snap_fail(error, EPERM,
			 "%s: another user could have written it; make it "
			 "yours and writable by you alone, or remove it",
			 path);
}

/* Tells whether the owner that is shown of a link is the true one. Linux,
 * fs/xattr.c, xattr_permission(): a link has no attribute by which a mount of
 * snapfs could be asked. But if the folder's owner is the true one, and not the
 * link's, the mount shows all as they are. */
static bool is_true(const struct stat *link, const struct stat *shown,
		    const struct stat *folder)
{
	return shown->st_uid == folder->st_uid && shown->st_uid != link->st_uid;
}

int snap_trust_link(int link, int folder, const char *path, GError **error)
{
	bool asks = snap_trust_in_mount(link);
	struct stat st, shown, above;
	int r;

	if (fstat(link, &st) < 0 || fstat(folder, &shown) < 0)
		return snap_fail_errno(error, errno, "%s", path);
	r = find_owner(folder, path, &above, error);
	if (r < 0 || (asks && is_ours(&above)))
		return r;
	if (!is_trusted(st.st_uid))
		return snap_fail(error, EPERM,
				 "%s is a link of user %u, which is not "
				 "followed; type the path that is meant",
				 path, (unsigned)st.st_uid);
	if (!asks || is_true(&st, &shown, &above))
		return 0;
	return snap_fail(error, EPERM,
			 "%s is a link that another user could have made, "
			 "which is not followed; type the path that is meant",
			 path);
}
