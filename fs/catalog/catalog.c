/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A store: opens it, takes its lock, finds and creates single snapshots. */
#include "fs/catalog/catalog-internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/error.h"
#include "format/base/fileio.h"

/* The longest text that is read from the lock, in bytes. */
#define HOLDER_MAX 512

struct SnapCatalog {
	char *path;
	bool read_only;
	int fd;
	int tmp_fd;  /* -1 when read-only */
	int lock_fd; /* -1 when read-only */
};

void snap_catalog_free(SnapCatalog *c)
{
	if (!c)
		return;
	if (c->lock_fd >= 0) {
		/* An empty file tells the reader that no process holds it. */
		if (ftruncate(c->lock_fd, 0) < 0)
			errno = 0;
		close(c->lock_fd);
	}
	if (c->tmp_fd >= 0)
		close(c->tmp_fd);
	if (c->fd >= 0)
		close(c->fd);
	g_free(c->path);
	g_free(c);
}

int snap_catalog_fd(const SnapCatalog *c)
{
	return c->fd;
}

int snap_catalog_tmp_fd(const SnapCatalog *c)
{
	return c->tmp_fd;
}

const char *snap_catalog_path(const SnapCatalog *c)
{
	return c->path;
}

bool snap_catalog_read_only(const SnapCatalog *c)
{
	return c->read_only;
}

const char *const snap_catalog_views[] = { "ram",    "devstate", "preamble",
					   "stream", "mapped",	 NULL };

bool snap_catalog_reserved(const char *name)
{
	return !strcmp(name, SNAP_CATALOG_SNAPSHOT) ||
	       !strcmp(name, SNAP_CATALOG_PREAMBLE) ||
	       !strncmp(name, SNAP_CATALOG_PRIVATE,
			strlen(SNAP_CATALOG_PRIVATE));
}

/* Makes a private folder unless it exists. */
static int make_folder(SnapCatalog *c, const char *name, GError **error)
{
	struct stat st;

	if (mkdirat(c->fd, name, 0755) == 0)
		return 0;
	if (errno != EEXIST)
		return snap_fail_errno(error, errno,
				       "store %s cannot be written", c->path);
	if (fstatat(c->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return snap_fail_errno(error, errno, "store %s: %s", c->path,
				       name);
	if (!S_ISDIR(st.st_mode))
		return snap_fail(error, ENOTDIR,
				 "store %s: %s exists and is not a folder",
				 c->path, name);
	return 0;
}

/* Reads what the holder of the lock wrote into it. */
static char *read_holder(int fd)
{
	g_autofree char *text = NULL;

	if (snap_read_fd(fd, HOLDER_MAX, &text, NULL) == 0 && *g_strstrip(text))
		return g_steal_pointer(&text);
	return g_strdup("by another process");
}

/* Takes the lock, and writes into it which process holds it. */
static int take_lock(SnapCatalog *c, const char *holder, GError **error)
{
	g_autofree char *text = NULL;

	c->lock_fd = openat(c->fd, SNAP_CATALOG_PRIVATE "/lock",
			    O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (c->lock_fd < 0)
		return snap_fail_errno(error, errno,
				       "store %s cannot be written", c->path);
	if (flock(c->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		int code = errno == EWOULDBLOCK ? EBUSY : errno;

		text = read_holder(c->lock_fd);
		close(c->lock_fd);
		c->lock_fd = -1;
		if (code != EBUSY)
			return snap_fail_errno(error, code,
					       "store %s cannot be locked",
					       c->path);
		return snap_fail(error, EBUSY, "store %s is in use: %s",
				 c->path, text);
	}
	text = g_strdup_printf("%s (process %d)\n", holder, (int)getpid());
	if (ftruncate(c->lock_fd, 0) < 0 ||
	    snap_pwrite_all(c->lock_fd, text, strlen(text), 0) < 0)
		return 0; /* the text is not needed for the lock to hold */
	return 0;
}

/* Does the part of opening that only a writer needs. */
static int open_to_write(SnapCatalog *c, const char *holder, GError **error)
{
	int r = make_folder(c, SNAP_CATALOG_PRIVATE, error);

	if (r < 0)
		return r;
	r = take_lock(c, holder, error);
	if (r < 0)
		return r;
	r = make_folder(c, SNAP_CATALOG_TMP, error);
	if (r < 0)
		return r;
	c->tmp_fd = openat(c->fd, SNAP_CATALOG_TMP,
			   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (c->tmp_fd < 0 ||
	    faccessat(c->tmp_fd, ".", W_OK | X_OK, AT_EACCESS) < 0 ||
	    faccessat(c->fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		return snap_fail_errno(error, errno,
				       "store %s cannot be written", c->path);
	snap_temporary_clear(c->fd, c->tmp_fd);
	return 0;
}

int snap_catalog_open(const char *path, bool read_only, const char *holder,
		      SnapCatalog **ret_catalog, GError **error)
{
	g_autoptr(SnapCatalog) c = g_new0(SnapCatalog, 1);
	int r;

	c->path = g_strdup(path);
	c->read_only = read_only;
	c->tmp_fd = c->lock_fd = -1;
	c->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->fd < 0 && errno == ENOTDIR)
		return snap_fail(error, ENOTDIR, "store %s is not a folder",
				 path);
	if (c->fd < 0)
		return snap_fail_errno(error, errno,
				       "store %s cannot be opened", path);
	r = read_only ? 0 : open_to_write(c, holder, error);
	if (r < 0)
		return r;
	*ret_catalog = g_steal_pointer(&c);
	return 0;
}

int snap_catalog_find(int folder_fd, SnapReader **ret_reader, GError **error)
{
	int fd = snap_catalog_open_file(folder_fd, SNAP_CATALOG_SNAPSHOT, NULL,
					error);

	return fd < 0 ? fd
		      : snap_reader_open(snap_file_wrap(fd), ret_reader, error);
}

int snap_catalog_create(SnapCatalog *c, const char *path,
			const struct snap_catalog_owner *owner,
			SnapFile **ret_file, SnapFile **ret_scratch,
			GError **error)
{
	g_autoptr(SnapFile) file = NULL;
	int r;

	if (c->read_only)
		return snap_fail(error, EROFS, "store %s is read-only",
				 c->path);
	r = snap_temporary_create(c->tmp_fd, path, owner, &file);
	if (r == 0 && ret_scratch)
		r = snap_file_scratch(c->tmp_fd, ret_scratch);
	if (r < 0)
		return snap_fail_errno(error, -r,
				       "store %s: cannot make a file for %s",
				       c->path, *path ? path : ".");
	*ret_file = g_steal_pointer(&file);
	return 0;
}
