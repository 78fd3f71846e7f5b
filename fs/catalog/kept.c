/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which layers are kept although no snapshot lists them: a save needs them, or
 * was published a moment ago. */
#include "fs/catalog/catalog-internal.h"

#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"

struct SnapKept {
	SnapLayers *layers;
	int fd; /* of the snapshot's file */
	guint n;
	char *names[SNAP_LAYERS_MAX + 1];
};

void snap_catalog_layer_name(const uint8_t uuid[16],
			     char ret[SNAP_CATALOG_LAYER_NAME])
{
	char text[SNAP_UUID_TEXT];

	snap_uuid_text(uuid, text);
	g_snprintf(ret, SNAP_CATALOG_LAYER_NAME, "%s.zst", text);
}

bool snap_catalog_is_layer_name(const char *name)
{
	return strlen(name) == SNAP_CATALOG_LAYER_NAME - 1 &&
	       g_str_has_suffix(name, ".zst");
}

SnapLayers *snap_layers_new(void)
{
	SnapLayers *l = g_new0(SnapLayers, 1);

	g_mutex_init(&l->lock);
	g_mutex_init(&l->collecting);
	l->kept = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	l->recent =
		g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	return l;
}

void snap_layers_free(SnapLayers *l)
{
	if (l->thread)
		g_thread_join(l->thread);
	g_hash_table_unref(l->kept);
	g_hash_table_unref(l->recent);
	g_mutex_clear(&l->collecting);
	g_mutex_clear(&l->lock);
	g_free(l);
}

bool snap_layers_keeps_locked(const SnapLayers *l, const char *name)
{
	return g_hash_table_contains(l->kept, name) ||
	       g_hash_table_contains(l->recent, name);
}

SnapKept *snap_kept_new(SnapLayers *layers, int fd)
{
	SnapKept *kept = g_new0(SnapKept, 1);

	kept->layers = layers;
	kept->fd = fd;
	return kept;
}

int snap_kept_fd(const SnapKept *kept)
{
	return kept->fd;
}

void snap_kept_add(SnapKept *kept, const uint8_t uuid[16])
{
	SnapLayers *l = kept->layers;
	char name[SNAP_CATALOG_LAYER_NAME];
	gpointer count;
	SNAP_LOCKED(&l->lock);

	snap_catalog_layer_name(uuid, name);
	kept->names[kept->n++] = g_strdup(name);
	count = g_hash_table_lookup(l->kept, name);
	g_hash_table_replace(l->kept, g_strdup(name),
			     GUINT_TO_POINTER(GPOINTER_TO_UINT(count) + 1));
}

/* A collection that began before the snapshot was published has not seen it. So
 * the name is kept until the next one begins. */
static void release_name(SnapLayers *l, char *name)
{
	guint count;
	SNAP_LOCKED(&l->lock);

	count = GPOINTER_TO_UINT(g_hash_table_lookup(l->kept, name));
	if (count > 1)
		g_hash_table_replace(l->kept, g_strdup(name),
				     GUINT_TO_POINTER(count - 1));
	else
		g_hash_table_remove(l->kept, name);
	g_hash_table_add(l->recent, name);
}

void snap_kept_free(SnapKept *kept)
{
	if (!kept)
		return;
	for (guint i = 0; i < kept->n; i++)
		release_name(kept->layers, kept->names[i]);
	close(kept->fd);
	g_free(kept);
}
