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

/* A snapshot has at most so many descriptors: its file, its parents, a copy of
 * each in the disk cache, and its file once more, for its owner and mode. */
#define DESCRIPTORS_MAX (2 * (1 + SNAP_LAYERS_MAX) + 1)

/* Snapshots that nobody uses and that are still open: they have at most this
 * part of the descriptors, and are at most this many. */
#define IDLE_PART 16
#define IDLE_MAX 64

/* ---- the table ---- */

static guint key_hash(gconstpointer key)
{
	return snap_node_hash(key, sizeof(struct snap_sealed_key));
}

static gboolean key_equal(gconstpointer a, gconstpointer b)
{
	return !memcmp(a, b, sizeof(struct snap_sealed_key));
}

static void *part(void *thing);
static void sealed_free(void *thing);

SnapSnapshots *snap_snapshots_new(const struct snap_snapshots_opts *opts)
{
	SnapSnapshots *all = g_new0(SnapSnapshots, 1);
	struct snap_idle_opts idle = {
		.lock = &all->lock,
		.most = (guint)CLAMP(snap_plain_descriptors() / IDLE_PART /
					     DESCRIPTORS_MAX,
				     1, IDLE_MAX),
		.part = part,
		.close = sealed_free,
	};

	all->opts = *opts;
	g_mutex_init(&all->edits);
	g_mutex_init(&all->lock);
	all->table = g_hash_table_new(key_hash, key_equal);
	all->idle = snap_idle_new(&idle);
	return all;
}

void snap_snapshots_free(SnapSnapshots *snapshots)
{
	snap_idle_free(snapshots->idle);
	g_queue_clear_full(&snapshots->logged, g_free);
	g_hash_table_destroy(snapshots->table);
	g_mutex_clear(&snapshots->lock);
	g_mutex_clear(&snapshots->edits);
	g_free(snapshots);
}

/* ---- one snapshot ---- */

/* Fills in what tells the snapshot's file apart. */
static void note_file(struct snap_sealed_key *key,
		      const struct snap_store_look *file)
{
	key->dev = file->dev;
	key->ino = file->ino;
	key->birth = file->birth;
	key->size = file->size;
	key->mtime_sec = file->mtime_sec;
	key->mtime_nsec = file->mtime_nsec;
}

/* The key of the snapshot in a folder, which is open as `folder_fd`.
 * `snapshot_fd` is the snapshot's open file, or -1 to look it up. */
static int look(SnapNode *folder, int folder_fd, int snapshot_fd,
		struct snap_sealed_key *key)
{
	struct snap_store_look file;
	int r = snap_store_look(folder_fd, SNAP_CATALOG_PREAMBLE, &file);

	memset(key, 0, sizeof(*key));
	key->folder_dev = folder->key.words[0];
	key->folder_ino = folder->key.words[1];
	if (r == 0) {
		key->side_ino = file.ino;
		key->side_size = file.size;
		key->side_mtime_sec = file.mtime_sec;
		key->side_mtime_nsec = file.mtime_nsec;
	} else if (r != -ENOENT) {
		return r;
	}
	r = snapshot_fd < 0
		    ? snap_store_look(folder_fd, SNAP_CATALOG_SNAPSHOT, &file)
		    : snap_store_look(snapshot_fd, "", &file);
	if (r == 0)
		note_file(key, &file);
	return r;
}

int snap_sealed_look(SnapNode *folder, struct snap_sealed_key *ret_key)
{
	snap_autofd int fd = snap_store_open(folder);

	return fd < 0 ? fd : look(folder, fd, -1, ret_key);
}

static void mapped_clear(struct snap_mapped *m)
{
	if (m->layout)
		snap_layout_free(m->layout);
	g_mutex_clear(&m->lock);
}

static void sealed_free(void *thing)
{
	SnapSealed *s = thing;

	if (s->pages)
		snap_pages_unref(s->pages);
	if (s->layout)
		snap_layout_free(s->layout);
	mapped_clear(&s->mapped);
	mapped_clear(&s->behind);
	g_mutex_clear(&s->described.lock);
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

/* A snapshot without references leaves the table. */
static void *part(void *thing)
{
	SnapSealed *s = thing;

	g_hash_table_remove(s->snapshots->table, &s->key);
	return s;
}

/* Shall it be closed at its last use? The space of a file that was removed is
 * free then. What could not be read may be readable at the next look: a parent
 * that was missing may have come. */
static bool is_over(const SnapSealed *s)
{
	struct stat st;

	return s->error || (fstat(s->fd, &st) == 0 && st.st_nlink == 0);
}

void snap_sealed_unref(SnapSealed *sealed)
{
	SnapSnapshots *all = sealed->snapshots;
	bool idle, over;

	g_mutex_lock(&all->lock);
	idle = --sealed->refs == 0;
	over = idle && is_over(sealed);
	if (over)
		part(sealed);
	else if (idle)
		snap_idle_keep(all->idle, &sealed->place, sealed);
	g_mutex_unlock(&all->lock);
	if (over)
		sealed_free(sealed);
	else if (idle)
		snap_idle_trim(all->idle);
}

/* The object of that key, a new reference, or NULL. */
static SnapSealed *known_locked(SnapSnapshots *all,
				const struct snap_sealed_key *key)
{
	SnapSealed *s = g_hash_table_lookup(all->table, key);

	if (s && s->refs++ == 0)
		snap_idle_take(all->idle, &s->place);
	return s;
}

SnapSealed *snap_sealed_known(SnapSnapshots *snapshots,
			      const struct snap_sealed_key *key)
{
	SNAP_LOCKED(&snapshots->lock);

	return known_locked(snapshots, key);
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
static int open_pages(SnapSealed *s, SnapNode *folder, int folder_fd,
		      GError **error)
{
	g_autofree char *path = snap_folder_path(folder, NULL);
	g_autoptr(SnapReader) reader = NULL;
	const struct snap_meta *meta;
	int r = snap_catalog_read(s->snapshots->opts.catalog, folder_fd, s->fd,
				  &reader, error);

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
static int open_both(SnapSealed *s, SnapNode *folder, int folder_fd)
{
	g_autoptr(GError) error = NULL;
	int r = open_pages(s, folder, folder_fd, &error);

	if (snap_is_damage(r)) {
		g_clear_pointer(&s->pages, snap_pages_unref);
		s->error = r == -ENODATA || r == -ENOLINK ? -EBADMSG : r;
		s->why = g_strdup(error->message);
		return 0;
	}
	if (r == 0) {
		r = snap_preamble_open(s, folder_fd, &error);
		if (snap_is_damage(r)) {
			s->preamble_error = -EBADMSG;
			s->why = g_strdup(error->message);
			r = 0;
		}
	}
	return r;
}

/* The number of the file system, unless it is the store's own: that one's may
 * change when the machine starts anew. */
static uint64_t elsewhere(SnapNode *folder, uint64_t dev)
{
	SnapNode *root = snap_plain_root(snap_store_node(folder)->plain);

	return dev ^ root->key.words[0];
}

/* Opens the snapshot of `key`; -ESTALE when the folder holds another by now. */
static int sealed_open(SnapSnapshots *all, SnapNode *folder,
		       const struct snap_sealed_key *key,
		       SnapSealed **ret_sealed)
{
	snap_autofd int folder_fd = snap_store_open(folder);
	SnapSealed *s = g_new0(SnapSealed, 1);
	struct snap_sealed_key now;
	int r;

	s->snapshots = all;
	s->refs = 1;
	s->key = *key;
	s->elsewhere = elsewhere(folder, key->dev);
	g_mutex_init(&s->mapped.lock);
	g_mutex_init(&s->behind.lock);
	g_mutex_init(&s->described.lock);
	/* Once: who may read it is decided by the owner and the mode of the
	 * very file whose bytes are shown. */
	r = s->fd = folder_fd < 0
			    ? folder_fd
			    : snap_open_below(folder_fd, SNAP_CATALOG_SNAPSHOT,
					      O_PATH, 0);
	if (r >= 0)
		r = open_both(s, folder, folder_fd);
	if (r == 0)
		r = look(folder, folder_fd, s->fd, &now);
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

/* Puts an object into the table, or drops it and returns the one that another
 * thread has put there. */
static SnapSealed *sealed_publish(SnapSealed *fresh)
{
	SnapSnapshots *all = fresh->snapshots;
	SnapSealed *s;

	g_mutex_lock(&all->lock);
	s = known_locked(all, &fresh->key);
	if (!s)
		g_hash_table_insert(all->table, &fresh->key, fresh);
	g_mutex_unlock(&all->lock);
	if (!s)
		return fresh;
	sealed_free(fresh);
	return s;
}

int snap_sealed_find(SnapSnapshots *snapshots, SnapNode *folder,
		     const struct snap_sealed_key *key, SnapSealed **ret_sealed)
{
	SnapSealed *s = snap_sealed_known(snapshots, key);
	int r;

	if (!s) {
		r = sealed_open(snapshots, folder, key, &s);
		if (r < 0)
			return r == -ENOENT ? -ESTALE : r;
		s = sealed_publish(s);
	}
	*ret_sealed = s;
	return 0;
}

int snap_sealed_get(SnapSnapshots *snapshots, SnapNode *folder,
		    SnapSealed **ret_sealed)
{
	int r = -ESTALE;

	/* Another snapshot may arrive while one is being opened. */
	for (int tries = 0; tries < 8 && r == -ESTALE; tries++) {
		struct snap_sealed_key key;

		r = snap_sealed_look(folder, &key);
		if (r == 0)
			r = snap_sealed_find(snapshots, folder, &key,
					     ret_sealed);
	}
	return r;
}

bool snap_sealed_damaged(const SnapSealed *sealed)
{
	return sealed->error != 0;
}

struct snap_sealed_id snap_sealed_id(const SnapSealed *sealed)
{
	const struct snap_meta *meta = snap_sealed_meta(sealed);
	struct snap_sealed_id id = { .folder_dev = sealed->key.folder_dev,
				     .folder_ino = sealed->key.folder_ino,
				     .dev = sealed->key.dev,
				     .ino = sealed->key.ino };

	if (meta)
		memcpy(id.uuid, meta->uuid, sizeof(id.uuid));
	return id;
}

int snap_sealed_stat(const SnapSealed *sealed, struct stat *ret)
{
	return fstat(sealed->fd, ret) < 0 ? -errno : 0;
}
