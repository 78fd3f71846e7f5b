/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sealed snapshots: one object each, which all views and handles share.
 *
 * Which snapshot a folder holds is asked of the folder at every lookup, so one
 * that was saved, or copied into the store from outside, is seen at once. It is
 * opened only when its file is one that is not open yet. An object lives as
 * long as a node refers to it, also when its file has lost its name.
 */
#include "fs/view/view-internal.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/log.h"

/* What lies in a folder now. `snapshot_fd` is that of the snapshot's file, or
 * -1 to look it up. */
static int look(int folder_fd, int snapshot_fd, struct snap_sealed_key *key)
{
	struct stat st;

	memset(key, 0, sizeof(*key));
	if (fstatat(folder_fd, SNAP_CATALOG_PREAMBLE, &st,
		    AT_SYMLINK_NOFOLLOW) == 0) {
		key->head_ino = st.st_ino;
		key->head_size = (uint64_t)st.st_size;
		key->head_mtime_sec = st.st_mtim.tv_sec;
		key->head_mtime_nsec = st.st_mtim.tv_nsec;
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
	g_clear_pointer(&s->head, g_bytes_unref);
	snap_ramlist_clear(&s->info.ram);
	if (s->fd >= 0)
		close(s->fd);
	g_free(s->why);
	g_free(s);
}

SnapSealed *snap_sealed_ref(SnapSealed *sealed)
{
	g_mutex_lock(&sealed->tree->lock);
	sealed->refs++;
	g_mutex_unlock(&sealed->tree->lock);
	return sealed;
}

void snap_sealed_unref(SnapSealed *sealed)
{
	SnapTree *tree = sealed->tree;
	bool gone;

	g_mutex_lock(&tree->lock);
	gone = --sealed->refs == 0;
	if (gone)
		g_hash_table_remove(tree->sealed, &sealed->key);
	g_mutex_unlock(&tree->lock);
	if (gone)
		sealed_free(sealed);
}

const struct snap_meta *snap_sealed_meta(const SnapSealed *sealed)
{
	return sealed->pages ? snap_pages_meta(sealed->pages) : NULL;
}

/* What the synthesizer needs to know of a snapshot. */
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
	int r = snap_catalog_find(snap_store_node(folder)->fd, &reader, error);

	if (r < 0)
		return r;
	s->pages = snap_pages_new(s->tree->opts.loader,
				  g_steal_pointer(&reader), path);
	meta = snap_pages_meta(s->pages);
	if (!snap_meta_split(meta))
		return 0;
	r = fill_info(meta, &s->info, error);
	if (r == 0)
		r = snap_layout_classic(&s->info, &s->layout, error);
	return r;
}

/* What the log knows: which snapshot is broken, and what of it. */
struct told {
	struct snap_sealed_key key;
	uint64_t what;
};

/* A broken snapshot is opened at every look at it; the log knows it by then.
 * The last few are remembered. */
static bool is_news(SnapTree *tree, const struct told *told)
{
	SNAP_LOCKED(&tree->lock);

	for (GList *l = tree->told.head; l; l = l->next)
		if (!memcmp(l->data, told, sizeof(*told)))
			return false;
	g_queue_push_tail(&tree->told, g_memdup2(told, sizeof(*told)));
	if (g_queue_get_length(&tree->told) > 64)
		g_free(g_queue_pop_head(&tree->told));
	return true;
}

void snap_sealed_tell(const SnapSealed *sealed, const char *path,
		      enum snap_tell what, const char *sentence)
{
	struct told told = { .key = sealed->key, .what = what };

	if (is_news(sealed->tree, &told))
		snap_log(SNAP_LOG_ERROR, "%s: %s", *path ? path : ".",
			 sentence);
}

/* Opens what the folder has now; errors are those of the snapshot's file. */
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
		r = snap_preamble_open(s, snap_store_node(folder)->fd, &error);
		if (snap_is_damage(r)) {
			s->head_error = -EBADMSG;
			s->why = g_strdup(error->message);
			r = 0;
		}
	}
	return r;
}

/* Opens the snapshot that `key` names; -ESTALE when another has come. */
static int sealed_open(SnapNode *folder, const struct snap_sealed_key *key,
		       SnapSealed **ret_sealed)
{
	int folder_fd = snap_store_node(folder)->fd;
	SnapSealed *s = g_new0(SnapSealed, 1);
	struct snap_sealed_key now;
	int r;

	s->tree = folder->tree;
	s->refs = 1;
	s->key = *key;
	g_mutex_init(&s->mapped.lock);
	g_mutex_init(&s->behind.lock);
	r = open_both(s, folder);
	s->fd = openat(folder_fd, SNAP_CATALOG_SNAPSHOT,
		       O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (s->fd < 0)
		r = -errno;
	else if (r == 0)
		r = look(folder_fd, s->fd, &now);
	if (r == 0 && memcmp(&now, key, sizeof(now)))
		r = -ESTALE;
	if (r < 0) {
		sealed_free(s);
		return r;
	}
	if (s->why) {
		g_autofree char *path = snap_folder_path(folder, NULL);

		snap_sealed_tell(s, path, SNAP_TELL_FILE, s->why);
	}
	*ret_sealed = s;
	return 0;
}

/* The object of that key, a new reference, or NULL. */
static SnapSealed *sealed_known(SnapTree *tree,
				const struct snap_sealed_key *key)
{
	SnapSealed *s;

	g_mutex_lock(&tree->lock);
	s = g_hash_table_lookup(tree->sealed, key);
	if (s)
		s->refs++;
	g_mutex_unlock(&tree->lock);
	return s;
}

/* Makes an object known, unless another thread was faster: then that one. */
static SnapSealed *sealed_publish(SnapSealed *fresh)
{
	SnapTree *tree = fresh->tree;
	SnapSealed *s;

	g_mutex_lock(&tree->lock);
	s = g_hash_table_lookup(tree->sealed, &fresh->key);
	if (s)
		s->refs++;
	else
		g_hash_table_insert(tree->sealed, &fresh->key, fresh);
	g_mutex_unlock(&tree->lock);
	if (!s)
		return fresh;
	sealed_free(fresh);
	return s;
}

int snap_sealed_get(SnapNode *folder, SnapSealed **ret_sealed)
{
	/* Another snapshot may come while one is being opened; not for ever. */
	for (int tries = 0; tries < 8; tries++) {
		struct snap_sealed_key key;
		SnapSealed *s;
		int r = look(snap_store_node(folder)->fd, -1, &key);

		if (r < 0)
			return r;
		s = sealed_known(folder->tree, &key);
		if (!s) {
			r = sealed_open(folder, &key, &s);
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

bool snap_sealed_shows(const SnapSealed *sealed, guint view)
{
	bool has = sealed->error ? snap_views[view] == &snap_view_stream
				 : snap_views[view]->present(sealed);

	return has && !(snap_hidden_get(sealed) & 1u << view);
}
