/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checks a snapshot file: every byte is as it was written (the checksums), and
 * the map makes sense.
 *
 * The file is walked once, front to back, and every extent is decompressed. The
 * extents are put into an index. Then the tree of the map is read, and every
 * run of a leaf must match the index.
 *
 * The memory must not grow with the file, so the index has a fixed size. When
 * it is full, the tree is read, the runs that refer into this part of the file
 * are checked, and the walk continues with an empty index. The map is at most a
 * hundredth of the file, so reading it again is cheap. At the end the index has
 * covered the file without gaps, so every run was checked.
 *
 * A parent is walked in the same way, and the runs that refer into it must
 * match its extents. Its own map is not read: the files to which that refers
 * may be gone.
 *
 * A parent that other snapshots share is walked once for all of them: its
 * extents are remembered, and the runs of the next snapshot must match them.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "format/base/error.h"
#include "format/image/leaf-internal.h"
#include "format/image/walk-internal.h"

#define INDEX_SIZE (1u << 19)
#define REGION_UNKNOWN UINT32_MAX
/* Extents that are remembered, of all files. While a snapshot is checked, it
 * may be twice as many. */
#define REMEMBERED_MAX (1u << 20)

/* An extent that the walk found. */
struct found {
	uint64_t offset;
	uint32_t length;
	uint32_t crc32c;
	uint32_t region; /* the region of the first run that referred to it */
	uint32_t pages;
};

/* A file that was found whole. */
struct whole {
	struct snap_file_id id;
	GArray *extents; /* of struct found, as they lie in the file */
};

struct SnapVerified {
	GQueue files; /* of struct whole, the oldest first */
	gsize extents;
};

struct verify {
	SnapReader *r;
	guint layer;				  /* that is walked */
	struct whole *known[SNAP_LAYERS_MAX + 1]; /* NULL: to be read */
	uint64_t before; /* bytes of the layers that are done */
	uint64_t all;	 /* bytes of all layers that are read */
	snap_verify_progress progress;
	void *data;
	GError **error;
	SnapVerified *done; /* or NULL */
	GArray *seen; /* extents to be remembered; NULL: they are too many */
	uint64_t reported; /* the bytes that were last reported */
	struct found *index;
	guint n;
	guint room;
	/* the beginning of the part of the file that the index covers */
	uint64_t begin;
	uint64_t end;
	/* frames that the walk found, by kind */
	uint64_t frames[SNAP_WALK_KINDS];
	/* frames that the tree refers to, by kind */
	uint64_t named[SNAP_WALK_KINDS];
	guint block;	    /* the block of the current region */
	uint64_t block_end; /* the end of the block, in pages */
	uint64_t stored;    /* stored pages in the block so far */
	uint64_t used[SNAP_LAYERS_MAX + 1]; /* by the leaves so far */
};

/* ---- what is done ---- */

static void whole_free(gpointer data)
{
	struct whole *w = data;

	g_array_unref(w->extents);
	g_free(w);
}

SnapVerified *snap_verified_new(void)
{
	return g_new0(SnapVerified, 1);
}

void snap_verified_free(SnapVerified *done)
{
	if (!done)
		return;
	g_queue_clear_full(&done->files, whole_free);
	g_free(done);
}

static struct whole *find_whole(const SnapVerified *done, SnapFile *f)
{
	struct snap_file_id id;

	if (!done || snap_file_identify(f, &id) < 0)
		return NULL;
	for (GList *l = done->files.head; l; l = l->next) {
		struct whole *w = l->data;

		if (w->id.device == id.device && w->id.inode == id.inode)
			return w;
	}
	return NULL;
}

/* Takes the extents over of a file that was found whole. */
static void remember(struct verify *v)
{
	SnapFile *f = v->r->files[v->layer];
	struct snap_file_id id;
	struct whole *w;

	if (!v->seen || find_whole(v->done, f) ||
	    snap_file_identify(f, &id) < 0)
		return;
	w = g_new(struct whole, 1);
	w->id = id;
	w->extents = g_steal_pointer(&v->seen);
	v->done->extents += w->extents->len;
	g_queue_push_tail(&v->done->files, w);
}

/* Forgets the oldest files while too many extents are remembered. */
static void forget_oldest(SnapVerified *done)
{
	while (done && done->extents > REMEMBERED_MAX) {
		struct whole *w = g_queue_pop_head(&done->files);

		done->extents -= w->extents->len;
		whole_free(w);
	}
}

/* ---- the index ---- */

static void index_add(struct verify *v, const struct snap_walk_frame *f)
{
	if (v->n == v->room) {
		v->room = MIN(MAX(v->room * 2, 1024), INDEX_SIZE);
		v->index = g_renew(struct found, v->index, v->room);
	}
	v->index[v->n++] = (struct found){ .offset = f->offset,
					   .length = f->length,
					   .crc32c = f->crc32c,
					   .region = REGION_UNKNOWN,
					   .pages = f->pages };
	if (!v->seen)
		return;
	g_array_append_val(v->seen, v->index[v->n - 1]);
	if (v->done->extents + v->seen->len > 2 * REMEMBERED_MAX)
		g_clear_pointer(&v->seen, g_array_unref);
}

static int compare_found(const void *key, const void *element)
{
	uint64_t offset = *(const uint64_t *)key;
	const struct found *f = element;

	return offset < f->offset ? -1 : offset > f->offset;
}

/* ---- the tree ---- */

static int fail_frame(struct verify *v, int r, const char *what,
		      const struct snap_entry *e)
{
	if (r == -EBADMSG)
		return snap_fail(v->error, EBADMSG,
				 "%s at byte %" PRIu64 ": damaged", what,
				 e->offset);
	return snap_fail_errno(v->error, -r, "%s at byte %" PRIu64, what,
			       e->offset);
}

/* Checks that a run matches the extent that the walk found. */
static int check_run(struct verify *v, uint32_t region,
		     const struct snap_segment *s)
{
	struct found *f;

	if (s->kind != SNAP_SEGMENT_EXTENT || s->layer != v->layer ||
	    s->offset < v->begin || s->offset >= v->end)
		return 0;
	f = v->n ? bsearch(&s->offset, v->index, v->n, sizeof(*f),
			   compare_found)
		 : NULL;
	if (!f || f->length != s->length || f->crc32c != s->crc32c ||
	    f->pages != s->pages ||
	    (f->region != REGION_UNKNOWN && f->region != region))
		return snap_fail(v->error, EBADMSG,
				 "map of region %" PRIu32 ": page %u is not in "
				 "the extent at byte %" PRIu64 "%s",
				 region, s->page, s->offset,
				 s->layer ? " of the parent" : "");
	f->region = region;
	return 0;
}

static int check_leaf(struct verify *v, uint64_t region,
		      const struct snap_entry *e)
{
	struct snap_leaf leaf;
	int r = snap_reader_leaf(v->r, region, e, &leaf);

	if (r < 0)
		return fail_frame(v, r, "map leaf", e);
	if (region * SNAP_REGION_PAGES + snap_leaf_end(&leaf) > v->block_end)
		return snap_fail(v->error, EBADMSG,
				 "map leaf at byte %" PRIu64
				 ": pages past the end of their block",
				 e->offset);
	snap_leaf_used(&leaf, v->used);
	for (guint i = 0; r == 0 && i < leaf.n; i++)
		r = check_run(v, (uint32_t)region, &leaf.segments[i]);
	return r;
}

/* Moves on to the block of `region`, and checks the sums of the blocks that
 * end. */
static int check_blocks(struct verify *v, uint64_t region)
{
	const struct snap_meta *meta = snap_reader_meta(v->r);

	while (v->block < meta->n_blocks) {
		const struct snap_block *b = &meta->blocks[v->block];

		v->block_end = snap_div_up(b->base + b->length, SNAP_PAGE);
		if (region * SNAP_REGION < b->base + b->length)
			return 0;
		if (v->stored * SNAP_PAGE != b->stored)
			return snap_fail(v->error, EBADMSG,
					 "block %s: %" PRIu64 " bytes stored, "
					 "the map has %" PRIu64,
					 b->name, b->stored,
					 v->stored * SNAP_PAGE);
		v->stored = 0;
		v->block++;
	}
	return 0;
}

static int check_node(struct verify *v, guint index, const struct snap_entry *e)
{
	uint64_t first = (uint64_t)index * SNAP_NODE_ENTRIES;
	struct snap_node node;
	int r = snap_reader_node(v->r, index, &node);

	if (r < 0)
		return fail_frame(v, r, "map node", e);
	v->named[SNAP_WALK_NODE] += e->length != 0;
	for (guint i = 0; r == 0 && i < node.n; i++) {
		r = check_blocks(v, first + i);
		v->stored += node.entries[i].stored;
		if (r < 0 || !node.entries[i].length)
			continue;
		v->named[SNAP_WALK_LEAF]++;
		r = check_leaf(v, first + i, &node.entries[i]);
	}
	return r;
}

/* Checks the sums of the parents. */
static int check_used(struct verify *v)
{
	const struct snap_meta *meta = snap_reader_meta(v->r);

	for (guint i = 0; i < meta->n_layers; i++)
		if (meta->layers[i].used != v->used[i + 1])
			return snap_fail(v->error, EBADMSG,
					 "parent %u: %" PRIu64 " bytes in use, "
					 "the map has %" PRIu64,
					 i + 1, meta->layers[i].used,
					 v->used[i + 1]);
	return 0;
}

/* Reads the whole tree, and checks the runs that refer into [begin, end). */
static int check_tree(struct verify *v, uint64_t end)
{
	const struct snap_entry *top;
	guint n;
	int r = 0;

	v->end = end;
	v->block = 0;
	v->stored = 0;
	memset(v->named, 0, sizeof(v->named));
	memset(v->used, 0, sizeof(v->used));
	top = snap_reader_top(v->r, &n);
	for (guint i = 0; r == 0 && i < n; i++)
		r = check_node(v, i, &top[i]);
	if (r == 0)
		r = check_blocks(v, v->r->trailer.regions);
	if (r == 0)
		r = check_used(v);
	v->n = 0;
	v->begin = end;
	return r;
}

/* ---- the file ---- */

/* The trailer of the layer that is walked, as it was when it was opened. */
static const struct snap_trailer *trailer_of(const struct verify *v)
{
	return v->layer ? &v->r->parents[v->layer - 1] : &v->r->trailer;
}

/* Checks that the file has not changed since it was opened. */
static int check_trailer(struct verify *v)
{
	struct snap_trailer t = { 0 };
	int r = snap_reader_trailer(v->r, v->layer, &t, v->error);

	if (r == 0 && t.crc32c != trailer_of(v)->crc32c)
		r = snap_fail(v->error, ESTALE, "the file was replaced");
	return r;
}

static int tell(struct verify *v, uint64_t done)
{
	if (!v->progress || (done == v->reported && done < v->all))
		return 0;
	v->reported = done;
	if (v->progress(done, v->all, v->data))
		return 0;
	return snap_fail(v->error, ECANCELED, "stopped");
}

static int check_frames(struct verify *v, SnapWalk *walk)
{
	struct snap_walk_frame f;
	int r;

	while ((r = snap_walk_next(walk, &f, v->error)) > 0) {
		v->frames[f.kind]++;
		if (f.kind == SNAP_WALK_EXTENT)
			index_add(v, &f);
		if (v->n == INDEX_SIZE)
			r = check_tree(v, f.offset + f.length);
		if (r >= 0)
			r = tell(v, v->before + snap_walk_position(walk));
		if (r < 0)
			return r;
	}
	return r;
}

/* Checks that the tree refers to every frame of the map. */
static int check_named(struct verify *v)
{
	if (v->frames[SNAP_WALK_LEAF] != v->named[SNAP_WALK_LEAF] ||
	    v->frames[SNAP_WALK_NODE] != v->named[SNAP_WALK_NODE] ||
	    v->frames[SNAP_WALK_TOP] != 1 ||
	    v->frames[SNAP_WALK_PROPERTIES] != 1)
		return snap_fail(v->error, EBADMSG,
				 "map frames that no entry refers to");
	return 0;
}

/* Checks the checksum of all bytes. */
static int check_sum(struct verify *v, SnapWalk *walk)
{
	if (snap_walk_crc32c(walk) == trailer_of(v)->body_crc32c)
		return 0;
	return snap_fail(v->error, EBADMSG,
			 "wrong checksum over bytes 0 to %" PRIu64,
			 snap_walk_position(walk));
}

/* Walks a layer, and checks the runs that refer into it. */
static int check_layer(struct verify *v)
{
	uint64_t size = snap_reader_layer_size(v->r, v->layer);
	g_autoptr(SnapWalk) walk = snap_walk_new(v->r, v->layer);
	int r = check_trailer(v);

	v->begin = 0;
	if (r == 0)
		r = check_frames(v, walk);
	if (r == 0)
		r = check_tree(v, size);
	if (r == 0 && !v->layer)
		r = check_named(v);
	if (r == 0)
		r = check_sum(v, walk);
	v->before += size;
	return r < 0 ? r : tell(v, v->before);
}

/* Checks the runs that refer into a file that was found whole before. */
static int check_known(struct verify *v, const struct whole *w)
{
	struct found *own = v->index;
	int r;

	v->index = (struct found *)w->extents->data;
	v->n = w->extents->len;
	for (guint i = 0; i < v->n; i++)
		v->index[i].region = REGION_UNKNOWN;
	v->begin = 0;
	r = check_tree(v, snap_reader_layer_size(v->r, v->layer));
	v->index = own;
	v->n = 0;
	return r;
}

/* Checks a layer that must be read, and remembers it. */
static int check_new(struct verify *v)
{
	int r;

	if (v->done)
		v->seen = g_array_new(FALSE, FALSE, sizeof(struct found));
	r = check_layer(v);
	if (r == 0)
		remember(v);
	g_clear_pointer(&v->seen, g_array_unref);
	return r;
}

/* The layers that must be read: all must be there, none of them twice. */
static int choose(struct verify *v)
{
	guint n = snap_reader_meta(v->r)->n_layers;

	for (guint i = 0; i <= n; i++) {
		if (!v->r->files[i])
			return snap_fail(v->error, ENOLINK,
					 "parent %u is missing", i);
		v->known[i] = i ? find_whole(v->done, v->r->files[i]) : NULL;
		if (!v->known[i])
			v->all += snap_reader_layer_size(v->r, i);
	}
	return 0;
}

/* What is wrong lies in a parent's file. */
static int name_parent(const struct verify *v, int r)
{
	char uuid[SNAP_UUID_TEXT];

	snap_uuid_text(snap_reader_meta(v->r)->layers[v->layer - 1].uuid, uuid);
	return snap_fail_prefix(v->error, r, "parent %s", uuid);
}

int snap_verify(SnapReader *r, SnapVerified *done,
		snap_verify_progress progress, void *data, GError **error)
{
	struct verify v = { .r = r,
			    .done = done,
			    .progress = progress,
			    .data = data,
			    .error = error };
	guint n = snap_reader_meta(r)->n_layers;
	int ret = choose(&v);

	for (; ret == 0 && v.layer <= n; v.layer++) {
		const struct whole *known = v.known[v.layer];

		ret = known ? check_known(&v, known) : check_new(&v);
		if (ret < 0 && v.layer && ret != -ECANCELED)
			ret = name_parent(&v, ret);
	}
	forget_oldest(done);
	g_free(v.index);
	return ret;
}
