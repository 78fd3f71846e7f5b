/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Learns which pages a guest needs first from the processes that open `ram`.
 *
 * A process that runs a guest maps `ram` as the guest's memory. The pages that
 * the guest touched are in the process's page tables, where a watch looks while
 * the file is open (watch.c). Reads say less: QEMU asks for huge pages
 * (MADV_HUGEPAGE) for all memory, and for such a mapping the kernel reads 4 MiB
 * around each touched page (mm/filemap.c, do_sync_mmap_readahead). But the
 * order of reads tells which of the touched pages came first.
 *
 * Where /proc cannot be read, the reads in their order are the list.
 *
 * A process that copies the file reads it from front to back. snapfs learns
 * nothing from it, nor from a process that opens with O_NOATIME: the bridge
 * does so, and writes `hot` itself.
 *
 *	UNDECIDED --(a read goes back)----------> LEARNING
 *	          --(COPY_BYTES, never back)----> COPY
 *
 * At most two processes per `ram` file are watched. While more have it open,
 * the others are ignored.
 */
#include "fs/hot/hot-internal.h"

#include "format/base/cleanup.h"

/* A process is copying when this many bytes were read and no read went back. */
#define COPY_BYTES (32 * SNAP_MIB)
/* The kernel reads ahead in several requests, which arrive in any order. */
#define COPY_SLACK (4 * SNAP_MIB)
/* Pages that are first read later than this were not needed at the start. */
#define LEARN_US (30 * G_USEC_PER_SEC)
/* Processes per file that are watched at a time. */
#define WATCHED_MAX 2u

enum learning {
	UNDECIDED,
	LEARNING,
	COPY,
};

struct SnapLearner {
	struct snap_hot_file *file;
	SnapWatch *watch; /* may be NULL */
	bool ignored;	  /* enough other processes are watched */
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
	return l->file->ram;
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

/* Watches the process of a thread, unless enough others are watched. */
static void watch_begin(SnapLearner *l, pid_t thread)
{
	struct snap_hot_file *file = l->file;
	SnapHotPages *hot = file->hot;
	dev_t device;

	g_mutex_lock(&hot->lock);
	device = hot->device;
	l->ignored = file->state->watches >= WATCHED_MAX;
	file->state->watches++;
	g_mutex_unlock(&hot->lock);
	if (!l->ignored && hot->tmp_fd >= 0 && hot->open_proc)
		l->watch = snap_watch_new(hot->open_proc, thread, device,
					  file->ino, file->ram->flat_size);
}

static void watch_forget(SnapLearner *l)
{
	SNAP_LOCKED(&l->file->hot->lock);

	l->file->state->watches--;
}

SnapLearner *snap_learner_new(struct snap_hot_file *file, pid_t thread)
{
	SnapLearner *l = g_new0(SnapLearner, 1);

	g_mutex_init(&l->lock);
	l->file = file;
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

/* ---- the list ---- */

/* Units that were found by the same look are sorted by their first reads; units
 * that were given to the kernel before any read come first. */
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

/* A process that reads from front to back copies the file, unless it did not
 * touch most of what the kernel read for it. */
static bool is_copy(const SnapLearner *l, guint touched)
{
	return l->state == COPY &&
	       (!touched || 2 * touched * SNAP_HOT_UNIT > l->bytes);
}

/* The list of the touched units, or else of the units that were read. */
static GArray *learner_runs(SnapLearner *l)
{
	SnapWatch *watch = g_steal_pointer(&l->watch);
	g_autoptr(GArray) touched = watch ? snap_watch_end(watch) : NULL;
	const struct snap_touched *t;
	GArray *runs = snap_hot_new();

	if (l->ignored || is_copy(l, touched ? touched->len : 0))
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
	if (runs->len && l->file->hot->tmp_fd >= 0)
		snap_hot_add_runs(l->file, runs);
	g_array_unref(l->read);
	g_hash_table_destroy(l->places);
	g_mutex_clear(&l->lock);
	g_free(l);
}
