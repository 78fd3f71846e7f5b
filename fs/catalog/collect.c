/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Removes the layers that no snapshot uses any more.
 *
 * In use is what the snapshots of the store list, all of them. If one of them,
 * or a folder, cannot be read, nothing is removed. Only the process that may
 * write to the store removes layers, and a process that has one open can still
 * read it.
 *
 * A snapshot that is moved while the folders are walked may be missed. So moves
 * through the mount void a walk, and nothing is removed after a single walk:
 * whatever moves once is seen by one of two.
 *
 * A crash must not undo the removal of a snapshot, and keep that of its parent.
 * So all that happened is made durable before a layer is removed.
 */
#include "fs/catalog/catalog-internal.h"

#include <dirent.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "format/base/log.h"

#define WALKS 2
#define TRIES 3

struct collection {
	SnapCatalog *catalog;
	SnapLayers *layers;
	int dirfd;
	guint moves;	  /* before the first walk */
	GPtrArray *names; /* of all layers */
	GHashTable *used;
	GError **error;
};

/* ---- moves ---- */

void snap_catalog_move_begin(SnapCatalog *c)
{
	SnapLayers *l = snap_catalog_layers(c);
	SNAP_LOCKED(&l->lock);

	l->moving++;
}

void snap_catalog_move_end(SnapCatalog *c)
{
	SnapLayers *l = snap_catalog_layers(c);
	SNAP_LOCKED(&l->lock);

	l->moving--;
	l->moves++;
}

/* ---- the end ---- */

void snap_catalog_collect_stop(SnapCatalog *c)
{
	g_atomic_int_set(&snap_catalog_layers(c)->stopping, 1);
}

static int check_stopping(const struct collection *co, GError **error)
{
	if (!g_atomic_int_get(&co->layers->stopping))
		return 0;
	return snap_fail(error, ECANCELED, "the store is being closed");
}

/* ---- what is there, what is in use ---- */

/* Lists the layers; nothing where there are none. */
static int list_names(int dirfd, GPtrArray *names)
{
	int fd = snap_open_folder(dirfd);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	int r;

	if (!dir) {
		r = fd < 0 ? fd : -errno;
		snap_close_fd(&fd);
		return r;
	}
	while ((errno = 0, d = readdir(dir)) != NULL)
		if (snap_catalog_is_layer_name(d->d_name))
			g_ptr_array_add(names, g_strdup(d->d_name));
	r = -errno;
	closedir(dir);
	return r;
}

/* *co->error may have been set by the walk, for another folder. */
static int note_used(const char *path, int folder_fd, void *data)
{
	struct collection *co = data;
	g_autoptr(GError) error = NULL;
	g_autoptr(SnapReader) reader = NULL;
	const struct snap_meta *meta;
	int r = check_stopping(co, &error);

	if (r == 0)
		r = snap_catalog_find(folder_fd, &reader, &error);
	if (r == -ENOENT) /* it was removed a moment ago */
		return 0;
	if (r < 0 && !*co->error)
		g_propagate_prefixed_error(co->error, g_steal_pointer(&error),
					   "%s: ", *path ? path : ".");
	if (r < 0)
		return r;
	meta = snap_reader_meta(reader);
	for (guint i = 0; i < meta->n_layers; i++) {
		char name[SNAP_CATALOG_LAYER_NAME];

		snap_catalog_layer_name(meta->layers[i].uuid, name);
		g_hash_table_add(co->used, g_strdup(name));
	}
	return 0;
}

static bool is_any_unused(const struct collection *co)
{
	for (guint i = 0; i < co->names->len; i++)
		if (!g_hash_table_contains(co->used, co->names->pdata[i]))
			return true;
	return false;
}

/* ---- removing ---- */

/* Returns false when a snapshot was moved meanwhile. */
static bool remove_unused(const struct collection *co, const char *name)
{
	SNAP_LOCKED(&co->layers->lock);

	if (co->layers->moving || co->layers->moves != co->moves)
		return false;
	if (!snap_layers_keeps_locked(co->layers, name))
		unlinkat(co->dirfd, name, 0);
	return true;
}

/* 1 when it must be tried again. */
static int collect_once(struct collection *co)
{
	int r = 0;

	g_mutex_lock(&co->layers->lock);
	g_hash_table_remove_all(co->layers->recent);
	co->moves = co->layers->moves;
	g_mutex_unlock(&co->layers->lock);
	for (guint i = 0; r == 0 && i < WALKS && is_any_unused(co); i++)
		r = snap_catalog_walk(co->catalog, note_used, co, co->error);
	if (r < 0 || !is_any_unused(co))
		return r;
	r = check_stopping(co, co->error);
	if (r < 0)
		return r;
	if (syncfs(co->dirfd) < 0)
		return snap_fail_errno(co->error, errno, "syncing the store");
	for (guint i = 0; i < co->names->len; i++) {
		const char *name = co->names->pdata[i];

		if (!g_hash_table_contains(co->used, name) &&
		    !remove_unused(co, name))
			return 1;
	}
	return 0;
}

static int collect(struct collection *co)
{
	int r = list_names(co->dirfd, co->names);

	if (r < 0)
		return snap_fail_errno(co->error, -r, SNAP_CATALOG_LAYERS);
	if (!co->names->len)
		return 0;
	r = 1;
	for (guint i = 0; r > 0 && i < TRIES; i++) {
		g_hash_table_remove_all(co->used);
		r = collect_once(co);
	}
	if (r > 0)
		snap_log(SNAP_LOG_WARNING,
			 "folders are moved all the time, so what removed "
			 "snapshots shared with others stays in the store "
			 "until the next one is removed, or the next mount");
	return MIN(r, 0);
}

int snap_catalog_collect(SnapCatalog *c, GError **error)
{
	g_autoptr(GError) cause = NULL;
	struct collection co = { .catalog = c,
				 .layers = snap_catalog_layers(c),
				 .dirfd = snap_layers_open(c),
				 .error = &cause };
	int r = 0;

	if (co.dirfd == -ENOENT)
		return 0;
	if (co.dirfd < 0)
		return snap_fail_errno(error, -co.dirfd, SNAP_CATALOG_LAYERS);
	g_mutex_lock(&co.layers->collecting);
	co.names = g_ptr_array_new_with_free_func(g_free);
	co.used = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	r = snap_catalog_check_lock(c, &cause);
	if (r == 0)
		r = collect(&co);
	g_mutex_unlock(&co.layers->collecting);
	g_hash_table_unref(co.used);
	g_ptr_array_unref(co.names);
	close(co.dirfd);
	if (r < 0)
		g_propagate_error(error, g_steal_pointer(&cause));
	return r;
}

/* ---- in the background ---- */

static bool is_wanted_again(SnapLayers *l)
{
	SNAP_LOCKED(&l->lock);

	l->running = l->again && !g_atomic_int_get(&l->stopping);
	l->again = false;
	return l->running;
}

static gpointer collect_thread(gpointer data)
{
	SnapCatalog *c = data;

	do {
		g_autoptr(GError) error = NULL;
		int r = snap_catalog_collect(c, &error);

		if (r < 0 && r != -ECANCELED)
			snap_log(SNAP_LOG_WARNING,
				 "what removed snapshots shared with others "
				 "stays in the store for now: %s",
				 error->message);
	} while (is_wanted_again(snap_catalog_layers(c)));
	return NULL;
}

void snap_catalog_collect_later(SnapCatalog *c)
{
	SnapLayers *l = snap_catalog_layers(c);
	snap_autofd int dirfd =
		snap_catalog_read_only(c) ? -1 : snap_layers_open(c);
	SNAP_LOCKED(&l->lock);

	l->again = l->running;
	if (dirfd < 0 || l->running)
		return;
	if (l->thread)
		g_thread_join(l->thread);
	l->thread = g_thread_try_new("collect", collect_thread, c, NULL);
	l->running = l->thread != NULL;
}
