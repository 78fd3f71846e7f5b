/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gives hot pages to the kernel before a process asks for them.
 *
 * The first open of a `ram` starts some threads, which give whole extents in
 * the order of the list. A process that maps the file then finds the pages in
 * the page cache.
 */
#include "fs/hot/hot-internal.h"

#include "format/base/cleanup.h"
#include "fs/calls/call.h"

/* Units that are given at once. */
#define PUSH_UNITS 4u
/* So many units before it is their turn, the store begins to read them. */
#define PUSH_SOON 32u
/* Threads that give the pages of one snapshot, and snapshots at a time. */
#define PUSH_THREADS 3u
#define PUSHES_MAX 4u

/* The units of a file to give, in their order. Some threads share it. It may
 * outlive the open file. */
struct push {
	SnapHotPages *hot;
	SnapNode *node;	  /* a reference */
	SnapPages *pages; /* a reference */
	uint64_t size;	  /* of `ram` */
	GArray *units;
	guint next; /* protected by the lock of SnapHotPages, as the next */
	guint threads;
};

/* The units of `ram` that the runs touch, each once, in the order of the runs.
 */
static GArray *units_of(const GArray *runs, const struct snap_ramlist *ram)
{
	g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
	GArray *units = g_array_new(FALSE, FALSE, sizeof(uint64_t));

	for (guint i = 0; i < runs->len; i++) {
		struct snap_hot_run run =
			g_array_index(runs, struct snap_hot_run, i);
		uint64_t at = ram->blocks[run.block].flat + run.offset;
		uint64_t end = at + run.pages * SNAP_PAGE;

		for (uint64_t n = at / SNAP_HOT_UNIT; n * SNAP_HOT_UNIT < end;
		     n++)
			if (units->len < SNAP_HOT_UNITS_MAX &&
			    g_hash_table_add(seen, GSIZE_TO_POINTER(n + 1)))
				g_array_append_val(units, n);
	}
	return units;
}

/* Takes the next units that follow one another; false at the end. *ret_first is
 * the place of the first one in the list. */
static bool push_take(struct push *p, guint *ret_first, uint64_t *ret_at,
		      size_t *ret_size)
{
	SnapHotPages *hot = p->hot;
	const uint64_t *units = (const uint64_t *)p->units->data;
	SNAP_LOCKED(&hot->lock);
	guint n = 1;

	if (hot->ending || p->next >= p->units->len)
		return false;
	while (n < PUSH_UNITS && p->next + n < p->units->len &&
	       units[p->next + n] == units[p->next] + n)
		n++;
	*ret_first = p->next;
	*ret_at = units[p->next] * SNAP_HOT_UNIT;
	*ret_size = n * SNAP_HOT_UNIT;
	p->next += n;
	return true;
}

/* Reads units and gives them to the kernel. */
static int push_units(const struct push *p, uint64_t at, size_t size,
		      uint8_t *buf)
{
	struct snap_call call = { .what = "read", .path = "hot pages" };
	SnapHotPages *hot = p->hot;
	int r;

	size = MIN(size, p->size - at);
	snap_call_begin(&call);
	r = snap_pages_read(p->pages, buf, size, at, NULL);
	snap_call_end(&call);
	if (r == 0)
		r = hot->push(hot->push_data, p->node, at, buf, size);
	if (r == 0)
		__atomic_fetch_add(&hot->pushed, size, __ATOMIC_RELAXED);
	return r;
}

/* `n` threads have ended; the last one frees the push. */
static void push_ended(struct push *p, guint n)
{
	SnapHotPages *hot = p->hot;
	bool last;

	g_mutex_lock(&hot->lock);
	p->threads -= n;
	last = p->threads == 0;
	g_mutex_unlock(&hot->lock);
	if (!last)
		return;
	g_array_unref(p->units);
	snap_pages_unref(p->pages);
	snap_node_unref(p->node, 1);
	g_free(p);
	g_mutex_lock(&hot->lock);
	hot->pushes--;
	g_cond_broadcast(&hot->idle);
	g_mutex_unlock(&hot->lock);
}

/* The units that will be taken a while later: the store begins with them. */
static void push_soon(const struct push *p, guint first, guint n)
{
	struct snap_call call = { .what = "read", .path = "hot pages" };
	const uint64_t *units = (const uint64_t *)p->units->data;

	snap_call_begin(&call);
	for (guint i = first; i < first + n && i < p->units->len; i++)
		snap_pages_soon(p->pages, units[i] * SNAP_HOT_UNIT,
				SNAP_HOT_UNIT);
	snap_call_end(&call);
}

static gpointer push_thread(gpointer data)
{
	struct push *p = data;
	g_autofree uint8_t *buf = g_malloc(PUSH_UNITS * SNAP_HOT_UNIT);
	uint64_t at;
	size_t size;
	guint first;

	while (push_take(p, &first, &at, &size)) {
		push_soon(p, first + PUSH_SOON, (guint)(size / SNAP_HOT_UNIT));
		if (push_units(p, at, size, buf) < 0)
			break;
	}
	push_ended(p, 1);
	return NULL;
}

void snap_hot_pages_end(SnapHotPages *hot)
{
	SNAP_LOCKED(&hot->lock);

	hot->ending = true;
	while (hot->pushes)
		g_cond_wait(&hot->idle, &hot->lock);
}

void snap_hot_pages_on_push(SnapHotPages *hot, snap_hot_push push, void *data)
{
	hot->push = push;
	hot->push_data = data;
}

uint64_t snap_hot_pages_pushed(SnapHotPages *hot)
{
	return __atomic_load_n(&hot->pushed, __ATOMIC_RELAXED);
}

/* Counts a push in. False when the file had one, when the mount ends, or when
 * there are enough. */
static bool push_admit(struct snap_hot_file *file)
{
	SnapHotPages *hot = file->hot;
	SNAP_LOCKED(&hot->lock);

	if (file->state->pushed || hot->ending || hot->pushes >= PUSHES_MAX)
		return false;
	file->state->pushed = true;
	hot->pushes++;
	return true;
}

/* Gives units, which are taken over, in the background. */
static void push_begin(struct snap_hot_file *file, GArray *units)
{
	struct push *p = g_new0(struct push, 1);
	guint failed = 0;

	p->hot = file->hot;
	p->node = snap_node_ref(file->node);
	p->pages = snap_pages_ref(file->pages);
	p->size = file->ram->flat_size;
	p->units = units;
	p->threads = PUSH_THREADS;
	for (guint i = 0; i < PUSH_THREADS; i++) {
		GThread *thread =
			g_thread_try_new("push", push_thread, p, NULL);

		if (thread)
			g_thread_unref(thread);
		else
			failed++;
	}
	if (failed)
		push_ended(p, failed);
}

static bool was_pushed(struct snap_hot_file *file)
{
	SNAP_LOCKED(&file->hot->lock);

	return file->state->pushed;
}

void snap_hot_give(struct snap_hot_file *file)
{
	g_autoptr(GArray) runs = NULL;

	if (!file->hot->push || was_pushed(file))
		return;
	runs = snap_hot_read(file->folder, file->ram);
	if (runs->len && push_admit(file))
		push_begin(file, units_of(runs, file->ram));
}
