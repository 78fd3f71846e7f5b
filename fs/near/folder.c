/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What lies in the folder when a mount begins. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "fs/near/near-internal.h"

struct snap_copy *snap_near_add_locked(SnapNear *near, const char *name,
				       uint64_t bytes)
{
	struct snap_copy *copy = g_new0(struct snap_copy, 1);

	copy->near = near;
	copy->name = g_strdup(name);
	copy->fd = -1;
	copy->bytes = bytes;
	copy->used = SNAP_NEAR_COUNT(near, clock, 1);
	near->bytes += bytes;
	g_hash_table_insert(near->copies, copy->name, copy);
	return copy;
}

/* True for the names that snap_near_wrap() gives; others are left alone. */
static bool is_ours(const char *name)
{
	g_autofree char *uuid = g_strndup(name, SNAP_UUID_TEXT - 1);

	return g_uuid_string_is_valid(uuid) && name[strlen(uuid)] == '.';
}

struct found {
	char *name;
	struct stat st;
};

static void found_clear(gpointer data)
{
	g_free(((struct found *)data)->name);
}

static gint compare_found(gconstpointer a, gconstpointer b)
{
	const struct timespec *x = &((const struct found *)a)->st.st_mtim;
	const struct timespec *y = &((const struct found *)b)->st.st_mtim;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

static void list_found(SnapNear *near, DIR *dir, GArray *found)
{
	struct dirent *entry;

	while ((entry = readdir(dir))) {
		struct found f;

		if (!is_ours(entry->d_name) ||
		    fstatat(near->fd, entry->d_name, &f.st,
			    AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		f.name = g_strdup(entry->d_name);
		g_array_append_val(found, f);
	}
}

int snap_near_scan(SnapNear *near)
{
	g_autoptr(GArray) found =
		g_array_new(FALSE, FALSE, sizeof(struct found));
	int fd = snap_open_below(near->fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (fd < 0)
		return fd;
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	g_array_set_clear_func(found, found_clear);
	list_found(near, dir, found);
	closedir(dir);
	g_array_sort(found, compare_found);
	for (guint i = 0; i < found->len; i++) {
		struct found *f = &g_array_index(found, struct found, i);

		snap_near_add_locked(near, f->name,
				     (uint64_t)f->st.st_blocks * 512);
	}
	return 0;
}
