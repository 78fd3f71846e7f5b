/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount.snapfs: connects the rooms and serves the mount.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "format/base/error.h"
#include "format/base/log.h"
#include "format/base/start.h"
#include "format/base/version.h"
#include "format/image/image.h"
#include "fs/calls/call.h"
#include "fs/catalog/catalog.h"
#include "fs/fuse/session.h"
#include "fs/load/pages.h"
#include "fs/mount/confine.h"
#include "fs/mount/disk-cache.h"
#include "fs/mount/options.h"
#include "fs/mount/outside.h"
#include "fs/mount/process.h"
#include "fs/save/save.h"
#include "fs/tree/tree.h"

/* What main() knows of the mount. */
struct mount {
	struct snap_mount_opts opts;
	char *store;	/* absolute */
	char *point;	/* absolute, as the kernel will list it */
	SnapNear *near; /* the disk cache, or NULL */
	int near_fd;	/* its folder (borrowed), or -1 */
	int tell;	/* a pipe to the parent process, or -1 */
	int errors;	/* a descriptor for errors during the start */
};

/* Prints why the start failed. */
static void complain(int fd, const GError *error)
{
	dprintf(fd, "mount.snapfs: %s\n", error->message);
}

static void print_version(void)
{
	static snap_library *const libraries[] = {
		snap_session_library,
		snap_codec_library,
		snap_file_library,
		snap_seccomp_library,
		NULL,
	};
	g_autofree char *text = snap_version("mount.snapfs", libraries);

	fputs(text, stdout);
}

/* Checks the mount point: it must be a folder outside the store, or the mount
 * would show itself. */
static int check_point(struct mount *m, GError **error)
{
	char *store = m->store, *point = realpath(m->opts.point, NULL);
	size_t length = strlen(store);
	struct statfs fs;
	struct stat st;

	/* stat(2) may answer from a cache for a mount whose program has ended;
	 * statfs(2) does not. */
	if (!point || stat(point, &st) < 0 || statfs(point, &fs) < 0) {
		int code = errno;

		free(point);
		if (code == ENOTCONN)
			return snap_fail(error, code,
					 "%s is a mount whose program has "
					 "ended; umount it first",
					 m->opts.point);
		return snap_fail_errno(error, code, "cannot mount at %s",
				       m->opts.point);
	}
	m->point = g_strdup(point);
	free(point);
	if (!S_ISDIR(st.st_mode))
		return snap_fail(error, ENOTDIR,
				 "cannot mount at %s: it is not a folder",
				 m->point);
	if (!strncmp(m->point, store, length) && m->point[length] == '/')
		return snap_fail(error, ELOOP,
				 "cannot mount at %s: it lies within the store",
				 m->point);
	return 0;
}

static int resolve_store(struct mount *m, GError **error)
{
	char *path = realpath(m->opts.store, NULL);

	if (!path)
		return snap_fail_errno(error, errno,
				       "store %s cannot be opened",
				       m->opts.store);
	m->store = g_strdup(path);
	free(path);
	return 0;
}

/* Called when the mount answers requests. */
static void on_ready(void *data)
{
	struct mount *m = data;

	snap_log(SNAP_LOG_INFO, "store %s is mounted at %s%s", m->store,
		 m->point, m->opts.read_only ? ", read-only" : "");
	if (m->tell >= 0)
		snap_process_detach(m->tell, m->errors, m->opts.log != NULL);
}

/* The mount is to end, and cannot: ends the process. The one outside unmounts.
 */
static void give_up(void)
{
	snap_outside_unmount_later();
	_exit(SNAP_MOUNT_SYSTEM);
}

/* Connects the rooms for an open store, and serves until the mount ends. */
static int serve(struct mount *m, SnapCatalog *catalog, SnapSession *session,
		 GError **error)
{
	struct snap_mount_opts *o = &m->opts;
	struct snap_saver_opts saver_opts = { .catalog = catalog,
					      .buffer = o->buffer,
					      .threads = (guint)o->threads,
					      .level = (int)o->level,
					      .increments = o->increments,
					      .idle = (guint)o->idle,
					      .timeout = (guint)o->timeout };
	struct snap_loader_opts loader_opts = { .cache = o->cache,
						.threads = (guint)o->threads,
						.near = m->near };
	g_autoptr(SnapSaver) saver =
		o->read_only ? NULL : snap_saver_new(&saver_opts);
	g_autoptr(SnapLoader) loader = snap_loader_new(&loader_opts);
	struct snap_tree_opts tree_opts = {
		.catalog = catalog,
		.saver = saver,
		.loader = loader,
		.point = m->point,
		.uid = (uid_t)o->uid,
		.gid = (gid_t)o->gid,
		.umask = (mode_t)o->umask,
		.open_proc = snap_outside_open_proc,
	};
	g_autoptr(SnapTree) tree = NULL;
	int r = snap_tree_new(&tree_opts, &tree, error);

	snap_calls_start();
	snap_catalog_collect_later(catalog);
	if (r == 0)
		r = snap_session_run(session, tree, error);
	/* An unmount does not wait for a walk through the store. */
	snap_catalog_collect_stop(catalog);
	snap_calls_stop();
	return r;
}

/* Mounts, gives up what only that needed, and serves. Until then there is one
 * thread. */
static int mount_store(struct mount *m, SnapCatalog *catalog, GError **error)
{
	struct snap_mount_opts *o = &m->opts;
	struct snap_session_opts session_opts = {
		.source = *o->store == '/' ? o->store : m->store,
		.point = m->point,
		.options = o->passed->str,
		.threads = (guint)o->max_threads,
		.max_read = (guint)o->max_read,
		.ready = on_ready,
		.data = m,
		.open_proc = snap_outside_open_proc,
		.unmount = snap_outside_unmount,
		.give_up = give_up,
	};
	struct snap_confine_opts confine = {
		.store_fd = snap_catalog_fd(catalog),
		.read_only = o->read_only,
		.cache_fd = m->near_fd,
		.debug = o->log_level == SNAP_LOG_DEBUG,
		.keep_caps = o->keep_caps,
		.keep_new_privs = o->keep_new_privs,
		.no_landlock = o->no_landlock,
		.no_seccomp = o->no_seccomp,
	};
	g_autoptr(SnapSession) session = NULL;
	int r = snap_outside_start(m->point, error);

	if (r == 0)
		r = snap_session_mount(&session_opts, &session, error);
	if (r < 0)
		return r;
	snap_outside_mounted();
	snap_confine(&confine);
	return serve(m, catalog, session, error);
}

static int run(struct mount *m, GError **error)
{
	g_autoptr(SnapCatalog) catalog = NULL;
	g_autofree char *holder = NULL;
	int r = resolve_store(m, error);

	/* Without -N, the mount point can be checked before the store is
	 * touched. */
	if (r == 0 && !m->opts.ns)
		r = check_point(m, error);
	if (r < 0)
		return r;
	holder = g_strdup_printf("mounted at %s",
				 m->point ? m->point : m->opts.point);
	r = snap_catalog_open(m->store, m->opts.read_only, holder, &catalog,
			      error);
	if (r == 0 && m->opts.increments && !m->opts.read_only)
		r = snap_catalog_can_link(catalog, error);
	if (r == 0 && m->opts.disk_cache)
		r = snap_disk_cache_open(&m->opts, m->store, &m->near_fd,
					 &m->near, error);
	if (r == 0 && m->opts.ns)
		r = snap_process_enter(m->opts.ns, error);
	if (r == 0 && m->opts.ns)
		r = check_point(m, error);
	if (r == 0 && m->tell >= 0 && chdir("/") < 0)
		r = snap_fail_errno(error, errno, "/");
	return r < 0 ? r : mount_store(m, catalog, error);
}

/* Runs from the command line to the end of the mount. Returns the exit code. */
static int mount_and_serve(struct mount *m, GError **error)
{
	int r = 0;

	if (!m->opts.foreground)
		r = snap_process_fork(&m->tell, error);
	if (r == 0)
		r = snap_process_prepare(&m->opts, &m->errors, error);
	if (r < 0)
		return SNAP_MOUNT_SYSTEM;
	return run(m, error) < 0 ? SNAP_MOUNT_FAILED : SNAP_MOUNT_OK;
}

static int command(struct mount *m, int argc, char **argv, GError **error)
{
	if (snap_options_parse(argc, argv, &m->opts, error) < 0)
		return SNAP_MOUNT_USAGE;
	if (m->opts.help) {
		snap_options_help();
		return SNAP_MOUNT_OK;
	}
	if (m->opts.version) {
		print_version();
		return SNAP_MOUNT_OK;
	}
	/* "mount -f" means: do everything except the mount itself. */
	if (m->opts.foreground && snap_process_from_mount())
		return SNAP_MOUNT_OK;
	return mount_and_serve(m, error);
}

int main(int argc, char **argv)
{
	struct mount m = { .tell = -1, .errors = 2, .near_fd = -1 };
	g_autoptr(GError) error = NULL;
	int code;

	if (snap_start() < 0)
		return SNAP_MOUNT_SYSTEM;
	code = command(&m, argc, argv, &error);

	if (error)
		complain(m.errors, error);
	snap_near_free(m.near);
	g_free(m.store);
	g_free(m.point);
	snap_options_clear(&m.opts);
	return code;
}
