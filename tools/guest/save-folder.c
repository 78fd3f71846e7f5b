/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/guest/save-folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "tools/cli/print.h"
#include "tools/store/place.h"

#define VALUE_MAX 4096 /* bytes of an attribute */
/* How long the snapshot may take to appear after QEMU has written it. */
#define COMMIT_SECONDS 600
#define STEP (10 * G_TIME_SPAN_MILLISECOND)
/* After a failure, QEMU closes its file a moment later, and the mount hears of
 * a close a moment later. */
#define UNDO_STEPS 200

void snap_save_folder_free(SnapSaveFolder *f)
{
	if (!f)
		return;
	g_free(f->path);
	g_free(f->old_uuid);
	g_free(f->target);
	g_ptr_array_unref(f->made);
	g_free(f);
}

char *snap_folder_attribute(const char *path, const char *name)
{
	g_autofree char *whole = g_strconcat("user.snapfs.", name, NULL);
	char value[VALUE_MAX + 1];
	ssize_t n = getxattr(path, whole, value, VALUE_MAX);

	if (n < 0)
		return NULL;
	value[n] = '\0';
	return snap_print_safe(value);
}

static bool has(const SnapSaveFolder *f, const char *name)
{
	g_autofree char *path = g_build_filename(f->path, name, NULL);

	return access(path, F_OK) == 0;
}

/* ---- opening ---- */

/* Makes a folder and those above it that are missing. */
static int make_folder(SnapSaveFolder *f, const char *path, GError **error)
{
	g_autofree char *up = NULL;
	int r;

	if (access(path, F_OK) == 0)
		return 0;
	if (errno != ENOENT)
		return snap_fail_errno(error, errno, "%s", path);
	up = g_path_get_dirname(path);
	r = make_folder(f, up, error);
	if (r < 0)
		return r;
	if (mkdir(path, 0777) == 0)
		g_ptr_array_add(f->made, g_strdup(path));
	else if (errno != EEXIST)
		return snap_fail_errno(error, errno, "%s", path);
	return 0;
}

/* Tells whether what is made must be given to the user who runs QEMU. */
static bool is_for_another(const struct snap_qmp_peer *qemu)
{
	return geteuid() == 0 && qemu->uid != 0;
}

static int give_folders(SnapSaveFolder *f, const struct snap_qmp_peer *qemu,
			GError **error)
{
	/* The inner one first: who has the outer one may exchange it. */
	for (guint i = f->made->len; is_for_another(qemu) && i; i--) {
		const char *path = f->made->pdata[i - 1];
		snap_autofd int fd = open(path, O_RDONLY | O_DIRECTORY |
							O_NOFOLLOW | O_CLOEXEC);

		if (fd < 0 || fchown(fd, qemu->uid, qemu->gid) < 0)
			return snap_fail_errno(error, errno, "%s", path);
	}
	return 0;
}

static int check_place(SnapSaveFolder *f, GError **error)
{
	g_autoptr(SnapPlace) place = NULL;
	int r = snap_place_find(f->path, &place, error);
	struct stat st;

	if (r < 0)
		return r;
	if (stat(f->path, &st) < 0 || !S_ISDIR(st.st_mode))
		return snap_fail_errno(error, ENOTDIR, "%s", f->path);
	f->mounted = place->mount;
	if (!f->mounted && place->is_store)
		return snap_fail(error, EINVAL,
				 "%s is in the store %s itself; save into a "
				 "mount of the store",
				 f->path, place->store);
	return 0;
}

static int check_snapshot(SnapSaveFolder *f, bool replace, GError **error)
{
	g_autofree char *stream = g_build_filename(f->path, "stream", NULL);

	/* In a mount, `stream` can be opened in every snapshot. A copy of a
	 * snapshot elsewhere may lack it. */
	f->replaces = has(f, "stream") ||
		      (!f->mounted && (has(f, "ram") || has(f, "devstate")));
	f->old_uuid = snap_folder_attribute(f->path, "uuid");
	f->target = f->mounted ? g_strdup(stream)
			       : g_strconcat(stream, ".part", NULL);
	if (!replace && f->replaces)
		return snap_fail(error, EEXIST,
				 "%s holds a snapshot; --force replaces it",
				 f->path);
	return 0;
}

int snap_save_folder_open(const char *path, bool replace,
			  const struct snap_qmp_peer *qemu,
			  SnapSaveFolder **ret_folder, GError **error)
{
	g_autoptr(SnapSaveFolder) f = g_new0(SnapSaveFolder, 1);
	g_autofree char *whole = g_canonicalize_filename(path, NULL);
	int r;

	f->made = g_ptr_array_new_with_free_func(g_free);
	r = make_folder(f, whole, error);
	if (r == 0) {
		g_autofree char *real = realpath(whole, NULL);

		f->path = g_strdup(real ? real : whole);
		r = check_place(f, error);
	}
	if (r == 0)
		r = give_folders(f, qemu, error);
	if (r == 0)
		r = check_snapshot(f, replace, error);
	if (r < 0) {
		snap_save_folder_undo(f);
		return r;
	}
	*ret_folder = g_steal_pointer(&f);
	return 0;
}

/* ---- the file ---- */

/* Gives a new file to the user who runs QEMU, as if QEMU had made it. */
static int give_file(int folder, int file, const struct snap_qmp_peer *qemu)
{
	struct stat st;

	if (fstat(folder, &st) < 0)
		return -errno;
	/* In a folder with that bit, the group is that of the folder. */
	if (fchown(file, qemu->uid,
		   st.st_mode & S_ISGID ? (gid_t)-1 : qemu->gid) < 0)
		return -errno;
	return 0;
}

int snap_save_folder_file(SnapSaveFolder *f, const struct snap_qmp_peer *qemu,
			  int *ret_file, GError **error)
{
	g_autofree char *name = g_path_get_basename(f->target);
	/* Another user may have put a link there. */
	int flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
	snap_autofd int folder =
		open(f->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	snap_autofd int file = -1;
	int r = 0;

	if (folder < 0)
		return snap_fail_errno(error, errno, "%s", f->path);
	if (!f->mounted) {
		unlinkat(folder, name, 0);
		flags |= O_EXCL;
	}
	/* The mode is that of a file that QEMU makes. */
	file = openat(folder, name, flags, 0600);
	/* Without the cut, the first bytes would change an old preamble. */
	if (file < 0 || ftruncate(file, 0) < 0)
		r = -errno;
	else if (is_for_another(qemu) && !(f->mounted && f->replaces))
		r = give_file(folder, file, qemu);
	if (r < 0)
		return snap_fail_errno(error, -r, "%s", f->target);
	*ret_file = snap_steal_fd(&file);
	return 0;
}

int snap_save_folder_leave(SnapSaveFolder *f, const struct snap_qmp_peer *qemu,
			   GError **error)
{
	if (qemu->version < SNAP_QEMU_WITH_FILE)
		return snap_fail(error, EOPNOTSUPP,
				 "QEMU %s can only save into a pipe, which "
				 "this socket does not pass on; give QEMU -qmp "
				 "unix:PATH,server=on,wait=off",
				 qemu->version_text);
	if (strstr(f->target, ",offset="))
		return snap_fail(error, EINVAL,
				 "%s: QEMU would take \",offset=\" for an "
				 "option",
				 f->path);
	f->by_qemu = true;
	return 0;
}

/* ---- the end of the save ---- */

/* Removes the files of an older snapshot, a copy, that lies beside the new
 * stream. */
static void remove_old_parts(int folder)
{
	static const char *const parts[] = { "devstate", "ram", "mapped",
					     "preamble", "hot" };

	for (guint i = 0; i < G_N_ELEMENTS(parts); i++)
		unlinkat(folder, parts[i], 0);
}

/* Makes what QEMU has written by itself durable. */
static int sync_plain(SnapSaveFolder *f, GError **error)
{
	snap_autofd int fd = open(f->target, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return snap_fail_errno(error, errno, "%s", f->target);
	return 0;
}

static int publish_plain(SnapSaveFolder *f, GError **error)
{
	g_autofree char *name = g_build_filename(f->path, "stream", NULL);
	snap_autofd int folder =
		open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (folder < 0 || rename(f->target, name) < 0)
		return snap_fail_errno(error, errno, "%s", name);
	if (f->replaces)
		remove_old_parts(folder);
	r = snap_sync_folder(folder);
	return r < 0 ? snap_fail_errno(error, -r, "%s", f->path) : 0;
}

/* Waits for the snapshot whose stream QEMU has written by itself. */
static int await_snapshot(SnapSaveFolder *f, GError **error)
{
	gint64 end = g_get_monotonic_time() + COMMIT_SECONDS * G_USEC_PER_SEC;

	while (g_get_monotonic_time() < end) {
		g_autofree char *uuid = snap_folder_attribute(f->path, "uuid");
		g_autofree char *why = snap_folder_attribute(f->path, "error");

		if (uuid && g_strcmp0(uuid, f->old_uuid))
			return 0;
		if (why)
			return snap_fail(error, EIO, "%s: %s", f->path, why);
		g_usleep(STEP);
	}
	return snap_fail(error, ETIMEDOUT,
			 "%s: QEMU has written the snapshot, but it does not "
			 "appear",
			 f->path);
}

int snap_save_folder_commit(SnapSaveFolder *f, GError **error)
{
	int r = 0;

	if (f->by_qemu)
		r = f->mounted ? await_snapshot(f, error)
			       : sync_plain(f, error);
	return r == 0 && !f->mounted ? publish_plain(f, error) : r;
}

void snap_save_folder_undo(SnapSaveFolder *f)
{
	if (f->target && !f->mounted)
		unlink(f->target);
	while (f->made->len) {
		const char *path = f->made->pdata[f->made->len - 1];

		for (guint i = 0; i < UNDO_STEPS && rmdir(path) < 0 &&
				  (errno == ENOTEMPTY || errno == EBUSY);
		     i++)
			g_usleep(STEP);
		g_ptr_array_set_size(f->made, (gint)f->made->len - 1);
	}
}

char *snap_save_folder_reason(const SnapSaveFolder *f)
{
	return f->mounted ? snap_folder_attribute(f->path, "error") : NULL;
}

uint64_t snap_save_folder_size(const SnapSaveFolder *f)
{
	g_autofree char *physical = snap_folder_attribute(f->path, "physical");
	g_autofree char *stream = g_build_filename(f->path, "stream", NULL);
	struct stat st;

	if (physical)
		return g_ascii_strtoull(physical, NULL, 10);
	return stat(stream, &st) == 0 ? (uint64_t)st.st_size : 0;
}
