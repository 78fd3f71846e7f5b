/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which folders have a stream on its way into them, and who writes to them.
 *
 * The table says which stream a new writer joins. A stream leaves it when its
 * save is over, when its name is removed, or when nobody holds it any more.
 */
#include "fs/view/writing-internal.h"

#include "format/base/cleanup.h"
#include "format/base/error.h"

/* For how long a lookup believes a ticket. */
#define TICKET_US (10 * G_USEC_PER_SEC)

/* How long the writers of saves that were ended have to close their files. */
#define LAST_CLOSE_US (3 * G_USEC_PER_SEC)

/* A thread that was sent to look `stream` up again. */
struct ticket {
	const SnapNode *folder; /* compared only */
	gint64 until;
};

guint snap_view_number(const struct snap_view *view)
{
	guint i = 0;

	while (snap_views[i] != view)
		i++;
	return i;
}

/* The key in the table: nodes are larger than the views are many. */
static gpointer key_of(SnapNode *folder, const struct snap_view *view)
{
	return (char *)folder + snap_view_number(view);
}

G_STATIC_ASSERT(sizeof(SnapNode) >= SNAP_VIEWS_MAX);

/* The stream in the table, a reference, or NULL. */
static SnapIncoming *in_table(SnapNode *folder, const struct snap_view *view)
{
	SnapTree *tree = folder->tree;
	SnapIncoming *in;

	g_mutex_lock(&tree->lock);
	in = g_hash_table_lookup(tree->writers, key_of(folder, view));
	/* One that is being freed is no more. */
	if (in && !in->node.refs)
		in = NULL;
	if (in)
		in->node.refs++;
	g_mutex_unlock(&tree->lock);
	return in;
}

bool snap_writers_drop(SnapIncoming *in)
{
	SnapTree *tree = in->node.tree;
	gpointer key = key_of(in->folder, in->view);
	bool was;

	g_mutex_lock(&tree->lock);
	was = g_hash_table_lookup(tree->writers, key) == in;
	if (was)
		g_hash_table_remove(tree->writers, key);
	g_mutex_unlock(&tree->lock);
	return was;
}

void snap_writers_put(SnapIncoming *in)
{
	SnapTree *tree = in->node.tree;

	g_mutex_lock(&tree->lock);
	g_hash_table_replace(tree->writers, key_of(in->folder, in->view), in);
	g_mutex_unlock(&tree->lock);
}

/* Puts one into the table where there is none. */
static bool put_first(SnapIncoming *in)
{
	SnapTree *tree = in->node.tree;
	gpointer key = key_of(in->folder, in->view);
	SnapIncoming *other;
	bool first;

	g_mutex_lock(&tree->lock);
	other = g_hash_table_lookup(tree->writers, key);
	first = !other || !other->node.refs;
	if (first)
		g_hash_table_replace(tree->writers, key, in);
	g_mutex_unlock(&tree->lock);
	return first;
}

void snap_writers_reap(SnapNode *folder)
{
	for (guint i = 0; i < snap_n_views; i++) {
		SnapIncoming *in = snap_views[i]->saves
					   ? in_table(folder, snap_views[i])
					   : NULL;

		if (!in)
			continue;
		snap_incoming_reap(in);
		snap_node_unref(&in->node, 1);
	}
}

SnapIncoming *snap_writers_find(SnapNode *folder, const struct snap_view *view)
{
	SnapIncoming *in = in_table(folder, view);

	if (in && !snap_incoming_shown(in)) {
		snap_incoming_reap(in);
		snap_node_unref(&in->node, 1);
		in = NULL;
	}
	return in;
}

SnapIncoming *snap_writers_join(SnapNode *folder, const struct snap_view *view,
				const struct snap_catalog_owner *owner)
{
	for (;;) {
		SnapIncoming *in = in_table(folder, view);

		if (in && snap_incoming_open_for(in))
			return in;
		if (in) {
			snap_incoming_reap(in);
			snap_writers_drop(in);
			snap_node_unref(&in->node, 1);
		}
		in = snap_incoming_new(folder, view, owner);
		if (put_first(in))
			return in;
		snap_node_unref(&in->node, 1);
	}
}

SnapHandle *snap_writers_open(SnapNode *folder, const struct snap_view *view,
			      const struct snap_catalog_owner *owner,
			      SnapNode *node)
{
	for (;;) {
		SnapIncoming *in = snap_writers_join(folder, view, owner);
		SnapHandle *handle =
			snap_incoming_handle(in, node ? node : &in->node);

		snap_node_unref(&in->node, 1);
		if (handle)
			return handle;
	}
}

void snap_writers_begin(SnapTree *tree)
{
	g_mutex_lock(&tree->lock);
	tree->writes++;
	g_mutex_unlock(&tree->lock);
}

void snap_writers_over(SnapTree *tree)
{
	g_mutex_lock(&tree->lock);
	if (--tree->writes == 0)
		g_cond_broadcast(&tree->idle);
	g_mutex_unlock(&tree->lock);
}

bool snap_tree_ending(SnapTree *tree)
{
	SNAP_LOCKED(&tree->lock);

	return tree->ending;
}

struct snap_catalog_owner snap_owner_new(SnapNode *folder, mode_t mode,
					 const struct snap_caller *caller)
{
	struct snap_catalog_owner owner = { .uid = caller->uid,
					    .gid = caller->gid,
					    .mode = mode & 0777 };
	struct snap_attr attr = { 0 };

	/* A folder with the set-group-ID bit gives its group on. */
	if (snap_store_getattr(folder, NULL, &attr) == 0 &&
	    (attr.st.st_mode & S_ISGID))
		owner.gid = attr.st.st_gid;
	return owner;
}

/* ---- saves ---- */

/* All saves in the table, with their references. */
static GPtrArray *take_saves(SnapTree *tree)
{
	GPtrArray *saves =
		g_ptr_array_new_with_free_func((GDestroyNotify)snap_save_unref);
	GHashTableIter iter;
	gpointer save;

	g_mutex_lock(&tree->lock);
	g_hash_table_iter_init(&iter, tree->saves);
	while (g_hash_table_iter_next(&iter, &save, NULL)) {
		g_hash_table_iter_steal(&iter);
		g_ptr_array_add(saves, save);
	}
	g_mutex_unlock(&tree->lock);
	return saves;
}

void snap_writers_watch(SnapTree *tree, SnapSave *save)
{
	g_autoptr(GPtrArray) over = NULL;
	g_autoptr(GPtrArray) known = NULL;
	GHashTableIter iter;
	gpointer other;

	known = g_ptr_array_new_with_free_func((GDestroyNotify)snap_save_unref);
	over = g_ptr_array_new_with_free_func((GDestroyNotify)snap_save_unref);
	g_mutex_lock(&tree->lock);
	g_hash_table_add(tree->saves, snap_save_ref(save));
	g_hash_table_iter_init(&iter, tree->saves);
	while (g_hash_table_iter_next(&iter, &other, NULL))
		g_ptr_array_add(known, snap_save_ref(other));
	g_mutex_unlock(&tree->lock);
	for (guint i = 0; i < known->len; i++) {
		if (!snap_save_over(known->pdata[i]))
			continue;
		g_mutex_lock(&tree->lock);
		if (g_hash_table_steal(tree->saves, known->pdata[i]))
			g_ptr_array_add(over, known->pdata[i]);
		g_mutex_unlock(&tree->lock);
	}
}

/* Fails the saves that run; true when there were any. */
static bool abort_saves(SnapTree *tree)
{
	g_autoptr(GPtrArray) saves = take_saves(tree);
	bool any = false;

	for (guint i = 0; i < saves->len; i++) {
		any |= !snap_save_over(saves->pdata[i]);
		snap_save_abort(saves->pdata[i],
				"the mount was ended while it was being saved");
	}
	for (guint i = 0; i < saves->len; i++)
		snap_save_wait(saves->pdata[i], NULL);
	return any;
}

/* Has anybody a stream open to write? */
static bool is_held(SnapTree *tree)
{
	GHashTableIter iter;
	gpointer handle;
	SNAP_LOCKED(&tree->lock);

	g_hash_table_iter_init(&iter, tree->handles);
	while (g_hash_table_iter_next(&iter, &handle, NULL))
		if (snap_incoming_is_handle(handle))
			return true;
	return false;
}

void snap_tree_end_saves(SnapTree *tree)
{
	gint64 until = g_get_monotonic_time() + LAST_CLOSE_US;

	if (!abort_saves(tree))
		return;
	while (is_held(tree) && g_get_monotonic_time() < until)
		g_usleep(10 * 1000);
}

void snap_tree_quiesce(SnapTree *tree)
{
	abort_saves(tree);
	g_mutex_lock(&tree->lock);
	while (tree->writes)
		g_cond_wait(&tree->idle, &tree->lock);
	g_mutex_unlock(&tree->lock);
}

/* ---- tickets ---- */

static gboolean is_old(gpointer key, gpointer ticket, gpointer now)
{
	return ((struct ticket *)ticket)->until < *(gint64 *)now;
}

bool snap_ticket_issue(SnapNode *folder, pid_t thread)
{
	SnapTree *tree = folder->tree;
	gint64 now = g_get_monotonic_time();
	struct ticket *t;
	bool again;

	g_mutex_lock(&tree->lock);
	t = g_hash_table_lookup(tree->tickets, GINT_TO_POINTER(thread));
	again = t && t->folder == folder;
	g_hash_table_remove(tree->tickets, GINT_TO_POINTER(thread));
	if (!again) {
		if (g_hash_table_size(tree->tickets) > 256)
			g_hash_table_foreach_remove(tree->tickets, is_old,
						    &now);
		t = g_new(struct ticket, 1);
		t->folder = folder;
		t->until = now + TICKET_US;
		g_hash_table_insert(tree->tickets, GINT_TO_POINTER(thread), t);
	}
	g_mutex_unlock(&tree->lock);
	return again;
}

bool snap_ticket_find(SnapNode *folder, pid_t thread, bool done)
{
	SnapTree *tree = folder->tree;
	struct ticket *t;
	bool found;

	if (!thread)
		return false;
	g_mutex_lock(&tree->lock);
	t = g_hash_table_lookup(tree->tickets, GINT_TO_POINTER(thread));
	found = t && t->folder == folder && t->until >= g_get_monotonic_time();
	if (found && done)
		g_hash_table_remove(tree->tickets, GINT_TO_POINTER(thread));
	g_mutex_unlock(&tree->lock);
	return found;
}
