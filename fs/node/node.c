/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Nodes: the table in which a node is found again, references, counters. */
#include "fs/node/node-internal.h"

#include <string.h>

#include "format/base/cleanup.h"

/* ---- the table ---- */

guint snap_node_hash(const void *data, size_t size)
{
	const uint8_t *p = data;
	guint hash = 2166136261u; /* FNV-1a */

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ p[i]) * 16777619u;
	return hash;
}

static guint key_hash(gconstpointer key)
{
	return snap_node_hash(key, sizeof(struct snap_node_key));
}

static gboolean key_equal(gconstpointer a, gconstpointer b)
{
	return !memcmp(a, b, sizeof(struct snap_node_key));
}

SnapNodes *snap_nodes_new(const struct snap_nodes_opts *opts)
{
	SnapNodes *nodes = g_new0(SnapNodes, 1);

	nodes->opts = *opts;
	g_mutex_init(&nodes->lock);
	nodes->table = g_hash_table_new(key_hash, key_equal);
	nodes->numbers = g_hash_table_new(g_int64_hash, g_int64_equal);
	return nodes;
}

void snap_nodes_free(SnapNodes *nodes)
{
	g_hash_table_destroy(nodes->numbers);
	g_hash_table_destroy(nodes->table);
	g_mutex_clear(&nodes->lock);
	g_free(nodes);
}

void snap_nodes_on_change(SnapNodes *nodes, snap_nodes_changed changed,
			  void *data)
{
	nodes->changed = changed;
	nodes->changed_data = data;
}

void snap_node_changed(SnapNode *folder, const char *name)
{
	SnapNodes *nodes = folder->nodes;

	if (nodes->changed)
		nodes->changed(nodes->changed_data, folder, name);
}

void snap_nodes_count(SnapNodes *nodes, enum snap_count what)
{
	__atomic_add_fetch(&nodes->counts[what], 1, __ATOMIC_RELAXED);
}

uint64_t snap_nodes_counted(SnapNodes *nodes, enum snap_count what)
{
	return __atomic_load_n(&nodes->counts[what], __ATOMIC_RELAXED);
}

/* ---- references ---- */

/* Frees a node: the node to which it held a reference. */
static SnapNode *node_free(SnapNode *node)
{
	SnapNode *held = node->ops->clear(node);

	g_free(node);
	return held;
}

SnapNode *snap_node_ref(SnapNode *node)
{
	SNAP_LOCKED(&node->nodes->lock);

	node->refs++;
	return node;
}

bool snap_node_try_ref(SnapNode *node)
{
	SNAP_LOCKED(&node->nodes->lock);

	if (!node->refs)
		return false;
	node->refs++;
	return true;
}

/* Gives `n` references back; true when they were the last. */
static bool put_refs(SnapNode *node, uint64_t n)
{
	SnapNodes *nodes = node->nodes;
	SNAP_LOCKED(&nodes->lock);

	g_assert(node->refs >= n);
	node->refs -= n;
	if (node->refs)
		return false;
	g_hash_table_remove(nodes->table, &node->key);
	g_hash_table_remove(nodes->numbers, &node->number);
	return true;
}

void snap_node_unref(SnapNode *node, uint64_t n)
{
	while (node && put_refs(node, n)) {
		node = node_free(node);
		n = 1;
	}
}

SnapNode *snap_node_intern(SnapNode *fresh)
{
	SnapNodes *nodes = fresh->nodes;
	SnapNode *node;

	g_mutex_lock(&nodes->lock);
	node = g_hash_table_lookup(nodes->table, &fresh->key);
	if (!node) {
		node = fresh;
		node->number = ++nodes->newest;
		g_hash_table_insert(nodes->table, &node->key, node);
		g_hash_table_insert(nodes->numbers, &node->number, node);
	}
	node->refs++;
	g_mutex_unlock(&nodes->lock);
	if (node == fresh)
		return node;
	fresh = node_free(fresh);
	if (fresh)
		snap_node_unref(fresh, 1);
	return node;
}

/* ---- what the kernel knows ---- */

uint64_t snap_node_number(const SnapNode *node)
{
	return node->number;
}

void snap_node_known(SnapNode *node)
{
	SNAP_LOCKED(&node->nodes->lock);

	node->known++;
}

SnapNode *snap_nodes_get(SnapNodes *nodes, uint64_t number)
{
	SNAP_LOCKED(&nodes->lock);
	SnapNode *node = g_hash_table_lookup(nodes->numbers, &number);

	if (!node || !node->known)
		return NULL;
	node->refs++;
	return node;
}

void snap_nodes_forget(SnapNodes *nodes, uint64_t number, uint64_t n)
{
	SnapNode *node;

	g_mutex_lock(&nodes->lock);
	node = g_hash_table_lookup(nodes->numbers, &number);
	n = node ? MIN(n, node->known) : 0;
	if (n)
		node->known -= n;
	g_mutex_unlock(&nodes->lock);
	if (n)
		snap_node_unref(node, n);
}
