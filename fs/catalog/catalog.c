/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A store: opens it, finds and creates single snapshots. */
#include "fs/catalog/catalog-internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"

struct SnapCatalog {
	char *path;
	bool read_only;
	int fd;
	int tmp_fd;	  /* -1 when read-only */
	int lock_fd;	  /* -1 when read-only */
	bool lock_may_go; /* the server may give it to another host */
	SnapLayers *layers;
};

void snap_catalog_free(SnapCatalog *c)
{
	if (!c)
		return;
	snap_layers_free(c->layers);
	snap_close_fd(&c->tmp_fd);
	/* The folder's lock first: who gets the other one then gets both. */
	snap_close_fd(&c->fd);
	if (c->lock_fd >= 0)
		snap_lock_drop(c->lock_fd);
	g_free(c->path);
	g_free(c);
}

int snap_catalog_check_lock(const SnapCatalog *c, GError **error)
{
	int r = c->lock_may_go ? snap_lock_check(c->lock_fd) : 0;

	return r < 0 ? snap_fail_errno(error, -r,
				       "the lock of the store was lost, "
				       "another host may have taken it; "
				       "unmount the store here")
		     : 0;
}

SnapLayers *snap_catalog_layers(const SnapCatalog *c)
{
	return c->layers;
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

int snap_catalog_folder(const SnapCatalog *c, const char *path)
{
	return snap_catalog_descend(c->fd, path);
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

/* Opens the folder `name` of the folder `at`, which is made unless it exists. A
 * link in its place is not followed: it may lead out of the store. `shown` is
 * its path, for errors. Returns the descriptor. */
static int open_folder(SnapCatalog *c, int at, const char *name,
		       const char *shown, GError **error)
{
	int fd;

	if (mkdirat(at, name, 0755) < 0 && errno != EEXIST)
		return snap_fail_errno(error, errno,
				       "store %s cannot be written", c->path);
	fd = snap_open_below(at, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOTDIR || fd == -ELOOP)
		return snap_fail(error, ENOTDIR,
				 "store %s: %s exists and is not a folder",
				 c->path, shown);
	return fd < 0 ? snap_fail_errno(error, -fd, "store %s: %s", c->path,
					shown)
		      : fd;
}

static bool may_write(int folder_fd)
{
	return faccessat(folder_fd, ".", W_OK | X_OK, AT_EACCESS) == 0;
}

/* Does the part of opening that only a writer needs. Each name is looked up
 * once: who may write to the store may exchange it afterwards. */
static int open_to_write(SnapCatalog *c, const char *holder, GError **error)
{
	snap_autofd int private_fd = open_folder(c, c->fd, SNAP_CATALOG_PRIVATE,
						 SNAP_CATALOG_PRIVATE, error);

	if (private_fd < 0)
		return private_fd;
	c->lock_fd = snap_lock_take(c->path, c->fd, private_fd, holder, error);
	if (c->lock_fd < 0)
		return c->lock_fd;
	c->lock_may_go = snap_lock_may_go(c->lock_fd);
	c->tmp_fd = open_folder(c, private_fd, "tmp", SNAP_CATALOG_TMP, error);
	if (c->tmp_fd < 0)
		return c->tmp_fd;
	if (!may_write(c->tmp_fd) || !may_write(c->fd))
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
	c->layers = snap_layers_new();
	c->read_only = read_only;
	c->tmp_fd = c->lock_fd = -1;
	c->fd = snap_open_named(path, O_RDONLY | O_DIRECTORY, 0);
	if (c->fd == -ENOTDIR)
		return snap_fail(error, ENOTDIR, "store %s is not a folder",
				 path);
	if (c->fd < 0)
		return snap_fail_errno(error, -c->fd,
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
	if (r == -ENOENT)
		return snap_fail(error, ENOENT,
				 "store %s: its folder " SNAP_CATALOG_TMP
				 " was removed while the store is in use; "
				 "unmount it and mount it again",
				 c->path);
	if (r < 0)
		return snap_fail_errno(error, -r,
				       "store %s: cannot make a file for %s",
				       c->path, *path ? path : ".");
	*ret_file = g_steal_pointer(&file);
	return 0;
}
