/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files on their way in.
 *
 * A file lies in STORE/.snapfs/tmp under a random name N until it is published.
 * Beside it stands a symbolic link N.for, whose target is the folder that the
 * file is meant for. It leads nowhere and is only read: when the writer is
 * killed, whoever opens the store next removes both, and notes in that folder
 * what happened. An ordinary end removes the link with the file's close.
 */
#include "fs/catalog/catalog-internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"

#define CUT_OFF "the save was cut off: the program that took it ended"

/* A file of the store, and the link beside it. */
struct temporary {
	SnapFile file; /* first */
	SnapFile *inner;
	int tmp_fd;
	char *link;
};

static SnapFile *inner(SnapFile *f)
{
	return ((struct temporary *)f)->inner;
}

static ssize_t temporary_pread(SnapFile *f, void *buf, size_t size,
			       uint64_t offset)
{
	return inner(f)->ops->pread(inner(f), buf, size, offset);
}

static int temporary_pwrite(SnapFile *f, const void *buf, size_t size,
			    uint64_t offset)
{
	return inner(f)->ops->pwrite(inner(f), buf, size, offset);
}

static int temporary_drain(SnapFile *f)
{
	return inner(f)->ops->drain(inner(f));
}

static int temporary_sync(SnapFile *f)
{
	return inner(f)->ops->sync(inner(f));
}

static int temporary_size(SnapFile *f, uint64_t *ret_size)
{
	return inner(f)->ops->size(inner(f), ret_size);
}

static int temporary_publish(SnapFile *f, int dirfd, const char *name)
{
	return inner(f)->ops->publish(inner(f), dirfd, name);
}

static void temporary_close(SnapFile *f)
{
	struct temporary *t = (struct temporary *)f;

	snap_file_close(t->inner);
	unlinkat(t->tmp_fd, t->link, 0);
	g_free(t->link);
	g_free(t);
}

static const struct snap_file_ops temporary_ops = {
	.name = "temporary",
	.pread = temporary_pread,
	.pwrite = temporary_pwrite,
	.drain = temporary_drain,
	.sync = temporary_sync,
	.size = temporary_size,
	.publish = temporary_publish,
	.close = temporary_close,
};

/* Gives a new file to its owner. */
static int set_owner(int tmp_fd, const char *name,
		     const struct snap_catalog_owner *owner)
{
	if ((owner->uid != (uid_t)-1 || owner->gid != (gid_t)-1) &&
	    fchownat(tmp_fd, name, owner->uid, owner->gid,
		     AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return fchmodat(tmp_fd, name, owner->mode & 0777, 0) < 0 ? -errno : 0;
}

int snap_temporary_create(int tmp_fd, const char *path,
			  const struct snap_catalog_owner *owner,
			  SnapFile **ret_file)
{
	g_autofree char *name = g_uuid_string_random();
	g_autofree char *link = g_strconcat(name, SNAP_TEMPORARY_FOR, NULL);
	g_autoptr(SnapFile) file = NULL;
	struct temporary *t;
	int r;

	/* A store that has no links, or a path too long for one, only costs
	 * the note. */
	if (symlinkat(*path ? path : ".", tmp_fd, link) < 0 &&
	    (errno == EIO || errno == ENOSPC || errno == EDQUOT ||
	     errno == EROFS))
		return -errno;
	r = snap_file_create(tmp_fd, name, owner->mode, SNAP_FILE_AUTO, &file);
	if (r == 0)
		r = set_owner(tmp_fd, name, owner);
	if (r < 0) {
		unlinkat(tmp_fd, link, 0);
		return r;
	}
	t = g_new0(struct temporary, 1);
	t->file.ops = &temporary_ops;
	t->inner = g_steal_pointer(&file);
	t->tmp_fd = tmp_fd;
	t->link = g_steal_pointer(&link);
	*ret_file = &t->file;
	return 0;
}

/* Notes in the folder that the link names that its save was cut off. */
static void note_cut_off(int root_fd, int tmp_fd, const char *link)
{
	char path[PATH_MAX];
	ssize_t n = readlinkat(tmp_fd, link, path, sizeof(path) - 1);
	g_auto(GStrv) names = NULL;
	int fd, next;

	if (n <= 0)
		return;
	path[n] = '\0';
	names = g_strsplit(path, "/", -1);
	fd = openat(root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (char **name = names; *name && fd >= 0; name++) {
		if (!**name || !strcmp(*name, "."))
			continue;
		next = strcmp(*name, "..") == 0
			       ? -1
			       : openat(fd, *name,
					O_PATH | O_DIRECTORY | O_NOFOLLOW |
						O_CLOEXEC);
		close(fd);
		fd = next;
	}
	if (fd < 0)
		return;
	snap_catalog_note(fd, CUT_OFF);
	close(fd);
}

/* Removes one name of the folder; a link that still has its file is read
 * before. */
static void clear_name(int root_fd, int tmp_fd, const char *name)
{
	g_autofree char *file = g_strdup(name);
	struct stat st;

	if (g_str_has_suffix(name, SNAP_TEMPORARY_FOR)) {
		file[strlen(name) - strlen(SNAP_TEMPORARY_FOR)] = '\0';
		if (fstatat(tmp_fd, file, &st, AT_SYMLINK_NOFOLLOW) == 0)
			note_cut_off(root_fd, tmp_fd, name);
		unlinkat(tmp_fd, file, 0);
	}
	if (unlinkat(tmp_fd, name, 0) < 0 && errno == EISDIR)
		unlinkat(tmp_fd, name, AT_REMOVEDIR);
}

void snap_temporary_clear(int root_fd, int tmp_fd)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	int fd = openat(tmp_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;

	if (!dir) {
		snap_close_fd(&fd);
		return;
	}
	while ((d = readdir(dir)) != NULL)
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
			g_ptr_array_add(names, g_strdup(d->d_name));
	closedir(dir);
	/* Links first: they are of use only beside their files. */
	for (guint i = 0; i < names->len; i++)
		if (g_str_has_suffix(names->pdata[i], SNAP_TEMPORARY_FOR))
			clear_name(root_fd, tmp_fd, names->pdata[i]);
	for (guint i = 0; i < names->len; i++)
		if (!g_str_has_suffix(names->pdata[i], SNAP_TEMPORARY_FOR))
			clear_name(root_fd, tmp_fd, names->pdata[i]);
}
