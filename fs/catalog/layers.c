/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The files that increments use.
 *
 * STORE/.snapfs/layers/UUID.zst is a hard link to the file of a snapshot that
 * is some other snapshot's parent. So a parent may be removed or replaced like
 * any snapshot: its bytes stay until nothing uses them. Nothing is counted on
 * disk: what is in use is what all snapshots of the store list (collect.c).
 *
 * A link is durable before the snapshot that needs it is published. Until then
 * the save keeps it: kept files are not removed.
 */
#include "fs/catalog/catalog-internal.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"

/* A snapshot may be replaced while it is opened. */
#define TRIES 8

/* ---- the folder ---- */

/* Makes the folder of the layers, and with `sync` durably. */
static int make_folder(SnapCatalog *c, bool sync)
{
	snap_autofd int private_fd =
		snap_open_below(snap_catalog_fd(c), SNAP_CATALOG_PRIVATE,
				O_RDONLY | O_DIRECTORY, 0);
	int r;

	if (private_fd < 0)
		return private_fd;
	/* A parent's own folder may have kept others out. Nobody else may list
	 * the layers; who may read a child finds its parents by their names. */
	if (mkdirat(private_fd, "layers", 0711) < 0 && errno != EEXIST)
		return -errno;
	if (!sync)
		return 0;
	r = snap_sync_folder(private_fd);
	return r < 0 ? r : snap_sync_folder(snap_catalog_fd(c));
}

int snap_layers_open(SnapCatalog *c)
{
	return snap_open_below(snap_catalog_fd(c), SNAP_CATALOG_LAYERS,
			       O_RDONLY | O_DIRECTORY, 0);
}

int snap_catalog_can_link(SnapCatalog *c, GError **error)
{
	g_autofree char *name = g_uuid_string_random();
	g_autofree char *other = g_uuid_string_random();
	int tmp_fd = snap_catalog_tmp_fd(c), r = make_folder(c, true);
	snap_autofd int fd = -1;

	if (r < 0)
		return snap_fail_errno(error, -r,
				       "store %s: " SNAP_CATALOG_LAYERS,
				       snap_catalog_path(c));
	fd = snap_open_below(tmp_fd, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return snap_fail_errno(error, -fd, "store %s cannot be written",
				       snap_catalog_path(c));
	r = snap_link_below(fd, tmp_fd, other);
	unlinkat(tmp_fd, name, 0);
	unlinkat(tmp_fd, other, 0);
	if (r < 0)
		return snap_fail(error, EOPNOTSUPP,
				 "store %s: increments need hard links, which "
				 "its file system does not make: %s",
				 snap_catalog_path(c), g_strerror(-r));
	return 0;
}

/* ---- parents ---- */

/* Opens the file of a parent. The folder need not be readable for that. */
static int open_layer(SnapCatalog *c, const char *name, GError **error)
{
	snap_autofd int dirfd =
		snap_open_below(snap_catalog_fd(c), SNAP_CATALOG_LAYERS,
				O_PATH | O_DIRECTORY, 0);

	if (dirfd == -ENOTDIR)
		return snap_fail(error, EBADMSG,
				 SNAP_CATALOG_LAYERS " is not a folder");
	return dirfd < 0 ? dirfd
			 : snap_catalog_open_file(dirfd, name, NULL, error);
}

static int set_parent(SnapCatalog *c, SnapReader *reader, guint i,
		      GError **error)
{
	g_autoptr(GError) cause = NULL;
	char name[SNAP_CATALOG_LAYER_NAME];
	int r, fd;

	snap_catalog_layer_name(snap_reader_meta(reader)->layers[i].uuid, name);
	fd = open_layer(c, name, &cause);
	if (fd == -ENOENT)
		return snap_fail(
			error, ENOLINK,
			"it uses pages of another snapshot file, which "
			"is missing: " SNAP_CATALOG_LAYERS "/%s",
			name);
	if (fd < 0)
		return snap_fail(error, -fd, SNAP_CATALOG_LAYERS "/%s: %s",
				 name,
				 cause ? cause->message : g_strerror(-fd));
	r = snap_reader_set_layer(reader, i, snap_file_wrap(fd), error);
	return snap_fail_prefix(error, r, SNAP_CATALOG_LAYERS "/%s", name);
}

int snap_catalog_set_parents(SnapCatalog *c, SnapReader *reader, GError **error)
{
	guint n = snap_reader_meta(reader)->n_layers;
	int r = 0;

	for (guint i = 0; r == 0 && i < n; i++)
		r = set_parent(c, reader, i, error);
	return r;
}

/* The snapshot lacks a parent: is that because it is gone itself? */
static int check_gone(int folder_fd, int snapshot_fd, GError **error)
{
	int r = snap_catalog_check_present(folder_fd, snapshot_fd);

	if (r != -ESTALE && r != -ENOENT)
		return -ENOLINK;
	g_clear_error(error);
	return snap_fail_errno(error, -r, SNAP_CATALOG_SNAPSHOT);
}

int snap_catalog_read(SnapCatalog *c, int folder_fd, int snapshot_fd,
		      SnapReader **ret_reader, GError **error)
{
	g_autoptr(SnapReader) reader = NULL;
	struct stat st;
	int r, fd;

	if (fstat(snapshot_fd, &st) == 0 && !S_ISREG(st.st_mode))
		return snap_catalog_fail_kind(error, SNAP_CATALOG_SNAPSHOT,
					      st.st_mode);
	fd = snap_open_again(snapshot_fd, O_RDONLY);
	if (fd < 0)
		return snap_fail_errno(error, -fd, SNAP_CATALOG_SNAPSHOT);
	r = snap_reader_open(snap_file_wrap(fd), &reader, error);
	if (r == 0)
		r = snap_catalog_set_parents(c, reader, error);
	if (r == -ENOLINK)
		r = check_gone(folder_fd, snapshot_fd, error);
	if (r == 0)
		*ret_reader = g_steal_pointer(&reader);
	return r;
}

int snap_catalog_find_whole(SnapCatalog *c, int folder_fd,
			    SnapReader **ret_reader, GError **error)
{
	int r = -ESTALE;

	for (guint i = 0; i < TRIES && r == -ESTALE; i++) {
		snap_autofd int fd = -1;

		g_clear_error(error);
		r = fd = snap_catalog_open_file(
			folder_fd, SNAP_CATALOG_SNAPSHOT, NULL, error);
		if (r >= 0)
			r = snap_catalog_read(c, folder_fd, fd, ret_reader,
					      error);
	}
	return r;
}

/* Is the layer `name` the very file that is kept? 1, 0 or -errno. */
static int is_kept(int dirfd, const char *name, const SnapKept *kept)
{
	struct stat own, st;

	if (fstat(snap_kept_fd(kept), &own) < 0 ||
	    fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return st.st_dev == own.st_dev && st.st_ino == own.st_ino;
}

static bool is_same_layer(const SnapReader *a, const SnapReader *b)
{
	struct snap_layer one = snap_reader_as_layer(a);
	struct snap_layer two = snap_reader_as_layer(b);

	return !memcmp(one.uuid, two.uuid, sizeof(one.uuid)) &&
	       one.size == two.size && one.crc32c == two.crc32c;
}

/* Opens the layer `name`, which must be a copy of the file that is kept: the
 * same bytes, of the same user. */
static int open_copy(SnapCatalog *c, int dirfd, const char *name,
		     const SnapKept *kept, const SnapReader *reader,
		     SnapReader **ret_copy, GError **error)
{
	g_autoptr(SnapReader) copy = NULL;
	struct stat own, st;
	int r, fd = snap_catalog_open_file(dirfd, name, &st, error);

	if (fd < 0)
		return fd;
	r = snap_reader_open(snap_file_wrap(fd), &copy, error);
	if (r < 0)
		return r;
	if (fstat(snap_kept_fd(kept), &own) < 0)
		return snap_fail_errno(error, errno, SNAP_CATALOG_SNAPSHOT);
	if (!is_same_layer(copy, reader))
		return snap_fail(error, EEXIST, "another file has that uuid");
	if (st.st_uid != own.st_uid)
		return snap_fail(error, EPERM, "it is another user's");
	r = snap_catalog_set_parents(c, copy, error);
	if (r == 0)
		*ret_copy = g_steal_pointer(&copy);
	return r;
}

/* The layer `name` is there already. A file that is not the right one stays:
 * other snapshots may use it. */
static int take_layer(SnapCatalog *c, int dirfd, const char *name,
		      const SnapKept *kept, SnapReader **reader, GError **error)
{
	SnapReader *copy = NULL;
	int r = is_kept(dirfd, name, kept);

	if (r < 0)
		return snap_fail_errno(error, -r, SNAP_CATALOG_LAYERS "/%s",
				       name);
	if (r > 0)
		return 0;
	/* In a store that was copied without its hard links. */
	r = open_copy(c, dirfd, name, kept, *reader, &copy, error);
	if (r < 0)
		return snap_fail_prefix(error, r, SNAP_CATALOG_LAYERS "/%s",
					name);
	snap_reader_free(*reader);
	*reader = copy;
	return 0;
}

int snap_catalog_link(SnapCatalog *c, const SnapKept *kept, SnapReader **reader,
		      GError **error)
{
	char name[SNAP_CATALOG_LAYER_NAME];
	snap_autofd int dirfd = -1;
	int r = make_folder(c, false);

	if (r == 0)
		r = dirfd = snap_layers_open(c);
	if (r < 0)
		return snap_fail_errno(error, -r, SNAP_CATALOG_LAYERS);
	snap_catalog_layer_name(snap_reader_meta(*reader)->uuid, name);
	r = snap_link_below(snap_kept_fd(kept), dirfd, name);
	if (r == -EEXIST)
		return take_layer(c, dirfd, name, kept, reader, error);
	if (r < 0)
		return snap_fail_errno(error, -r, "it cannot be linked");
	return 0;
}

int snap_catalog_sync_links(SnapCatalog *c)
{
	snap_autofd int dirfd = snap_layers_open(c);
	int r = dirfd < 0 ? dirfd : snap_sync_folder(dirfd);

	/* The folder too: who made it may not have come so far. */
	return r < 0 ? r : make_folder(c, true);
}

int snap_catalog_keep(SnapCatalog *c, int folder_fd, uid_t uid,
		      SnapReader **ret_reader, SnapKept **ret_kept,
		      GError **error)
{
	g_autoptr(SnapReader) reader = NULL;
	g_autoptr(SnapKept) kept = NULL;
	const struct snap_meta *meta;
	struct stat st;
	snap_autofd int fd = snap_catalog_open_file(
		folder_fd, SNAP_CATALOG_SNAPSHOT, &st, error);
	int own, r;

	if (fd < 0)
		return fd;
	if (uid != (uid_t)-1 && st.st_uid != uid)
		return snap_fail(error, EPERM, "it is another user's");
	own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0)
		return snap_fail_errno(error, errno, SNAP_CATALOG_SNAPSHOT);
	r = snap_reader_open(snap_file_wrap(own), &reader, error);
	if (r < 0)
		return r;
	meta = snap_reader_meta(reader);
	kept = snap_kept_new(snap_catalog_layers(c), snap_steal_fd(&fd));
	snap_kept_add(kept, meta->uuid);
	for (guint i = 0; i < meta->n_layers; i++)
		snap_kept_add(kept, meta->layers[i].uuid);
	r = snap_catalog_set_parents(c, reader, error);
	if (r < 0)
		return r;
	*ret_reader = g_steal_pointer(&reader);
	*ret_kept = g_steal_pointer(&kept);
	return 0;
}
