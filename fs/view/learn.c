/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages a guest needs first, learnt from the reads of `ram`, and given to
 * the kernel before they are asked for the next time.
 *
 * A guest whose memory is the mapped file reads a page when it touches it, and
 * never again: the kernel keeps it. So the reads of an open `ram` in their
 * order are the list. Who copies the file reads it from front to back; such a
 * reader is not learnt from, nor is one that opens with O_NOATIME, which says
 * that its reads are no use of the file (the bridge does: it knows better, and
 * writes `hot` itself).
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
/* The unit of what is remembered: an extent's worth. */
#define LEARN_UNIT (64 * SNAP_KIB)
/* What is given to the kernel at once. */
#define PUSH_BYTES (256 * SNAP_KIB)

enum learning {
	UNDECIDED,
	LEARNING,
	COPY,
};

struct SnapLearner {
	SnapNode *folder;   /* a reference */
	SnapSealed *sealed; /* a reference */
	GMutex lock;
	enum learning state; /* protected by lock, as the rest */
	gint64 until;
	uint64_t furthest;
	uint64_t bytes;
	GHashTable *seen; /* units */
	GArray *runs;
};

SnapLearner *snap_learner_new(SnapNode *folder, SnapSealed *sealed)
{
	SnapLearner *l = g_new0(SnapLearner, 1);

	g_mutex_init(&l->lock);
	l->folder = snap_node_ref(folder);
	l->sealed = snap_sealed_ref(sealed);
	l->seen = g_hash_table_new(NULL, NULL);
	l->runs = snap_hot_new();
	return l;
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

/* Remembers a unit of `ram`. */
static void learn_unit(SnapLearner *l, uint64_t unit)
{
	const struct snap_ramlist *ram = &l->sealed->info.ram;
	uint64_t offset = unit * LEARN_UNIT, end;
	int block = block_at(ram, offset);

	if (block < 0 ||
	    !g_hash_table_add(l->seen, GSIZE_TO_POINTER((gsize)unit + 1)))
		return;
	offset -= ram->blocks[block].flat;
	end = MIN(offset + LEARN_UNIT, ram->blocks[block].length);
	snap_hot_add(l->runs, (guint)block, offset, (end - offset) / SNAP_PAGE);
}

static void learn_locked(SnapLearner *l, uint64_t offset, uint64_t size)
{
	gint64 now = g_get_monotonic_time();

	if (!l->until)
		l->until = now + LEARN_US;
	if (l->state == COPY || now > l->until ||
	    g_hash_table_size(l->seen) >=
		    SNAP_HOT_PAGES_MAX / (LEARN_UNIT / SNAP_PAGE))
		return;
	if (l->state == UNDECIDED && offset + COPY_SLACK < l->furthest)
		l->state = LEARNING;
	l->furthest = MAX(l->furthest, offset + size);
	l->bytes += size;
	if (l->state == UNDECIDED && l->bytes > COPY_BYTES) {
		l->state = COPY;
		return;
	}
	for (uint64_t unit = offset / LEARN_UNIT;
	     unit * LEARN_UNIT < offset + size; unit++)
		learn_unit(l, unit);
}

void snap_learner_note(SnapLearner *l, uint64_t offset, uint64_t size)
{
	g_mutex_lock(&l->lock);
	learn_locked(l, offset, size);
	g_mutex_unlock(&l->lock);
}

/* ---- the file ---- */

/* The list that lies in the folder; empty where there is none. */
static GArray *hot_read(int folder_fd, const struct snap_ramlist *ram)
{
	snap_autofd int fd =
		openat(folder_fd, SNAP_CATALOG_HOT,
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

static void learner_keep(const SnapLearner *l)
{
	const struct snap_ramlist *ram = &l->sealed->info.ram;
	int folder_fd = snap_store_node(l->folder)->fd;
	g_autoptr(GArray) known = hot_read(folder_fd, ram);
	g_autoptr(GArray) merged = snap_hot_merge(known, l->runs, ram);
	g_autofree char *text = snap_hot_format(merged, ram);
	struct stat st, now;

	/* A new snapshot may lie there by now. */
	if (fstat(l->sealed->fd, &st) < 0 ||
	    fstatat(folder_fd, SNAP_CATALOG_SNAPSHOT, &now,
		    AT_SYMLINK_NOFOLLOW) < 0 ||
	    st.st_ino != now.st_ino || st.st_dev != now.st_dev)
		return;
	hot_write(folder_fd, l->sealed->fd, text);
}

void snap_learner_free(SnapLearner *l)
{
	if (!l)
		return;
	if (l->state == LEARNING && l->runs->len && !l->sealed->tree->read_only)
		learner_keep(l);
	g_array_unref(l->runs);
	g_hash_table_destroy(l->seen);
	snap_sealed_unref(l->sealed);
	snap_node_unref(l->folder, 1);
	g_mutex_clear(&l->lock);
	g_free(l);
}

/* ---- giving it to the kernel ---- */

/* A thread that pushes; counted in tree->pushes. */
struct push {
	SnapNode *node; /* of `ram`; a reference */
	GArray *runs;
};

static bool push_stops(SnapTree *tree)
{
	bool stops;

	g_mutex_lock(&tree->lock);
	stops = tree->ending;
	g_mutex_unlock(&tree->lock);
	return stops;
}

/* Reads a run and hands it on; false when there is no use in going on. */
static bool push_run(const struct push *p, const struct snap_hot_run *run,
		     uint8_t *buf)
{
	SnapViewNode *v = (SnapViewNode *)p->node;
	SnapTree *tree = p->node->tree;
	uint64_t at = v->sealed->info.ram.blocks[run->block].flat + run->offset;
	uint64_t end = at + run->pages * SNAP_PAGE;

	while (at < end && !push_stops(tree)) {
		size_t n = MIN(PUSH_BYTES, end - at);

		if (snap_pages_read(v->sealed->pages, buf, n, at, NULL) < 0 ||
		    tree->push(tree->push_data, p->node, at, buf, n) < 0)
			return false;
		__atomic_fetch_add(&tree->pushed, n, __ATOMIC_RELAXED);
		at += n;
	}
	return at == end;
}

/* Counts it out. */
static void push_end(struct push *p)
{
	SnapTree *tree = p->node->tree;

	g_array_unref(p->runs);
	snap_node_unref(p->node, 1);
	g_free(p);
	g_mutex_lock(&tree->lock);
	tree->pushes--;
	g_cond_broadcast(&tree->idle);
	g_mutex_unlock(&tree->lock);
}

static gpointer push_thread(gpointer data)
{
	struct push *p = data;
	g_autofree uint8_t *buf = g_malloc(PUSH_BYTES);

	for (guint i = 0; i < p->runs->len; i++)
		if (!push_run(p,
			      &g_array_index(p->runs, struct snap_hot_run, i),
			      buf))
			break;
	push_end(p);
	return NULL;
}

void snap_tree_end_pushes(SnapTree *tree)
{
	g_mutex_lock(&tree->lock);
	tree->ending = true;
	while (tree->pushes)
		g_cond_wait(&tree->idle, &tree->lock);
	g_mutex_unlock(&tree->lock);
}

/* Counts a push in, the first of a node; false when there was one, when the
 * tree ends, or when enough are under way. */
static bool push_admit(SnapViewNode *v)
{
	SnapTree *tree = v->node.tree;
	bool admitted;

	g_mutex_lock(&tree->lock);
	admitted = !v->pushed && !tree->ending && tree->pushes < 4;
	if (admitted)
		v->pushed = true;
	tree->pushes += admitted;
	g_mutex_unlock(&tree->lock);
	return admitted;
}

void snap_learn_push(SnapNode *node)
{
	SnapViewNode *v = (SnapViewNode *)node;
	SnapTree *tree = node->tree;
	g_autoptr(GThread) thread = NULL;
	struct push *p;

	if (!tree->push || !push_admit(v))
		return;
	p = g_new(struct push, 1);
	p->node = snap_node_ref(node);
	p->runs =
		hot_read(snap_store_node(v->folder)->fd, &v->sealed->info.ram);
	if (p->runs->len)
		thread = g_thread_try_new("push", push_thread, p, NULL);
	if (!thread)
		push_end(p);
}
