/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Views that were removed while others of the same snapshot were not.
 *
 * They are the same bytes, so removing one frees nothing; it is hidden until
 * the last one is removed, and with it the snapshot. This is kept in memory
 * only: after a remount all are there again.
 */
#include "fs/view/view-internal.h"

#include "format/base/cleanup.h"

/* What a snapshot is called here: its file, and itself. */
static char *hidden_key(const SnapSealed *s)
{
	const struct snap_meta *meta = snap_sealed_meta(s);
	GString *key = g_string_new(NULL);

	g_string_printf(key, "%" G_GINT64_MODIFIER "x:%" G_GINT64_MODIFIER "x:",
			s->key.dev, s->key.ino);
	for (guint i = 0; meta && i < sizeof(meta->uuid); i++)
		g_string_append_printf(key, "%02x", meta->uuid[i]);
	return g_string_free(key, FALSE);
}

unsigned snap_hidden_get(const SnapSealed *sealed)
{
	SnapTree *tree = sealed->tree;
	g_autofree char *key = NULL;
	unsigned bits = 0;

	g_mutex_lock(&tree->lock);
	if (g_hash_table_size(tree->hidden)) {
		key = hidden_key(sealed);
		bits = GPOINTER_TO_UINT(g_hash_table_lookup(tree->hidden, key));
	}
	g_mutex_unlock(&tree->lock);
	return bits;
}

/* Hides views, shows others; gives what is hidden then. */
static unsigned hidden_change(const SnapSealed *sealed, unsigned hide,
			      unsigned show)
{
	SnapTree *tree = sealed->tree;
	g_autofree char *key = hidden_key(sealed);
	SNAP_LOCKED(&tree->lock);
	unsigned bits =
		GPOINTER_TO_UINT(g_hash_table_lookup(tree->hidden, key));

	bits = (bits | hide) & ~show;
	if (bits)
		g_hash_table_replace(tree->hidden, g_steal_pointer(&key),
				     GUINT_TO_POINTER(bits));
	else
		g_hash_table_remove(tree->hidden, key);
	return bits;
}

unsigned snap_hidden_add(const SnapSealed *sealed, guint view)
{
	return hidden_change(sealed, 1u << view, 0);
}

void snap_hidden_remove(const SnapSealed *sealed, guint view)
{
	hidden_change(sealed, 0, 1u << view);
}

void snap_hidden_drop(const SnapSealed *sealed)
{
	hidden_change(sealed, 0, ~0u);
}
