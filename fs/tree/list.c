/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lists a folder: the names in the store, without those that snapfs keeps for
 * itself, and the listed views of the snapshot, or the streams and parts that
 * are on their way in.
 */
#include "fs/tree/tree-internal.h"

#include <dirent.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"

struct SnapList {
	GArray *names; /* of struct snap_listed */
	GStringChunk *text;
};

void snap_list_free(SnapList *list)
{
	if (!list)
		return;
	g_array_free(list->names, TRUE);
	g_string_chunk_free(list->text);
	g_free(list);
}

static SnapList *list_new(void)
{
	SnapList *list = g_new0(SnapList, 1);

	list->names = g_array_new(FALSE, FALSE, sizeof(struct snap_listed));
	list->text = g_string_chunk_new(4096);
	return list;
}

static void list_add(SnapList *list, const char *name, uint64_t ino,
		     unsigned type)
{
	struct snap_listed listed = {
		.name = g_string_chunk_insert(list->text, name),
		.ino = ino,
		.type = type,
	};

	g_array_append_val(list->names, listed);
}

/* The names that lie in the store. */
static int list_store(SnapList *list, SnapNode *folder)
{
	snap_autofd int at = snap_store_open(folder);
	int fd = at < 0 ? at : snap_open_folder(at);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	int r;

	if (fd < 0)
		return fd;
	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	while ((errno = 0, d = readdir(dir)) != NULL)
		if (snap_name_kind(d->d_name) == SNAP_NAME_ORDINARY)
			list_add(list, d->d_name, d->d_ino, d->d_type);
	r = -errno;
	closedir(dir);
	return r;
}

/* Lists a stream on its way in; false when there is none. */
static bool list_incoming(SnapTree *tree, SnapList *list, SnapNode *folder,
			  const char *name, bool begun)
{
	SnapIncoming *in = snap_incoming_find(tree->incoming, folder, name);
	bool is = in &&
		  (!begun || snap_incoming_state(in) >= SNAP_INCOMING_SAVING);

	if (is)
		list_add(list, name, snap_incoming_ino(in), DT_REG);
	if (in)
		snap_node_unref(snap_incoming_node(in), 1);
	return is;
}

/* What the folder lists by the name of a view: of the snapshot, of a stream on
 * its way in, or of a part. */
static void list_view(SnapTree *tree, SnapList *list, SnapNode *folder,
		      SnapSealed *sealed, const SnapView *view)
{
	struct snap_shown shown = snap_shown_of(tree, sealed, view);
	const char *name = snap_view_name(view);
	struct stat st;

	if (shown.visible && snap_view_listed(view, sealed))
		list_add(list, name, snap_view_ino(view, sealed), DT_REG);
	else if (!list_incoming(tree, list, folder, name, sealed != NULL) &&
		 (shown.may_be_part
			  ? snap_part_stat(folder, name, &st)
			  : !sealed && snap_incoming_is_name(name) &&
				    snap_head_stat(folder, name, &st)))
		list_add(list, name, st.st_ino, DT_REG);
}

static int list_views(SnapTree *tree, SnapList *list, SnapNode *folder)
{
	g_autoptr(SnapSealed) sealed = NULL;
	const SnapView *view;
	int r = snap_sealed_get(tree->snapshots, folder, &sealed);

	if (r < 0 && r != -ENOENT)
		return r;
	/* A mount that was killed may have left parts beside the snapshot. */
	if (sealed && !tree->read_only)
		snap_parts_replaced(tree->incoming, folder, false);
	for (guint i = 0; (view = snap_view_get(i)); i++)
		list_view(tree, list, folder, sealed, view);
	return 0;
}

/* The names in the folder `.snapfs`. */
static void list_service(SnapList *list)
{
	struct snap_listed listed;

	list_add(list, ".", 1, DT_DIR);
	list_add(list, "..", 1, DT_DIR);
	for (guint i = 0; snap_service_listed(i, &listed); i++)
		list_add(list, listed.name, listed.ino, listed.type);
}

int snap_tree_list(SnapTree *tree, SnapNode *folder, SnapList **ret_list)
{
	g_autoptr(SnapList) list = list_new();
	int r = 0;

	snap_nodes_count(tree->nodes, SNAP_COUNT_LIST);
	if (snap_is_service_folder(folder))
		list_service(list);
	else if (!snap_is_folder(folder))
		return -ENOTDIR;
	else
		r = list_store(list, folder);
	if (r == 0 && snap_is_folder(folder))
		r = list_views(tree, list, folder);
	if (r < 0)
		return r;
	*ret_list = g_steal_pointer(&list);
	return 0;
}

bool snap_list_get(const SnapList *list, uint64_t i,
		   struct snap_listed *ret_listed)
{
	if (i >= list->names->len)
		return false;
	*ret_listed = g_array_index(list->names, struct snap_listed, i);
	return true;
}

int snap_tree_sync(SnapTree *tree, SnapNode *folder)
{
	return snap_is_folder(folder) ? snap_folder_sync(folder) : 0;
}
