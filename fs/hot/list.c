/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file `hot` in a snapshot's folder, and what a mount's files share. */
#include "fs/hot/hot-internal.h"

#include <fcntl.h>
#include <string.h>

#include "format/base/cleanup.h"
#include "format/base/fileio.h"
#include "fs/catalog/catalog.h"

SnapHotPages *snap_hot_pages_new(int tmp_fd, snap_hot_open_proc open_proc)
{
	SnapHotPages *hot = g_new0(SnapHotPages, 1);

	hot->tmp_fd = tmp_fd;
	hot->open_proc = open_proc;
	g_mutex_init(&hot->lock);
	g_cond_init(&hot->idle);
	return hot;
}

void snap_hot_pages_free(SnapHotPages *hot)
{
	g_cond_clear(&hot->idle);
	g_mutex_clear(&hot->lock);
	g_free(hot);
}

void snap_hot_pages_mounted(SnapHotPages *hot, dev_t device)
{
	SNAP_LOCKED(&hot->lock);

	hot->device = device;
}

static GArray *read_list(int folder_fd, const struct snap_ramlist *ram)
{
	g_autofree char *text = NULL;
	size_t size;

	if (snap_read_file(folder_fd, SNAP_CATALOG_HOT, SNAP_HOT_SIZE_MAX,
			   &text, &size) < 0)
		return snap_hot_new();
	return snap_hot_parse(text, size, ram);
}

GArray *snap_hot_read(SnapNode *folder, const struct snap_ramlist *ram)
{
	snap_autofd int fd = snap_store_open(folder);

	return read_list(fd, ram);
}

/* True while the folder holds the snapshot that was learnt from, and `hot` is
 * no other kind of file. */
static bool may_write(const struct snap_hot_file *file, int folder_fd)
{
	struct stat st, now;

	if (fstatat(folder_fd, SNAP_CATALOG_HOT, &now, AT_SYMLINK_NOFOLLOW) ==
		    0 &&
	    !S_ISREG(now.st_mode))
		return false;
	return fstat(file->snapshot_fd, &st) == 0 &&
	       fstatat(folder_fd, SNAP_CATALOG_SNAPSHOT, &now,
		       AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_ino == now.st_ino && st.st_dev == now.st_dev;
}

void snap_hot_add_runs(const struct snap_hot_file *file, const GArray *runs)
{
	snap_autofd int folder_fd = snap_store_open(file->folder);
	g_autoptr(GArray) known = read_list(folder_fd, file->ram);
	g_autoptr(GArray) merged = snap_hot_merge(known, runs, file->ram);
	g_autofree char *text = snap_hot_format(merged, file->ram);
	g_autofree char *temporary = g_uuid_string_random();
	/* Not in the snapshot's folder: a killed mount would leave it there,
	 * where nobody sees it and `rm -r` fails. */
	struct snap_replace how = { .dirfd = folder_fd,
				    .name = SNAP_CATALOG_HOT,
				    .tmp_dirfd = file->hot->tmp_fd,
				    .tmp_name = temporary,
				    .like_fd = file->snapshot_fd,
				    .mode = 0666 };

	if (may_write(file, folder_fd))
		snap_replace_file(&how, text, strlen(text));
}
