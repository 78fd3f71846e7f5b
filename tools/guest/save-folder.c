/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Root may save into a folder of another user, who can exchange names in it
 * while the save runs. So the folder is opened or made once, and from then on
 * its descriptor stands for it. Its path is for people, and for QEMU.
 */
#include "tools/guest/save-folder.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "format/base/asked.h"
#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "tools/cli/print.h"
#include "tools/guest/typed.h"
#include "tools/store/place.h"

#define VALUE_MAX 4096 /* bytes of an attribute */
/* How long the snapshot may take to appear after QEMU has written it. */
#define COMMIT_SECONDS 600
#define STEP (10 * G_TIME_SPAN_MILLISECOND)
/* After a failure, QEMU closes its file a moment later, and the mount hears of
 * a close a moment later. */
#define UNDO_STEPS 200

/* A folder that was made. */
struct made {
	int above; /* the folder that it was made in */
	char *name;
};

static void made_free(gpointer data)
{
	struct made *m = data;

	close(m->above);
	g_free(m->name);
	g_free(m);
}

void snap_save_folder_free(SnapSaveFolder *f)
{
	if (!f)
		return;
	snap_close_fd(&f->fd);
	g_free(f->path);
	g_free(f->old_uuid);
	g_free(f->target);
	g_ptr_array_unref(f->made);
	g_free(f);
}

/* The attribute of the file of a descriptor, or of `path`. */
static char *get_attribute(int fd, const char *path, const char *name)
{
	g_autofree char *whole = g_strconcat("user.snapfs.", name, NULL);
	char value[VALUE_MAX + 1];
	ssize_t n = path ? getxattr(path, whole, value, VALUE_MAX)
			 : fgetxattr(fd, whole, value, VALUE_MAX);

	if (n < 0)
		return NULL;
	value[n] = '\0';
	return snap_print_safe(value);
}

char *snap_folder_attribute(const char *path, const char *name)
{
	return get_attribute(-1, path, name);
}

char *snap_save_folder_attribute(const SnapSaveFolder *f, const char *name)
{
	return get_attribute(f->fd, NULL, name);
}

static bool has(const SnapSaveFolder *f, const char *name)
{
	return faccessat(f->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Tells whether a mount has a snapshot there, be it damaged. */
static bool has_snapshot(const SnapSaveFolder *f)
{
	g_autofree char *physical = snap_save_folder_attribute(f, "physical");

	return physical;
}

/* In a mount, `stream` is an ordinary file until a stream comes: an empty one
 * is of nobody. */
static bool has_empty_stream(const SnapSaveFolder *f)
{
	struct stat st;

	return !has_snapshot(f) &&
	       fstatat(f->fd, "stream", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISREG(st.st_mode) && st.st_size == 0;
}

/* The name of the file that the stream is written to. */
static const char *target_name(const SnapSaveFolder *f)
{
	return f->mounted ? "stream" : "stream.part";
}

/* ---- opening ---- */

/* Tells whether what is made must be given to the user who runs QEMU. */
static bool is_for_another(const struct snap_qmp_peer *qemu)
{
	return geteuid() == 0 && qemu->uid != 0;
}

/* The user who runs QEMU, as the owner of what is made in a folder; -1 where it
 * shall be this process. In a folder with the set-group-ID bit, the group is
 * that of the folder. */
static void set_owner(int folder, const struct snap_qmp_peer *qemu,
		      struct snap_new *what)
{
	struct stat st;

	what->uid = (uid_t)-1;
	what->gid = (gid_t)-1;
	if (!is_for_another(qemu))
		return;
	what->uid = qemu->uid;
	if (fstat(folder, &st) == 0 && !(st.st_mode & S_ISGID))
		what->gid = qemu->gid;
}

/* Makes the folder `path` in the one above it. Returns its descriptor. */
static int make_folder(SnapSaveFolder *f, int above, const char *path,
		       const struct snap_qmp_peer *qemu, GError **error)
{
	g_autofree char *name = g_path_get_basename(path);
	struct snap_new what;
	mode_t mask = umask(0);
	struct made *made;
	int fd;

	umask(mask);
	what = (struct snap_new){ .mode = S_IFDIR | (0777 & ~mask) };
	set_owner(above, qemu, &what);
	fd = snap_make_below(above, name, &what);
	if (fd == -EEXIST)
		fd = snap_open_below(above, name, O_PATH | O_DIRECTORY, 0);
	else if (fd >= 0) {
		made = g_new(struct made, 1);
		made->above = fcntl(above, F_DUPFD_CLOEXEC, 0);
		made->name = g_steal_pointer(&name);
		g_ptr_array_add(f->made, made);
	}
	if (fd == -ESTALE)
		return snap_fail(error, ESTALE,
				 "%s: another user has put something in its "
				 "place while it was made",
				 path);
	return fd < 0 ? snap_fail_errno(error, -fd, "%s", path) : fd;
}

/* Opens a folder; makes it, and those above it, if they are missing. Returns an
 * O_PATH descriptor. */
static int open_or_make(SnapSaveFolder *f, const char *path,
			const struct snap_qmp_peer *qemu, GError **error)
{
	g_autofree char *up = NULL;
	g_autoptr(GError) cause = NULL;
	snap_autofd int above = -1;
	int fd = snap_typed_open(path, &cause);

	if (fd >= 0)
		return fd;
	if (fd != -ENOENT) {
		g_propagate_error(error, g_steal_pointer(&cause));
		return fd;
	}
	up = g_path_get_dirname(path);
	above = open_or_make(f, up, qemu, error);
	return above < 0 ? above : make_folder(f, above, path, qemu, error);
}

static int open_folder(SnapSaveFolder *f, const char *path,
		       const struct snap_qmp_peer *qemu, GError **error)
{
	snap_autofd int fd = open_or_make(f, path, qemu, error);
	char proc[SNAP_PROC_PATH];

	if (fd < 0)
		return fd;
	f->fd = snap_open_folder(fd);
	if (f->fd < 0)
		return snap_fail_errno(error, -f->fd, "%s", path);
	snap_proc_path(proc, f->fd);
	f->path = g_file_read_link(proc, NULL);
	if (!f->path)
		f->path = g_strdup(path);
	return 0;
}

static bool is_on_fuse(int fd)
{
	struct statfs st;

	return fstatfs(fd, &st) == 0 && st.f_type == FUSE_SUPER_MAGIC;
}

static int check_place(SnapSaveFolder *f, GError **error)
{
	g_autoptr(SnapPlace) place = NULL;
	int r = snap_place_find(f->path, &place, error);

	if (r < 0)
		return r;
	/* The path may lead elsewhere by now. */
	f->mounted = place->mount && is_on_fuse(f->fd);
	if (!f->mounted && place->is_store)
		return snap_fail(error, EINVAL,
				 "%s is in the store %s itself; save into a "
				 "mount of the store",
				 f->path, place->store);
	return 0;
}

static int check_snapshot(SnapSaveFolder *f, bool replace, GError **error)
{
	/* In a mount, `stream` can be opened in every snapshot. A copy of a
	 * snapshot elsewhere may lack it. */
	f->replaces = f->mounted ? has(f, "stream") && !has_empty_stream(f)
				 : has(f, "stream") || has(f, "ram") ||
					   has(f, "devstate");
	f->old_uuid = snap_save_folder_attribute(f, "uuid");
	f->target = g_build_filename(f->path, target_name(f), NULL);
	if (!replace && f->replaces)
		return snap_fail(error, EEXIST,
				 f->mounted && !has_snapshot(f)
					 ? "%s holds an unfinished stream; "
					   "--force replaces it"
					 : "%s holds a snapshot; --force "
					   "replaces it",
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

	f->fd = -1;
	f->made = g_ptr_array_new_with_free_func(made_free);
	r = open_folder(f, whole, qemu, error);
	if (r == 0)
		r = check_place(f, error);
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

int snap_save_folder_file(SnapSaveFolder *f, const struct snap_qmp_peer *qemu,
			  int *ret_file, GError **error)
{
	int flags = O_WRONLY | O_CREAT;
	snap_autofd int file = -1;
	struct snap_new like;
	struct stat st;
	int r;

	/* A new file: another user may have put any there. */
	if (!f->mounted) {
		unlinkat(f->fd, target_name(f), 0);
		flags |= O_EXCL;
	}
	/* The mode is that of a file that QEMU makes. */
	r = file = snap_open_below(f->fd, target_name(f), flags, 0600);
	if (r >= 0 && fstat(file, &st) < 0)
		r = -errno;
	if (r >= 0 && !S_ISREG(st.st_mode))
		r = -EINVAL;
	/* Without the cut, the first bytes would change an old preamble. */
	if (r >= 0 && ftruncate(file, 0) < 0)
		r = -errno;
	if (r >= 0 && is_for_another(qemu) && !(f->mounted && f->replaces)) {
		set_owner(f->fd, qemu, &like);
		r = snap_set_owner(file, like.uid, like.gid);
	}
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
static void remove_old_parts(const SnapSaveFolder *f)
{
	static const char *const parts[] = { "devstate", "ram", "mapped",
					     "preamble", "hot" };

	for (guint i = 0; i < G_N_ELEMENTS(parts); i++)
		unlinkat(f->fd, parts[i], 0);
}

/* Makes what QEMU has written by itself durable. */
static int sync_plain(SnapSaveFolder *f, GError **error)
{
	snap_autofd int fd = snap_open_regular(f->fd, target_name(f), NULL);
	int r = fd < 0 ? fd : 0;

	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r < 0 ? snap_fail_errno(error, -r, "%s", f->target) : 0;
}

static int publish_plain(SnapSaveFolder *f, GError **error)
{
	int r;

	if (renameat(f->fd, target_name(f), f->fd, "stream") < 0)
		return snap_fail_errno(error, errno, "%s/stream", f->path);
	if (f->replaces)
		remove_old_parts(f);
	r = snap_sync_folder(f->fd);
	return r < 0 ? snap_fail_errno(error, -r, "%s", f->path) : 0;
}

/* Waits for the snapshot whose stream QEMU has written by itself. */
static int await_snapshot(SnapSaveFolder *f, GError **error)
{
	gint64 end = g_get_monotonic_time() + COMMIT_SECONDS * G_USEC_PER_SEC;

	while (g_get_monotonic_time() < end) {
		g_autofree char *uuid = snap_save_folder_attribute(f, "uuid");
		g_autofree char *why = snap_save_folder_attribute(f, "error");

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

/* Removes the file that no stream came into; in a mount, what has bytes is not
 * of this save, or goes by itself. */
static void remove_file(const SnapSaveFolder *f)
{
	if (f->target && (!f->mounted || (!f->replaces && has_empty_stream(f))))
		unlinkat(f->fd, target_name(f), 0);
}

void snap_save_folder_undo(SnapSaveFolder *f)
{
	remove_file(f);
	/* Where no byte has come: the next save did not ask for it. */
	if (f->has_parent)
		(void)fremovexattr(f->fd, SNAP_PARENT_ATTRIBUTE);
	while (f->made->len) {
		const struct made *m = f->made->pdata[f->made->len - 1];

		for (guint i = 0;
		     i < UNDO_STEPS &&
		     unlinkat(m->above, m->name, AT_REMOVEDIR) < 0 &&
		     (errno == ENOTEMPTY || errno == EBUSY);
		     i++) {
			g_usleep(STEP);
			remove_file(f);
		}
		g_ptr_array_set_size(f->made, (gint)f->made->len - 1);
	}
}

char *snap_save_folder_reason(const SnapSaveFolder *f)
{
	return f->mounted ? snap_save_folder_attribute(f, "error") : NULL;
}

uint64_t snap_save_folder_size(const SnapSaveFolder *f)
{
	g_autofree char *physical = snap_save_folder_attribute(f, "physical");
	struct stat st;

	if (physical)
		return g_ascii_strtoull(physical, NULL, 10);
	return fstatat(f->fd, "stream", &st, AT_SYMLINK_NOFOLLOW) == 0
		       ? (uint64_t)st.st_size
		       : 0;
}
