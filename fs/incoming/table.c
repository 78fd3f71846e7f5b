/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which stream is on its way into which folder, and which saves run.
 *
 * A new writer joins the stream in the table. A stream leaves the table when
 * its save is over, when its name is removed, or when nobody holds it any more.
 */
#include "fs/incoming/incoming-internal.h"

#include <string.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"

/* How long writers have to close their files when the mount ends. */
#define LAST_CLOSE_US (3 * G_USEC_PER_SEC)

static const char *const names[] = { "stream", "mapped" };

struct key {
	SnapNode *folder;
	guint name;
};

static guint key_hash(gconstpointer data)
{
	const struct key *key = data;

	return g_direct_hash(key->folder) * 31 + key->name;
}

static gboolean key_equal(gconstpointer a, gconstpointer b)
{
	const struct key *x = a, *y = b;

	return x->folder == y->folder && x->name == y->name;
}

SnapIncomingTable *
snap_incoming_table_new(const struct snap_incoming_opts *opts)
{
	SnapIncomingTable *table = g_new0(SnapIncomingTable, 1);

	table->opts = *opts;
	g_mutex_init(&table->lock);
	g_cond_init(&table->changed);
	table->streams =
		g_hash_table_new_full(key_hash, key_equal, g_free, NULL);
	table->saves = g_hash_table_new_full(
		NULL, NULL, (GDestroyNotify)snap_save_unref, NULL);
	table->parts = g_hash_table_new(NULL, NULL);
	return table;
}

void snap_incoming_table_free(SnapIncomingTable *table)
{
	g_hash_table_destroy(table->parts);
	g_hash_table_destroy(table->saves);
	g_hash_table_destroy(table->streams);
	g_cond_clear(&table->changed);
	g_mutex_clear(&table->lock);
	g_free(table);
}

/* ---- streams ---- */

int snap_incoming_number(const char *name)
{
	for (guint i = 0; i < G_N_ELEMENTS(names); i++)
		if (!strcmp(name, names[i]))
			return (int)i;
	return -1;
}

const char *snap_incoming_of_number(guint number)
{
	return names[number];
}

bool snap_incoming_is_name(const char *name)
{
	return snap_incoming_number(name) >= 0;
}

const char *snap_incoming_name(const SnapIncoming *in)
{
	return names[in->name];
}

SnapIncoming *snap_incoming_lookup(SnapIncomingTable *table, SnapNode *folder,
				   guint name)
{
	struct key key = { folder, name };
	SNAP_LOCKED(&table->lock);
	SnapIncoming *in = g_hash_table_lookup(table->streams, &key);

	return in && snap_node_try_ref(&in->node) ? in : NULL;
}

static struct key key_of(const SnapIncoming *in)
{
	return (struct key){ in->folder, in->name };
}

bool snap_incoming_is_put(SnapIncoming *in)
{
	struct key key = key_of(in);
	SNAP_LOCKED(&in->table->lock);

	return g_hash_table_lookup(in->table->streams, &key) == in;
}

bool snap_incoming_drop(SnapIncoming *in)
{
	struct key key = key_of(in);
	SNAP_LOCKED(&in->table->lock);

	return g_hash_table_lookup(in->table->streams, &key) == in &&
	       g_hash_table_remove(in->table->streams, &key);
}

void snap_incoming_put(SnapIncoming *in)
{
	struct key key = key_of(in);
	SNAP_LOCKED(&in->table->lock);

	g_hash_table_replace(in->table->streams, g_memdup2(&key, sizeof(key)),
			     in);
}

bool snap_incoming_put_first(SnapIncoming *in)
{
	struct key key = key_of(in);
	SNAP_LOCKED(&in->table->lock);

	if (g_hash_table_contains(in->table->streams, &key))
		return false;
	g_hash_table_insert(in->table->streams, g_memdup2(&key, sizeof(key)),
			    in);
	return true;
}

/* True while the folder shows the stream. */
static bool is_shown(SnapIncoming *in)
{
	SNAP_LOCKED(&in->lock);

	if (in->save)
		return in->state != SNAP_INCOMING_REMOVED &&
		       !snap_save_over(in->save);
	return in->writers > 0;
}

SnapIncoming *snap_incoming_find(SnapIncomingTable *table, SnapNode *folder,
				 const char *name)
{
	int number = snap_incoming_number(name);
	SnapIncoming *in;

	if (number < 0)
		return NULL;
	in = snap_incoming_lookup(table, folder, (guint)number);
	if (!in || is_shown(in))
		return in;
	snap_node_unref(&in->node, 1);
	return NULL;
}

/* ---- saves ---- */

int snap_incoming_begin_save(SnapIncomingTable *table, SnapSave *save)
{
	SNAP_LOCKED(&table->lock);

	if (table->ending)
		return -ECANCELED;
	/* It may be over already. */
	if (!snap_save_over(save))
		g_hash_table_add(table->saves, snap_save_ref(save));
	return 0;
}

void snap_incoming_end_save(SnapIncomingTable *table, SnapSave *save)
{
	bool had;

	g_mutex_lock(&table->lock);
	had = g_hash_table_steal(table->saves, save);
	g_mutex_unlock(&table->lock);
	if (had)
		snap_save_unref(save);
}

void snap_incoming_count_writer(SnapIncomingTable *table, int n)
{
	SNAP_LOCKED(&table->lock);

	table->writers += (guint)n;
	if (!table->writers)
		g_cond_broadcast(&table->changed);
}

/* Fails the saves that run and waits for them; true when there were any. */
static bool abort_saves(SnapIncomingTable *table)
{
	g_autoptr(GPtrArray) saves =
		g_ptr_array_new_with_free_func((GDestroyNotify)snap_save_unref);
	GHashTableIter iter;
	gpointer save;

	g_mutex_lock(&table->lock);
	table->ending = true;
	g_hash_table_iter_init(&iter, table->saves);
	while (g_hash_table_iter_next(&iter, &save, NULL))
		g_ptr_array_add(saves, snap_save_ref(save));
	g_mutex_unlock(&table->lock);
	for (guint i = 0; i < saves->len; i++)
		snap_save_abort(saves->pdata[i],
				"the mount was ended while it was being saved");
	for (guint i = 0; i < saves->len; i++)
		snap_save_wait(saves->pdata[i], NULL);
	return saves->len > 0;
}

void snap_incoming_table_end(SnapIncomingTable *table)
{
	gint64 until = g_get_monotonic_time() + LAST_CLOSE_US;

	if (!abort_saves(table))
		return;
	g_mutex_lock(&table->lock);
	while (table->writers &&
	       g_cond_wait_until(&table->changed, &table->lock, until))
		;
	g_mutex_unlock(&table->lock);
}

void snap_incoming_table_drain(SnapIncomingTable *table)
{
	abort_saves(table);
	snap_saver_wait(table->opts.saver);
}
