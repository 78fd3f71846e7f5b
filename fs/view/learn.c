/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages a guest needs first, learnt from who uses `ram`.
 *
 * A guest whose memory is the mapped file has each page that it touched in its
 * page tables. So while the file is mapped, a thread looks there now and then,
 * ever more rarely: what is new belongs behind what was there before. Reads do
 * not tell as much: QEMU wants huge pages for all memory (MADV_HUGEPAGE), and
 * for such a mapping the kernel reads 4 MiB around each page (mm/filemap.c,
 * do_sync_mmap_readahead).
 *
 * Where the process cannot be looked at, the reads in their order are the list.
 * Who copies the file reads it from front to back; such a reader is not learnt
 * from, nor is one that opens with O_NOATIME, which says that its reads are no
 * use of the file (the bridge does: it knows better, and writes `hot` itself).
 *
 *	UNDECIDED --(a read goes back)----------> LEARNING
 *	          --(COPY_BYTES, never back)----> COPY
 *
 * `hot` is written when the file is closed and nobody looks any more, whole or
 * not at all. It is a hint: a wrong one costs time.
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
/* When the page tables are looked at first, and how long the next look takes at
 * least to come: so many times what the last one took. */
#define LOOK_US (10 * 1000)
#define LOOK_REST 8
/* By then, who has opened a file to map it has done so. */
#define MAP_US G_USEC_PER_SEC

enum learning {
	UNDECIDED,
	LEARNING,
	COPY,
};

/* What was learnt in one way. */
struct lesson {
	GHashTable *seen; /* unit + 1 → how many there were before it, and 1 */
	GArray *runs;
};

struct SnapLearner {
	guint refs;	    /* the file's and the watch's; atomic */
	SnapViewNode *view; /* a reference to its node */
	pid_t pid;
	bool closed; /* protected by tree->lock */

	struct lesson touched; /* the watch's, until it ends */
	GMutex lock;
	struct lesson read; /* protected by lock, as the rest */
	enum learning state;
	gint64 until;
	uint64_t furthest;
	uint64_t bytes;
};

static void lesson_init(struct lesson *lesson)
{
	lesson->seen = g_hash_table_new(NULL, NULL);
	lesson->runs = snap_hot_new();
}

static void lesson_clear(struct lesson *lesson)
{
	g_hash_table_destroy(lesson->seen);
	g_array_unref(lesson->runs);
}

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

/* The place of a unit among those learnt, from 1; 0 if it is not. */
static guint place_of(const struct lesson *lesson, uint64_t unit)
{
	return GPOINTER_TO_UINT(
		g_hash_table_lookup(lesson->seen, GSIZE_TO_POINTER(unit + 1)));
}

/* Remembers a unit of `ram`. */
static void learn_unit(const SnapLearner *l, struct lesson *lesson,
		       uint64_t unit)
{
	const struct snap_ramlist *ram = ram_of(l);
	uint64_t offset = unit * SNAP_HOT_UNIT, end;
	int block = block_at(ram, offset);

	if (block < 0 ||
	    g_hash_table_size(lesson->seen) >= SNAP_HOT_UNITS_MAX ||
	    place_of(lesson, unit))
		return;
	g_hash_table_insert(
		lesson->seen, GSIZE_TO_POINTER(unit + 1),
		GUINT_TO_POINTER(g_hash_table_size(lesson->seen) + 1));
	offset -= ram->blocks[block].flat;
	end = MIN(offset + SNAP_HOT_UNIT, ram->blocks[block].length);
	snap_hot_add(lesson->runs, (guint)block, offset,
		     (end - offset) / SNAP_PAGE);
}

static void learn_locked(SnapLearner *l, uint64_t offset, uint64_t size)
{
	gint64 now = g_get_monotonic_time();

	if (!l->until)
		l->until = now + LEARN_US;
	if (l->state == COPY || now > l->until)
		return;
	if (l->state == UNDECIDED && offset + COPY_SLACK < l->furthest)
		l->state = LEARNING;
	l->furthest = MAX(l->furthest, offset + size);
	l->bytes += size;
	if (l->state == UNDECIDED && l->bytes > COPY_BYTES) {
		l->state = COPY;
		return;
	}
	for (uint64_t unit = offset / SNAP_HOT_UNIT;
	     unit * SNAP_HOT_UNIT < offset + size; unit++)
		learn_unit(l, &l->read, unit);
}

/* ---- looking at who maps it ---- */

/* What was read first comes first, what was given before it was read last. */
static gint compare_places(gconstpointer a, gconstpointer b, gpointer data)
{
	guint x = place_of(data, *(const uint64_t *)a) - 1;
	guint y = place_of(data, *(const uint64_t *)b) - 1;

	return x < y ? -1 : x > y;
}

/* Looks once; false when the process does not map the file. */
static bool watch_look(SnapLearner *l)
{
	uint64_t ino = snap_view_ino(l->view->sealed, l->view->view);
	g_autoptr(GArray) units = snap_touched_units(l->pid, ino);
	uint64_t *all;
	guint fresh = 0;

	if (!units)
		return false;
	all = (uint64_t *)units->data;
	for (guint i = 0; i < units->len; i++)
		if (!place_of(&l->touched, all[i]))
			all[fresh++] = all[i];
	g_array_set_size(units, fresh);
	g_mutex_lock(&l->lock);
	g_array_sort_with_data(units, compare_places, &l->read);
	g_mutex_unlock(&l->lock);
	for (guint i = 0; i < fresh; i++)
		learn_unit(l, &l->touched, all[i]);
	return true;
}

/* Waits until then; false when there is no use in going on. */
static bool watch_wait(SnapLearner *l, gint64 until)
{
	SnapTree *tree = l->view->node.tree;
	SNAP_LOCKED(&tree->lock);

	while (!l->closed && !tree->ending &&
	       g_cond_wait_until(&tree->idle, &tree->lock, until))
		;
	return !l->closed && !tree->ending;
}

static void learner_unref(SnapLearner *l);

static void watch_end(SnapLearner *l)
{
	SnapTree *tree = l->view->node.tree;

	g_mutex_lock(&tree->lock);
	l->view->watched = false;
	g_mutex_unlock(&tree->lock);
	learner_unref(l);
	snap_tree_helpers_done(tree, 1);
}

static gpointer watch_thread(gpointer data)
{
	SnapLearner *l = data;
	gint64 begin = g_get_monotonic_time();
	gint64 next = begin + LOOK_US;
	bool mapped = false;

	while (next - begin < LEARN_US && watch_wait(l, next)) {
		gint64 before = g_get_monotonic_time(), now;

		mapped = watch_look(l) || mapped;
		now = g_get_monotonic_time();
		if (!mapped && now - begin > MAP_US)
			break;
		next = now + MAX(LOOK_US, MAX((now - begin) / 64,
					      (now - before) * LOOK_REST));
	}
	watch_end(l);
	return NULL;
}

/* Of those who map a file, one is looked at. */
static bool watch_admit(SnapLearner *l)
{
	SnapTree *tree = l->view->node.tree;
	bool first;

	if (tree->read_only || l->pid <= 0)
		return false;
	g_mutex_lock(&tree->lock);
	first = !l->view->watched;
	l->view->watched |= first;
	g_mutex_unlock(&tree->lock);
	return first && snap_tree_helpers_add(tree, 1);
}

/* Begins to look at the process that has opened the file. */
static void watch_begin(SnapLearner *l)
{
	GThread *thread;

	if (!watch_admit(l))
		return;
	g_atomic_int_inc(&l->refs);
	thread = g_thread_try_new("watch", watch_thread, l, NULL);
	if (thread)
		g_thread_unref(thread);
	else
		watch_end(l);
}

SnapLearner *snap_learner_new(SnapViewNode *view, pid_t pid)
{
	SnapLearner *l = g_new0(SnapLearner, 1);

	g_mutex_init(&l->lock);
	l->refs = 1;
	l->view = (SnapViewNode *)snap_node_ref(&view->node);
	l->pid = pid;
	lesson_init(&l->touched);
	lesson_init(&l->read);
	watch_begin(l);
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

	/* A new snapshot may lie there by now. */
	if (fstat(snapshot_fd, &st) < 0 ||
	    fstatat(folder_fd, SNAP_CATALOG_SNAPSHOT, &now,
		    AT_SYMLINK_NOFOLLOW) < 0 ||
	    st.st_ino != now.st_ino || st.st_dev != now.st_dev)
		return;
	hot_write(folder_fd, snapshot_fd, text);
}

static void learner_unref(SnapLearner *l)
{
	const GArray *runs = l->touched.runs;

	if (!g_atomic_int_dec_and_test(&l->refs))
		return;
	if (!runs->len && l->state == LEARNING)
		runs = l->read.runs;
	if (runs->len && !l->view->node.tree->read_only)
		learner_keep(l, runs);
	lesson_clear(&l->touched);
	lesson_clear(&l->read);
	snap_node_unref(&l->view->node, 1);
	g_mutex_clear(&l->lock);
	g_free(l);
}

void snap_learner_free(SnapLearner *l)
{
	SnapTree *tree;

	if (!l)
		return;
	tree = l->view->node.tree;
	g_mutex_lock(&tree->lock);
	l->closed = true;
	g_cond_broadcast(&tree->idle);
	g_mutex_unlock(&tree->lock);
	learner_unref(l);
}
