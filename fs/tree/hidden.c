/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Views whose names were removed while the snapshot was not. They are the same
 * bytes, so removing one frees nothing: it is hidden until the snapshot is
 * removed or replaced. This is kept in memory, so a new mount shows it again.
 */
#include "fs/tree/tree-internal.h"

#include <string.h>

#include "format/base/cleanup.h"

/* Snapshots that are remembered. They are forgotten when there are more. */
#define HIDDEN_MAX 4096u

struct SnapHidden {
	GMutex lock;
	GHashTable *views; /* bits by snapshot; protected by lock */
};

static guint id_hash(gconstpointer id)
{
	return snap_node_hash(id, sizeof(struct snap_sealed_id));
}

static gboolean id_equal(gconstpointer a, gconstpointer b)
{
	return !memcmp(a, b, sizeof(struct snap_sealed_id));
}

SnapHidden *snap_hidden_new(void)
{
	SnapHidden *hidden = g_new0(SnapHidden, 1);

	g_mutex_init(&hidden->lock);
	hidden->views = g_hash_table_new_full(id_hash, id_equal, g_free, NULL);
	return hidden;
}

void snap_hidden_free(SnapHidden *hidden)
{
	g_hash_table_destroy(hidden->views);
	g_mutex_clear(&hidden->lock);
	g_free(hidden);
}

static guint bit_of(const SnapView *view)
{
	return 1u << snap_view_number(view);
}

/* Changes the bits of a snapshot. */
static void change(SnapHidden *hidden, const SnapSealed *sealed, guint hide,
		   guint show)
{
	struct snap_sealed_id id = snap_sealed_id(sealed);
	SNAP_LOCKED(&hidden->lock);
	guint bits = GPOINTER_TO_UINT(g_hash_table_lookup(hidden->views, &id));

	bits = (bits | hide) & ~show;
	if (!bits) {
		g_hash_table_remove(hidden->views, &id);
		return;
	}
	if (g_hash_table_size(hidden->views) >= HIDDEN_MAX)
		g_hash_table_remove_all(hidden->views);
	g_hash_table_replace(hidden->views, g_memdup2(&id, sizeof(id)),
			     GUINT_TO_POINTER(bits));
}

void snap_hidden_add(SnapHidden *hidden, const SnapSealed *sealed,
		     const SnapView *view)
{
	change(hidden, sealed, bit_of(view), 0);
}

void snap_hidden_remove(SnapHidden *hidden, const SnapSealed *sealed,
			const SnapView *view)
{
	change(hidden, sealed, 0, view ? bit_of(view) : ~0u);
}

bool snap_hidden_has(SnapHidden *hidden, const SnapSealed *sealed,
		     const SnapView *view)
{
	struct snap_sealed_id id = snap_sealed_id(sealed);
	SNAP_LOCKED(&hidden->lock);

	return GPOINTER_TO_UINT(g_hash_table_lookup(hidden->views, &id)) &
	       bit_of(view);
}
