/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel keeps a node, and with it a descriptor, for each ordinary file
 * that it has looked up. When half of the descriptors are in use, each new node
 * has the kernel forget some older ones.
 */
#include "fs/plain/plain-internal.h"

#include <limits.h>
#include <string.h>

#include "format/base/cleanup.h"

/* Nodes that the kernel is asked to forget for each new one. */
#define FORGOTTEN 2

/* The node of the folder at `path`, a reference, or NULL when it has none. */
static SnapNode *known_folder(SnapPlain *plain, const char *path)
{
	struct snap_node_key key;
	struct stat st;

	if (stat(path, &st) < 0)
		return NULL;
	key = snap_store_key(&st);
	return snap_node_find(plain->nodes, &key);
}

/* Asks the kernel to forget the present name of a file. */
static void forget_name(SnapStoreNode *s)
{
	SnapNode *folder;
	char path[PATH_MAX], *name;

	if (!snap_plain_path(s->fd, path, sizeof(path)))
		return;
	name = strrchr(path, '/');
	if (!name || name == path)
		return;
	*name++ = '\0';
	folder = known_folder(s->plain, path);
	if (!folder)
		return;
	snap_node_changed(folder, name);
	snap_node_unref(folder, 1);
}

/* The node that was not asked about for longest, a reference, or NULL. */
static SnapStoreNode *next_file(SnapPlain *plain)
{
	SNAP_LOCKED(&plain->lock);
	GList *link = g_queue_pop_head_link(&plain->files);

	if (!link)
		return NULL;
	g_queue_push_tail_link(&plain->files, link);
	return snap_node_try_ref(link->data) ? link->data : NULL;
}

void snap_forget_add(SnapStoreNode *s)
{
	SnapPlain *plain = s->plain;

	g_mutex_lock(&plain->lock);
	s->link.data = s;
	s->linked = true;
	g_queue_push_tail_link(&plain->files, &s->link);
	g_mutex_unlock(&plain->lock);
	if (s->fd < plain->fds_ordinary / 2)
		return;
	for (int i = 0; i < FORGOTTEN; i++) {
		SnapStoreNode *other = next_file(plain);

		if (!other)
			return;
		forget_name(other);
		snap_node_unref(&other->node, 1);
	}
}

void snap_forget_remove(SnapStoreNode *s)
{
	SNAP_LOCKED(&s->plain->lock);

	if (s->linked)
		g_queue_unlink(&s->plain->files, &s->link);
}
