/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sealed snapshots: one object each, which all views and handles share.
 *
 * The folder is asked at every lookup which snapshot it holds, so a snapshot
 * that was saved, or copied into the store from outside, is seen at once. It is
 * opened only when its file is not open yet. The object lives as long as a node
 * refers to it, also when its file has lost its name.
 */
#include "fs/view/view-internal.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/log.h"

/* How many damages are remembered as logged. */
#define LOGGED_MAX 64

/* ---- the table ---- */

static guint key_hash(gconstpointer key)
{
	return snap_node_hash(key, sizeof(struct snap_sealed_key));
}

static gboolean key_equal(gconstpointer a, gconstpointer b)
{
	return !memcmp(a, b, sizeof(struct snap_sealed_key));
}

SnapSnapshots *snap_snapshots_new(const struct snap_snapshots_opts *opts)
{
	SnapSnapshots *all = g_new0(SnapSnapshots, 1);

	all->opts = *opts;
	g_mutex_init(&all->edits);
	g_mutex_init(&all->lock);
	all->table = g_hash_table_new(key_hash, key_equal);
	return all;
}

void snap_snapshots_free(SnapSnapshots *snapshots)
{
	g_queue_clear_full(&snapshots->logged, g_free);
	g_hash_table_destroy(snapshots->table);
	g_mutex_clear(&snapshots->lock);
	g_mutex_clear(&snapshots->edits);
	g_free(snapshots);
}

/* ---- one snapshot ---- */

/* The key of the snapshot in a folder. `snapshot_fd` is its open file, or -1 to
 * look it up. */
static int look(int folder_fd, int snapshot_fd, struct snap_sealed_key *key)
{
	struct stat st;

	memset(key, 0, sizeof(*key));
	if (fstatat(folder_fd, SNAP_CATALOG_PREAMBLE, &st,
		    AT_SYMLINK_NOFOLLOW) == 0) {
		key->side_ino = st.st_ino;
		key->side_size = (uint64_t)st.st_size;
		key->side_mtime_sec = st.st_mtim.tv_sec;
		key->side_mtime_nsec = st.st_mtim.tv_nsec;
	} else if (errno != ENOENT) {
		return -errno;
	}
	if ((snapshot_fd < 0 ? fstatat(folder_fd, SNAP_CATALOG_SNAPSHOT, &st,
				       AT_SYMLINK_NOFOLLOW)
			     : fstat(snapshot_fd, &st)) < 0)
		return -errno;
	key->dev = st.st_dev;
	key->ino = st.st_ino;
	key->size = (uint64_t)st.st_size;
	key->mtime_sec = st.st_mtim.tv_sec;
	key->mtime_nsec = st.st_mtim.tv_nsec;
	return 0;
}

static void mapped_clear(struct snap_mapped *m)
{
	if (m->layout)
		snap_layout_free(m->layout);
	g_mutex_clear(&m->lock);
}

static void sealed_free(SnapSealed *s)
{
	if (s->pages)
		snap_pages_unref(s->pages);
	if (s->layout)
		snap_layout_free(s->layout);
	mapped_clear(&s->mapped);
	mapped_clear(&s->behind);
	g_clear_pointer(&s->preamble, g_bytes_unref);
	snap_ramlist_clear(&s->info.ram);
	if (s->fd >= 0)
		close(s->fd);
	g_free(s->why);
	g_free(s);
}

SnapSealed *snap_sealed_ref(SnapSealed *sealed)
{
	g_mutex_lock(&sealed->snapshots->lock);
	sealed->refs++;
	g_mutex_unlock(&sealed->snapshots->lock);
	return sealed;
}

void snap_sealed_unref(SnapSealed *sealed)
{
	SnapSnapshots *all = sealed->snapshots;
	bool gone;

	g_mutex_lock(&all->lock);
	gone = --sealed->refs == 0;
	if (gone)
		g_hash_table_remove(all->table, &sealed->key);
	g_mutex_unlock(&all->lock);
	if (gone)
		sealed_free(sealed);
}

/* Fills in what the synthesizer needs of a snapshot's properties. */
static int fill_info(const struct snap_meta *meta,
		     struct snap_stream_info *info, GError **error)
{
	const struct snap_block *state = snap_meta_find(meta, SNAP_BLOCK_STATE);

	memcpy(info->machine, meta->machine, sizeof(info->machine));
	info->target_page = meta->target_page;
	info->ram_section = meta->ram_section;
	info->footers = meta->footers;
	info->pages_at = meta->pages_at;
	if (!state)
		return snap_fail(error, EBADMSG, "there is no device state");
	info->state_size = state->length;
	for (guint i = 0; i < meta->n_blocks; i++) {
		const struct snap_block *b = &meta->blocks[i];
		int r;

		if (b->kind != SNAP_BLOCK_RAM)
			continue;
		r = snap_ramlist_add(&info->ram, b->name, b->length,
				     b->page_size, b->gpa, meta->target_page,
				     error);
		if (r < 0)
			return snap_fail_prefix(error, -EBADMSG, "RAM list");
		info->ram.blocks[info->ram.n - 1].stored = b->stored;
		info->ram.blocks[info->ram.n - 1].ignored = b->ignored;
		info->ram.blocks[info->ram.n - 1].flat = b->base;
	}
	return 0;
}

/* Opens the snapshot of a folder into `s`. */
static int open_pages(SnapSealed *s, SnapNode *folder, GError **error)
{
	g_autofree char *path = snap_folder_path(folder, NULL);
	g_autoptr(SnapReader) reader = NULL;
	const struct snap_meta *meta;
	int r = snap_catalog_read(s->fd, &reader, error);

	if (r < 0)
		return r;
	s->pages = snap_pages_new(s->snapshots->opts.loader,
				  g_steal_pointer(&reader), path);
	meta = snap_pages_meta(s->pages);
	if (!snap_meta_split(meta))
		return 0;
	r = fill_info(meta, &s->info, error);
	if (r == 0)
		r = snap_layout_classic(&s->info, &s->layout, error);
	return r;
}

/* Damage that the log names. */
struct logged {
	struct snap_sealed_key key;
	uint64_t what;
};

/* Is it not logged yet? A damaged snapshot is opened again at every look at it.
 * The last few are remembered. */
static bool is_news(SnapSnapshots *all, const struct logged *damage)
{
	SNAP_LOCKED(&all->lock);

	for (GList *l = all->logged.head; l; l = l->next)
		if (!memcmp(l->data, damage, sizeof(*damage)))
			return false;
	g_queue_push_tail(&all->logged, g_memdup2(damage, sizeof(*damage)));
	if (g_queue_get_length(&all->logged) > LOGGED_MAX)
		g_free(g_queue_pop_head(&all->logged));
	return true;
}

void snap_sealed_log(const SnapSealed *sealed, const char *path,
		     enum snap_damage what, const char *sentence)
{
	struct logged damage = { .key = sealed->key, .what = what };

	if (is_news(sealed->snapshots, &damage))
		snap_log(SNAP_LOG_ERROR, "%s: %s", *path ? path : ".",
			 sentence);
}

/* Opens the snapshot and its side file; damage goes into `s`. */
static int open_both(SnapSealed *s, SnapNode *folder)
{
	g_autoptr(GError) error = NULL;
	int r = open_pages(s, folder, &error);

	if (snap_is_damage(r)) {
		g_clear_pointer(&s->pages, snap_pages_unref);
		s->error = r == -ENODATA ? -EBADMSG : r;
		s->why = g_strdup(error->message);
		return 0;
	}
	if (r == 0) {
		r = snap_preamble_open(s, snap_folder_fd(folder), &error);
		if (snap_is_damage(r)) {
			s->preamble_error = -EBADMSG;
			s->why = g_strdup(error->message);
			r = 0;
		}
	}
	return r;
}

/* Opens the snapshot of `key`; -ESTALE when the folder holds another by now. */
static int sealed_open(SnapSnapshots *all, SnapNode *folder,
		       const struct snap_sealed_key *key,
		       SnapSealed **ret_sealed)
{
	int folder_fd = snap_folder_fd(folder);
	SnapSealed *s = g_new0(SnapSealed, 1);
	struct snap_sealed_key now;
	int r;

	s->snapshots = all;
	s->refs = 1;
	s->key = *key;
	g_mutex_init(&s->mapped.lock);
	g_mutex_init(&s->behind.lock);
	/* Once: who may read it is decided by the owner and the mode of the
	 * very file whose bytes are shown. */
	r = s->fd =
		snap_open_below(folder_fd, SNAP_CATALOG_SNAPSHOT, O_PATH, 0);
	if (r >= 0)
		r = open_both(s, folder);
	if (r == 0)
		r = look(folder_fd, s->fd, &now);
	if (r == 0 && memcmp(&now, key, sizeof(now)))
		r = -ESTALE;
	if (r < 0) {
		sealed_free(s);
		return r;
	}
	if (s->why) {
		g_autofree char *path = snap_folder_path(folder, NULL);

		snap_sealed_log(s, path, SNAP_DAMAGE_FILE, s->why);
	}
	*ret_sealed = s;
	return 0;
}

/* The object of that key, a new reference, or NULL. */
static SnapSealed *sealed_known(SnapSnapshots *all,
				const struct snap_sealed_key *key)
{
	SnapSealed *s;

	g_mutex_lock(&all->lock);
	s = g_hash_table_lookup(all->table, key);
	if (s)
		s->refs++;
	g_mutex_unlock(&all->lock);
	return s;
}

/* Puts an object into the table, or drops it and returns the one that another
 * thread has put there. */
static SnapSealed *sealed_publish(SnapSealed *fresh)
{
	SnapSnapshots *all = fresh->snapshots;
	SnapSealed *s;

	g_mutex_lock(&all->lock);
	s = g_hash_table_lookup(all->table, &fresh->key);
	if (s)
		s->refs++;
	else
		g_hash_table_insert(all->table, &fresh->key, fresh);
	g_mutex_unlock(&all->lock);
	if (!s)
		return fresh;
	sealed_free(fresh);
	return s;
}

int snap_sealed_get(SnapSnapshots *snapshots, SnapNode *folder,
		    SnapSealed **ret_sealed)
{
	/* Another snapshot may arrive while one is being opened. */
	for (int tries = 0; tries < 8; tries++) {
		struct snap_sealed_key key;
		SnapSealed *s;
		int r = look(snap_folder_fd(folder), -1, &key);

		if (r < 0)
			return r;
		s = sealed_known(snapshots, &key);
		if (!s) {
			r = sealed_open(snapshots, folder, &key, &s);
			if (r == -ESTALE || r == -ENOENT)
				continue;
			if (r < 0)
				return r;
			s = sealed_publish(s);
		}
		*ret_sealed = s;
		return 0;
	}
	return -ESTALE;
}

bool snap_sealed_damaged(const SnapSealed *sealed)
{
	return sealed->error != 0;
}

struct snap_sealed_id snap_sealed_id(const SnapSealed *sealed)
{
	const struct snap_meta *meta = snap_sealed_meta(sealed);
	struct snap_sealed_id id = { .dev = sealed->key.dev,
				     .ino = sealed->key.ino };

	if (meta)
		memcpy(id.uuid, meta->uuid, sizeof(id.uuid));
	return id;
}

int snap_sealed_stat(const SnapSealed *sealed, struct stat *ret)
{
	return fstat(sealed->fd, ret) < 0 ? -errno : 0;
}
