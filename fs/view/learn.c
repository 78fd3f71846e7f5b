/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages a guest needs first, learnt from who uses `ram`.
 *
 * A guest whose memory is the mapped file has each page that it touched in its
 * page tables, where a watch looks while the file is open. Reads do not tell as
 * much: QEMU wants huge pages for all memory (MADV_HUGEPAGE), and for such a
 * mapping the kernel reads 4 MiB around each page (mm/filemap.c,
 * do_sync_mmap_readahead). But their order tells what of that came first.
 *
 * Where the process cannot be looked at, the reads in their order are the list.
 * Who copies the file reads it from front to back; such a reader is not learnt
 * from, nor is one that opens with O_NOATIME, which says that its reads are no
 * use of the file (the bridge does: it knows better, and writes `hot` itself).
 *
 *	UNDECIDED --(a read goes back)----------> LEARNING
 *	          --(COPY_BYTES, never back)----> COPY
 *
 * `hot` is written when the file is closed, whole or not at all. It is a hint:
 * a wrong one costs time.
 */
#include "fs/view/view-internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/log.h"
#include "format/qemu/hot.h"

/* Reads that never go back for so long are a copy. */
#define COPY_BYTES (32 * SNAP_MIB)
/* The kernel reads ahead in several requests, which arrive in any order. */
#define COPY_SLACK (4 * SNAP_MIB)
/* What is first read later was not needed to get going. */
#define LEARN_US (30 * G_USEC_PER_SEC)
/* Of those who have a file open, so many are watched. */
#define WATCHED_MAX 2u

enum learning {
	UNDECIDED,
	LEARNING,
	COPY,
};

struct SnapLearner {
	SnapViewNode *view; /* a reference to its node */
	SnapWatch *watch;   /* may be NULL */
	bool spare;	    /* others are watched, who teach more than reads */
	GMutex lock;
	enum learning state; /* protected by lock, as the rest */
	gint64 until;
	uint64_t furthest;
	uint64_t bytes;
	GHashTable *places; /* unit + 1 → its place, from 1, among those read */
	GArray *read;	    /* units, in the order of their first reads */
};

static const struct snap_ramlist *ram_of(const SnapLearner *l)
{
	return &l->view->sealed->info.ram;
}

/* ---- learning ---- */

/* The block that a byte of `ram` belongs to; -1 between two. */
static int block_at(const struct snap_ramlist *ram, uint64_t offset)
{
	for (guint i = 0; i < ram->n; i++)
		if (offset >= ram->blocks[i].flat &&
		    offset - ram->blocks[i].flat < ram->blocks[i].length)
			return (int)i;
	return -1;
}

/* Remembers that a unit was read. */
static void learn_unit(SnapLearner *l, uint64_t unit)
{
	gpointer key = GSIZE_TO_POINTER(unit + 1);

	if (l->read->len >= SNAP_HOT_UNITS_MAX ||
	    g_hash_table_contains(l->places, key))
		return;
	g_array_append_val(l->read, unit);
	g_hash_table_insert(l->places, key, GUINT_TO_POINTER(l->read->len));
}

static void learn_locked(SnapLearner *l, uint64_t offset, uint64_t size)
{
	gint64 now = g_get_monotonic_time();

	if (!l->until)
		l->until = now + LEARN_US;
	if (now > l->until)
		return;
	l->bytes += size;
	if (l->state == COPY)
		return;
	if (l->state == UNDECIDED && offset + COPY_SLACK < l->furthest)
		l->state = LEARNING;
	l->furthest = MAX(l->furthest, offset + size);
	if (l->state == UNDECIDED && l->bytes > COPY_BYTES) {
		l->state = COPY;
		return;
	}
	for (uint64_t unit = offset / SNAP_HOT_UNIT;
	     unit * SNAP_HOT_UNIT < offset + size; unit++)
		learn_unit(l, unit);
}

/* Watches who has opened the file, or makes him a spare. */
static void watch_begin(SnapLearner *l, pid_t thread)
{
	SnapViewNode *v = l->view;
	SnapTree *tree = v->node.tree;
	dev_t device;

	g_mutex_lock(&tree->lock);
	device = tree->device;
	l->spare = v->watches >= WATCHED_MAX;
	v->watches++;
	g_mutex_unlock(&tree->lock);
	if (!l->spare && !tree->read_only)
		l->watch = snap_watch_new(thread, device,
					  snap_view_ino(v->sealed, v->view),
					  ram_of(l)->flat_size);
}

static void watch_forget(SnapLearner *l)
{
	SNAP_LOCKED(&l->view->node.tree->lock);

	l->view->watches--;
}

SnapLearner *snap_learner_new(SnapViewNode *view, pid_t thread)
{
	SnapLearner *l = g_new0(SnapLearner, 1);

	g_mutex_init(&l->lock);
	l->view = (SnapViewNode *)snap_node_ref(&view->node);
	l->places = g_hash_table_new(NULL, NULL);
	l->read = g_array_new(FALSE, FALSE, sizeof(uint64_t));
	watch_begin(l, thread);
	return l;
}

void snap_learner_note(SnapLearner *l, uint64_t offset, uint64_t size)
{
	g_mutex_lock(&l->lock);
	learn_locked(l, offset, size);
	g_mutex_unlock(&l->lock);
}

/* ---- the file ---- */

GArray *snap_hot_read(SnapNode *folder, const struct snap_ramlist *ram)
{
	snap_autofd int fd =
		openat(snap_store_node(folder)->fd, SNAP_CATALOG_HOT,
		       O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	g_autofree char *text = NULL;
	size_t size = 0;
	ssize_t n = 0;

	if (fd < 0)
		return snap_hot_new();
	text = g_malloc(SNAP_HOT_SIZE_MAX);
	while (size < SNAP_HOT_SIZE_MAX &&
	       (n = read(fd, text + size, SNAP_HOT_SIZE_MAX - size)) > 0)
		size += (size_t)n;
	return snap_hot_parse(text, n < 0 ? 0 : size, ram);
}

/* Replaces the list in the folder. Best effort: it is a hint. */
static void hot_write(int folder_fd, int like_fd, const char *text)
{
	static guint number; /* atomic */
	size_t size = strlen(text);
	snap_autofd int fd = -1;
	char temporary[64];
	struct stat st;

	/* One that a mount left behind is in the way of nobody for long. */
	snprintf(temporary, sizeof(temporary), SNAP_CATALOG_PRIVATE "-hot-%u",
		 __atomic_fetch_add(&number, 1, __ATOMIC_RELAXED));
	unlinkat(folder_fd, temporary, 0);
	fd = openat(folder_fd, temporary,
		    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	if (fstat(like_fd, &st) == 0 && fchown(fd, st.st_uid, st.st_gid) == 0 &&
	    fchmod(fd, st.st_mode & 0666) == 0 &&
	    write(fd, text, size) == (ssize_t)size &&
	    renameat(folder_fd, temporary, folder_fd, SNAP_CATALOG_HOT) == 0)
		return;
	unlinkat(folder_fd, temporary, 0);
}

static void learner_keep(const SnapLearner *l, const GArray *runs)
{
	const struct snap_ramlist *ram = ram_of(l);
	int folder_fd = snap_store_node(l->view->folder)->fd;
	int snapshot_fd = l->view->sealed->fd;
	g_autoptr(GArray) known = snap_hot_read(l->view->folder, ram);
	g_autoptr(GArray) merged = snap_hot_merge(known, runs, ram);
	g_autofree char *text = snap_hot_format(merged, ram);
	struct stat st, now;

	/* Something else than a list may lie there. */
	if (fstatat(folder_fd, SNAP_CATALOG_HOT, &now, AT_SYMLINK_NOFOLLOW) ==
		    0 &&
	    !S_ISREG(now.st_mode))
		return;
	/* A new snapshot may lie there by now. */
	if (fstat(snapshot_fd, &st) < 0 ||
	    fstatat(folder_fd, SNAP_CATALOG_SNAPSHOT, &now,
		    AT_SYMLINK_NOFOLLOW) < 0 ||
	    st.st_ino != now.st_ino || st.st_dev != now.st_dev)
		return;
	hot_write(folder_fd, snapshot_fd, text);
}

/* What was seen at the same look comes in the order of reads, and first what
 * had been given before anybody read it. */
static gint compare_touched(gconstpointer a, gconstpointer b, gpointer places)
{
	const struct snap_touched *x = a, *y = b;
	guint p, q;

	if (x->look != y->look)
		return x->look < y->look ? -1 : 1;
	p = GPOINTER_TO_UINT(
		g_hash_table_lookup(places, GSIZE_TO_POINTER(x->unit + 1)));
	q = GPOINTER_TO_UINT(
		g_hash_table_lookup(places, GSIZE_TO_POINTER(y->unit + 1)));
	if (p != q)
		return p < q ? -1 : 1;
	return x->unit < y->unit ? -1 : x->unit > y->unit;
}

/* Adds a unit to a list. */
static void add_unit(GArray *runs, uint64_t unit,
		     const struct snap_ramlist *ram)
{
	uint64_t offset = unit * SNAP_HOT_UNIT, end;
	int block = block_at(ram, offset);

	if (block < 0)
		return;
	offset -= ram->blocks[block].flat;
	end = MIN(offset + SNAP_HOT_UNIT, ram->blocks[block].length);
	snap_hot_add(runs, (guint)block, offset, (end - offset) / SNAP_PAGE);
}

/* Who reads from front to back copies the file, unless most of what the kernel
 * read for him was not touched. */
static bool is_copy(const SnapLearner *l, guint touched)
{
	return l->state == COPY &&
	       (!touched || 2 * touched * SNAP_HOT_UNIT > l->bytes);
}

/* The list of what was touched, or else of what was read. */
static GArray *learner_runs(SnapLearner *l)
{
	SnapWatch *watch = g_steal_pointer(&l->watch);
	g_autoptr(GArray) touched = watch ? snap_watch_end(watch) : NULL;
	const struct snap_touched *t;
	GArray *runs = snap_hot_new();

	if (l->spare || is_copy(l, touched ? touched->len : 0))
		return runs;
	if (touched && touched->len) {
		g_array_sort_with_data(touched, compare_touched, l->places);
		t = (const struct snap_touched *)touched->data;
		for (guint i = 0; i < touched->len; i++)
			add_unit(runs, t[i].unit, ram_of(l));
	} else if (l->state == LEARNING) {
		for (guint i = 0; i < l->read->len; i++)
			add_unit(runs, g_array_index(l->read, uint64_t, i),
				 ram_of(l));
	}
	return runs;
}

void snap_learner_free(SnapLearner *l)
{
	g_autoptr(GArray) runs = NULL;

	if (!l)
		return;
	runs = learner_runs(l);
	watch_forget(l);
	if (runs->len && !l->view->node.tree->read_only)
		learner_keep(l, runs);
	g_array_unref(l->read);
	g_hash_table_destroy(l->places);
	snap_node_unref(&l->view->node, 1);
	g_mutex_clear(&l->lock);
	g_free(l);
}
