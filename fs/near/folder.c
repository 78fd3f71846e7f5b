/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What lies in the folder when a mount begins. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "fs/near/near-internal.h"

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

/* An earlier mount may have had a larger cache. The copy that was read last is
 * opened: all others go first, and then what is too much of it. */
static void trim(SnapNear *near, const struct found *last)
{
	if (near->bytes > near->limit)
		snap_copy_put(snap_copy_get(near, last->name,
					    (uint64_t)last->st.st_size),
			      false);
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

		snap_copy_new_locked(near, f->name,
				     (uint64_t)f->st.st_blocks * 512);
	}
	if (found->len)
		trim(near, &g_array_index(found, struct found, found->len - 1));
	return 0;
}
