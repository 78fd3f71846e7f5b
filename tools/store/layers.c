/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapfs ls --layers: the files whose pages snapshots share, and who uses
 * them. */
#include "tools/store/layers.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "format/base/beneath.h"
#include "format/base/error.h"
#include "tools/cli/print.h"

/* A file that snapshots use. */
struct layer {
	char *name;	  /* of the snapshot whose file it is; NULL: of none */
	GPtrArray *users; /* the names of the others */
	uint64_t used;	  /* bytes, by the one that uses most */
};

struct SnapLayerList {
	GHashTable *layers; /* by the file's name among the layers */
};

static void layer_free(gpointer data)
{
	struct layer *l = data;

	g_free(l->name);
	g_ptr_array_unref(l->users);
	g_free(l);
}

SnapLayerList *snap_layer_list_new(void)
{
	SnapLayerList *list = g_new0(SnapLayerList, 1);

	list->layers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
					     layer_free);
	return list;
}

void snap_layer_list_free(SnapLayerList *list)
{
	if (!list)
		return;
	g_hash_table_unref(list->layers);
	g_free(list);
}

static struct layer *layer_of(SnapLayerList *list, const uint8_t uuid[16])
{
	char file[SNAP_CATALOG_LAYER_NAME];
	struct layer *l;

	snap_catalog_layer_name(uuid, file);
	l = g_hash_table_lookup(list->layers, file);
	if (!l) {
		l = g_new0(struct layer, 1);
		l->users = g_ptr_array_new_with_free_func(g_free);
		g_hash_table_insert(list->layers, g_strdup(file), l);
	}
	return l;
}

void snap_layer_list_add(SnapLayerList *list, const char *name,
			 const struct snap_meta *meta)
{
	struct layer *own = layer_of(list, meta->uuid);

	if (!own->name)
		own->name = g_strdup(name);
	for (guint i = 0; i < meta->n_layers; i++) {
		struct layer *l = layer_of(list, meta->layers[i].uuid);

		g_ptr_array_add(l->users, g_strdup(name));
		l->used = MAX(l->used, meta->layers[i].used);
	}
}

static char *users_of(const struct layer *l)
{
	GString *text = g_string_new(NULL);

	for (guint i = 0; l && i < l->users->len; i++)
		g_string_append_printf(text, "%s%s", i ? ", " : "",
				       (char *)l->users->pdata[i]);
	return g_string_free(text, FALSE);
}

static void add_row(SnapTable *table, const struct layer *l, const char *uuid,
		    uint64_t size)
{
	g_autofree char *disk = snap_size_format(size);
	g_autofree char *used =
		l && l->used ? snap_size_format(l->used) : g_strdup("-");
	g_autofree char *users = users_of(l);
	const char *cells[] = { uuid, disk, used, l && l->name ? l->name : "-",
				*users ? users : "-" };

	snap_table_add(table, cells);
}

static void add_json(SnapJsonWriter *json, const struct layer *l,
		     const char *uuid, uint64_t size)
{
	snap_json_writer_object(json, NULL);
	snap_json_writer_text(json, "uuid", uuid);
	snap_json_writer_number(json, "disk", size);
	snap_json_writer_number(json, "used", l ? l->used : 0);
	if (l && l->name)
		snap_json_writer_name(json, "name", l->name);
	snap_json_writer_list(json, "used_by");
	for (guint i = 0; l && i < l->users->len; i++) {
		snap_json_writer_object(json, NULL);
		snap_json_writer_name(json, "name", l->users->pdata[i]);
		snap_json_writer_end(json);
	}
	snap_json_writer_end(json);
	snap_json_writer_end(json);
}

/* The size of a file; -1 for what is no layer. */
static off_t size_of(int dirfd, const char *file)
{
	struct stat st;

	if (!snap_catalog_is_layer_name(file) ||
	    fstatat(dirfd, file, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode))
		return -1;
	return st.st_size;
}

static void print_file(SnapLayerList *list, int dirfd, const char *file,
		       SnapTable *table, SnapJsonWriter *json)
{
	g_autofree char *uuid = g_strndup(file, SNAP_UUID_TEXT - 1);
	const struct layer *l = g_hash_table_lookup(list->layers, file);
	off_t size = size_of(dirfd, file);

	if (size >= 0 && json)
		add_json(json, l, uuid, (uint64_t)size);
	else if (size >= 0)
		add_row(table, l, uuid, (uint64_t)size);
}

int snap_layer_list_print(SnapLayerList *list, SnapCatalog *catalog,
			  SnapJsonWriter *json, GError **error)
{
	static const char *const headings[] = { "UUID", ">DISK",   ">USED",
						"NAME", "USED BY", NULL };
	int fd = snap_open_below(snap_catalog_fd(catalog), SNAP_CATALOG_LAYERS,
				 O_RDONLY | O_DIRECTORY, 0);
	g_autoptr(SnapTable) table = snap_table_new(headings);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;

	if (json) {
		snap_json_writer_end(json);
		snap_json_writer_list(json, "layers");
	}
	if (fd == -ENOENT)
		return 0;
	if (!dir)
		return snap_fail_errno(error, fd < 0 ? -fd : errno,
				       SNAP_CATALOG_LAYERS);
	while ((d = readdir(dir)) != NULL)
		print_file(list, fd, d->d_name, table, json);
	closedir(dir);
	if (snap_table_rows(table))
		snap_table_print(table);
	return 0;
}
