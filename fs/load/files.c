/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file is known by its device and inode, which no other file has while it is
 * open. What a file says of itself, such as its uuid, would not do: whoever can
 * write to a store could make another user read the pages of his own file.
 */
#include "fs/load/files.h"

#include "format/base/cleanup.h"

struct file {
	struct snap_file_id id;
	bool is_known; /* which file it is */
	uint64_t owner;
	guint refs;
};

struct SnapFiles {
	SnapCache *cache;
	GMutex lock;
	uint64_t next;	   /* protected by lock, as are the tables */
	GHashTable *table; /* by owner */
	GHashTable *known; /* by id; only files that are known */
};

static guint id_hash(gconstpointer key)
{
	const struct snap_file_id *id = key;
	uint64_t both = id->inode + id->device * 31;

	return g_int64_hash(&both);
}

static gboolean id_equal(gconstpointer a, gconstpointer b)
{
	const struct snap_file_id *one = a, *two = b;

	return one->device == two->device && one->inode == two->inode;
}

SnapFiles *snap_files_new(SnapCache *cache)
{
	SnapFiles *files = g_new0(SnapFiles, 1);

	files->cache = cache;
	g_mutex_init(&files->lock);
	files->table = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
					     g_free);
	files->known = g_hash_table_new(id_hash, id_equal);
	return files;
}

void snap_files_free(SnapFiles *files)
{
	g_hash_table_unref(files->known);
	g_hash_table_unref(files->table);
	g_mutex_clear(&files->lock);
	g_free(files);
}

uint64_t snap_files_number(SnapFiles *files)
{
	SNAP_LOCKED(&files->lock);

	return files->next++;
}

uint64_t snap_files_take(SnapFiles *files, const SnapReader *reader,
			 guint layer)
{
	struct file fresh = { 0 }, *f = NULL;
	SNAP_LOCKED(&files->lock);

	fresh.is_known = snap_reader_identify(reader, layer, &fresh.id) == 0;
	if (fresh.is_known)
		f = g_hash_table_lookup(files->known, &fresh.id);
	if (!f) {
		fresh.owner = files->next++;
		f = g_memdup2(&fresh, sizeof(fresh));
		g_hash_table_insert(files->table, &f->owner, f);
		if (f->is_known)
			g_hash_table_insert(files->known, &f->id, f);
	}
	f->refs++;
	return f->owner;
}

void snap_files_give(SnapFiles *files, uint64_t owner)
{
	struct file *f;
	bool last;

	g_mutex_lock(&files->lock);
	f = g_hash_table_lookup(files->table, &owner);
	last = --f->refs == 0;
	if (last && f->is_known)
		g_hash_table_remove(files->known, &f->id);
	if (last)
		g_hash_table_remove(files->table, &owner);
	g_mutex_unlock(&files->lock);
	if (last)
		snap_cache_forget(files->cache, owner);
}
