/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What becomes of the parts in a folder, found out in a thread of its own: the
 * kernel's request that waits for the outcome is one of few that are served at
 * a time.
 *
 * Where there is no snapshot, one is made when both parts are whole. Where one
 * came otherwise, a part that is the same as its view goes, and one that is not
 * is kept under another name.
 */
#include "fs/view/writing-internal.h"

#include <stdio.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/log.h"

#include <fcntl.h>

#define CHUNK (256 * SNAP_KIB)
#define ORPHAN ".orphan"
#define ORPHANS_MAX 1000u

/* States of a folder in tree->settling. */
#define BUSY 1
#define BUSY_AND_AGAIN 2

struct settle {
	SnapNode *folder; /* a reference */
	const struct snap_view *closing;
	snap_handle_answer answer;
	void *data;
};

/* ---- comparing a part with its view ---- */

/* Compares a run of a file's bytes with the view. */
static int compare_run(SnapSealed *sealed, const struct snap_view *view, int fd,
		       uint64_t from, uint64_t to, uint64_t *ret_at)
{
	g_autofree uint8_t *buf = g_malloc(CHUNK);

	while (from < to) {
		ssize_t n = pread(fd, buf, MIN(to - from, CHUNK), (off_t)from);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		r = snap_compare_bytes(sealed, view, buf, (size_t)n, from,
				       ret_at);
		if (r)
			return r;
		from += (uint64_t)n;
	}
	return 0;
}

/* Where data begins and ends in a file, from `at` on. */
static void next_data(int fd, uint64_t at, uint64_t size, uint64_t *ret_from,
		      uint64_t *ret_to)
{
	off_t from = lseek(fd, (off_t)at, SEEK_DATA), to;

	if (from < 0 && errno != ENXIO)
		from = (off_t)at;
	*ret_from = *ret_to = size;
	if (from < 0)
		return;
	to = lseek(fd, from, SEEK_HOLE);
	*ret_from = (uint64_t)from;
	if (to > from)
		*ret_to = MIN((uint64_t)to, size);
}

/* 0 when the file is the same as the view, 1 when not, -errno. */
static int compare_file(SnapTree *tree, SnapSealed *sealed,
			const struct snap_view *view, int fd, uint64_t size,
			uint64_t *ret_at)
{
	uint64_t end, from, to;
	int r = view->size(sealed, &end);

	*ret_at = MIN(size, end);
	if (r < 0 || size != end)
		return r < 0 ? r : 1;
	for (uint64_t at = 0; at < size; at = to) {
		if (snap_tree_ending(tree))
			return -ECANCELED;
		next_data(fd, at, size, &from, &to);
		to = MIN(to, from + 64 * SNAP_MIB);
		r = snap_compare_zero(sealed, view, at, from, ret_at);
		if (r == 0)
			r = compare_run(sealed, view, fd, from, to, ret_at);
		if (r)
			return r;
	}
	return 0;
}

/* Gives a part a name that nothing has: -errno. */
static int rename_orphan(int fd, const char *name, char **ret_name)
{
	g_autofree char *to = g_strconcat(name, ORPHAN, NULL);

	for (guint i = 2; i <= ORPHANS_MAX; i++) {
		if (renameat2(fd, name, fd, to, RENAME_NOREPLACE) == 0) {
			*ret_name = g_steal_pointer(&to);
			return 0;
		}
		if (errno != EEXIST)
			return -errno;
		g_free(to);
		to = g_strdup_printf("%s" ORPHAN ".%u", name, i);
	}
	return -EEXIST;
}

/* Keeps a part under another name. */
static int orphan(SnapNode *folder, const struct snap_view *view, uint64_t at)
{
	g_autofree char *path = snap_folder_path(folder, view->name);
	g_autofree char *name = NULL;
	int r = rename_orphan(snap_store_node(folder)->fd, view->name, &name);

	if (r < 0)
		snap_log(SNAP_LOG_ERROR,
			 "%s: differs from the snapshot that came beside it, "
			 "and cannot be renamed: %s",
			 path, g_strerror(-r));
	else
		snap_log(SNAP_LOG_WARNING,
			 "%s: differs from offset %" G_GUINT64_FORMAT
			 " on from the snapshot that came beside it; it is "
			 "kept as %s",
			 path, at, name);
	return r < 0 ? r : -EPERM;
}

/* Looks at a part beside a snapshot. */
static int settle_part(SnapNode *folder, SnapSealed *sealed,
		       const struct snap_view *view)
{
	snap_autofd int fd = -1;
	uint64_t at = 0;
	struct stat st;
	int r = 1;

	if (!snap_part_stat(folder, view, NULL) ||
	    snap_parts_unfinished(folder, view))
		return 0;
	fd = openat(snap_store_node(folder)->fd, view->name,
		    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!sealed->error && view->present(sealed))
		r = compare_file(folder->tree, sealed, view, fd,
				 (uint64_t)st.st_size, &at);
	if (r > 0)
		return orphan(folder, view, at);
	if (r < 0)
		return snap_told(r);
	return unlinkat(snap_store_node(folder)->fd, view->name, 0) < 0 ? -errno
									: 0;
}

/* ---- the thread ---- */

static int settle(struct settle *s)
{
	g_autoptr(SnapSealed) sealed = NULL;
	int r = snap_sealed_get(s->folder, &sealed), result = 0;

	if (r == -ENOENT) {
		if (snap_parts_unfinished(s->folder, NULL))
			return 0;
		r = snap_parts_assemble(s->folder, s->closing);
		if (r != -EEXIST)
			return MIN(r, 0);
		r = snap_sealed_get(s->folder, &sealed);
	}
	if (r < 0)
		return snap_told(r);
	for (guint i = 0; i < snap_n_views; i++) {
		r = snap_views[i]->part
			    ? settle_part(s->folder, sealed, snap_views[i])
			    : 0;
		if (snap_views[i] == s->closing)
			result = r;
	}
	return result;
}

/* True when it is to be looked at once more; else nobody looks any more. */
static bool again(SnapNode *folder)
{
	SnapTree *tree = folder->tree;
	bool more;
	SNAP_LOCKED(&tree->lock);

	more = g_hash_table_lookup(tree->settling, folder) ==
	       GINT_TO_POINTER(BUSY_AND_AGAIN);
	if (more)
		g_hash_table_replace(tree->settling, folder,
				     GINT_TO_POINTER(BUSY));
	else
		g_hash_table_remove(tree->settling, folder);
	g_cond_broadcast(&tree->idle);
	return more;
}

static void settle_end(struct settle *s, int r)
{
	SnapTree *tree = s->folder->tree;

	if (s->answer)
		s->answer(s->data, r);
	snap_node_unref(s->folder, 1);
	g_free(s);
	snap_writers_over(tree);
}

static gpointer settle_thread(gpointer data)
{
	struct settle *s = data;
	int r = settle(s);

	while (again(s->folder))
		settle(s);
	settle_end(s, r);
	return NULL;
}

/* 1 when the folder is the caller's to look at, 0 when whoever looks at it does
 * once more, -ECANCELED at the end of the mount. */
static int claim(SnapNode *folder)
{
	SnapTree *tree = folder->tree;
	bool busy;
	SNAP_LOCKED(&tree->lock);

	if (tree->ending)
		return -ECANCELED;
	busy = g_hash_table_contains(tree->settling, folder);
	g_hash_table_replace(tree->settling, folder,
			     GINT_TO_POINTER(busy ? BUSY_AND_AGAIN : BUSY));
	if (!busy) {
		tree->writes++;
		folder->refs++;
	}
	return !busy;
}

void snap_parts_settle(SnapNode *folder, const struct snap_view *closing,
		       snap_handle_answer answer, void *data)
{
	g_autoptr(GThread) thread = NULL;
	struct settle *s;
	int r = claim(folder);

	if (r <= 0) {
		if (answer)
			answer(data, r);
		return;
	}
	s = g_new(struct settle, 1);
	*s = (struct settle){ folder, closing, answer, data };
	thread = g_thread_try_new("parts", settle_thread, s, NULL);
	if (thread)
		return;
	again(folder);
	settle_end(s, -EAGAIN);
}

void snap_parts_check(SnapNode *folder)
{
	for (guint i = 0; i < snap_n_views; i++) {
		if (!snap_part_stat(folder, snap_views[i], NULL))
			continue;
		snap_parts_settle(folder, NULL, NULL, NULL);
		return;
	}
}

void snap_parts_wait(SnapNode *folder)
{
	SnapTree *tree = folder->tree;
	SNAP_LOCKED(&tree->lock);

	while (g_hash_table_contains(tree->settling, folder))
		g_cond_wait(&tree->idle, &tree->lock);
}
