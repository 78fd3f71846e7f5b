/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hot pages, given to the kernel before they are asked for.
 *
 * The first open of a `ram` begins it: some threads share the list, and give
 * whole extents in its order. Whoever maps the file then finds them in the page
 * cache.
 */
#include "fs/view/view-internal.h"

#include "format/base/cleanup.h"
#include "format/qemu/hot.h"

/* What is given to the kernel at once, in units. */
#define PUSH_UNITS 4u
/* Threads that give pages of one snapshot, and snapshots at a time. */
#define PUSH_THREADS 3u
#define PUSHES_MAX 4u

/* What is given: the units that the list touches, in its order. Some threads
 * share it. */
struct push {
	SnapNode *node; /* of `ram`; a reference */
	GArray *units;
	guint next; /* protected by tree->lock, as refs */
	guint refs;
};

/* The units of `ram` that runs lie in, each once, in their order. */
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

/* Takes the next units that follow one another; false when there are none, or
 * no use in going on. */
static bool push_take(struct push *p, uint64_t *ret_at, size_t *ret_size)
{
	SnapTree *tree = p->node->tree;
	const uint64_t *units = (const uint64_t *)p->units->data;
	SNAP_LOCKED(&tree->lock);
	guint n = 1;

	if (tree->ending || p->next >= p->units->len)
		return false;
	while (n < PUSH_UNITS && p->next + n < p->units->len &&
	       units[p->next + n] == units[p->next] + n)
		n++;
	*ret_at = units[p->next] * SNAP_HOT_UNIT;
	*ret_size = n * SNAP_HOT_UNIT;
	p->next += n;
	return true;
}

/* Reads units and hands them on. */
static int push_units(const struct push *p, uint64_t at, size_t size,
		      uint8_t *buf)
{
	const SnapSealed *sealed = ((SnapViewNode *)p->node)->sealed;
	SnapTree *tree = p->node->tree;
	uint64_t end = snap_meta_end(snap_sealed_meta(sealed), SNAP_BLOCK_RAM);
	int r;

	size = MIN(size, end - at);
	r = snap_pages_read(sealed->pages, buf, size, at, NULL);
	if (r == 0)
		r = tree->push(tree->push_data, p->node, at, buf, size);
	if (r == 0)
		__atomic_fetch_add(&tree->pushed, size, __ATOMIC_RELAXED);
	return r;
}

/* So many threads are done; the last leaves nothing. */
static void push_done(struct push *p, guint n)
{
	SnapNode *node = p->node;
	SnapTree *tree = node->tree;
	bool last;

	g_mutex_lock(&tree->lock);
	p->refs -= n;
	last = p->refs == 0;
	g_mutex_unlock(&tree->lock);
	if (!last)
		return;
	g_array_unref(p->units);
	g_free(p);
	snap_node_unref(node, 1);
	g_mutex_lock(&tree->lock);
	tree->pushes--;
	g_cond_broadcast(&tree->idle);
	g_mutex_unlock(&tree->lock);
}

static gpointer push_thread(gpointer data)
{
	struct push *p = data;
	g_autofree uint8_t *buf = g_malloc(PUSH_UNITS * SNAP_HOT_UNIT);
	uint64_t at;
	size_t size;

	while (push_take(p, &at, &size))
		if (push_units(p, at, size, buf) < 0)
			break;
	push_done(p, 1);
	return NULL;
}

void snap_tree_end_pushes(SnapTree *tree)
{
	SNAP_LOCKED(&tree->lock);

	tree->ending = true;
	while (tree->pushes)
		g_cond_wait(&tree->idle, &tree->lock);
}

/* Counts a push in, the first of a node; false when there was one, when the
 * tree ends, or when enough are under way. */
static bool push_admit(SnapViewNode *v)
{
	SnapTree *tree = v->node.tree;
	SNAP_LOCKED(&tree->lock);

	if (v->pushed || tree->ending || tree->pushes >= PUSHES_MAX)
		return false;
	v->pushed = true;
	tree->pushes++;
	return true;
}

/* Gives units, which are taken, in the background. */
static void push_begin(SnapNode *node, GArray *units)
{
	struct push *p = g_new0(struct push, 1);
	guint failed = 0;

	p->node = snap_node_ref(node);
	p->units = units;
	p->refs = PUSH_THREADS;
	for (guint i = 0; i < PUSH_THREADS; i++) {
		GThread *thread =
			g_thread_try_new("push", push_thread, p, NULL);

		if (thread)
			g_thread_unref(thread);
		else
			failed++;
	}
	if (failed)
		push_done(p, failed);
}

static bool was_pushed(SnapViewNode *v)
{
	SNAP_LOCKED(&v->node.tree->lock);

	return v->pushed;
}

void snap_learn_push(SnapNode *node)
{
	SnapViewNode *v = (SnapViewNode *)node;
	const struct snap_ramlist *ram = &v->sealed->info.ram;
	g_autoptr(GArray) runs = NULL;

	if (!node->tree->push || was_pushed(v))
		return;
	runs = snap_hot_read(v->folder, ram);
	if (runs->len && push_admit(v))
		push_begin(node, units_of(runs, ram));
}
