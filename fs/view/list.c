/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listing a folder: what lies in the store, without the names that are snapfs's
 * own, and the views of the snapshot in it. */
#include "fs/view/writing-internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/error.h"

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
	int fd = openat(snap_store_node(folder)->fd, ".",
			O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	int r;

	if (!dir) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while ((errno = 0, d = readdir(dir)) != NULL)
		if (snap_tree_name(d->d_name, NULL) == SNAP_NAME_ORDINARY)
			list_add(list, d->d_name, d->d_ino, d->d_type);
	r = -errno;
	closedir(dir);
	return r;
}

/* What is there of a view without a snapshot: a stream on its way, or a part.
 */
static void list_unsealed(SnapList *list, SnapNode *folder,
			  const struct snap_view *view, bool parts)
{
	SnapIncoming *in = view->saves ? snap_writers_find(folder, view) : NULL;
	struct stat st;

	if (in) {
		list_add(list, view->name, snap_incoming_ino(&in->node),
			 DT_REG);
		snap_node_unref(&in->node, 1);
	} else if (parts && snap_part_stat(folder, view, &st)) {
		list_add(list, view->name, st.st_ino, DT_REG);
	}
}

/* The views of the snapshot, streams on their way, and parts. */
static int list_views(SnapList *list, SnapNode *folder)
{
	g_autoptr(SnapSealed) sealed = NULL;
	unsigned listed = 0;
	int r;

	snap_writers_reap(folder);
	r = snap_sealed_get(folder, &sealed);
	if (r < 0 && r != -ENOENT)
		return r;
	/* Parts that a mount left which ended while it made the snapshot. */
	if (sealed && !folder->tree->read_only)
		snap_parts_check(folder);
	for (guint i = 0; sealed && i < snap_n_views; i++) {
		if (!snap_sealed_shows(sealed, i))
			continue;
		list_add(list, snap_views[i]->name, snap_view_ino(sealed, i),
			 DT_REG);
		listed |= 1u << i;
	}
	for (guint i = 0; i < snap_n_views; i++)
		if (!(listed & 1u << i))
			list_unsealed(list, folder, snap_views[i], !sealed);
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

int snap_node_list(SnapNode *folder, SnapList **ret_list)
{
	g_autoptr(SnapList) list = list_new();
	int r = 0;

	snap_count(folder->tree, SNAP_COUNT_LIST);
	if (snap_is_service_folder(folder))
		list_service(list);
	else if (!snap_is_folder(folder))
		return -ENOTDIR;
	else
		r = list_store(list, folder);
	if (r == 0 && snap_is_folder(folder))
		r = list_views(list, folder);
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
