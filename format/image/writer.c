/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes a snapshot file, front to back. Only this file decides what must be
 * durable before what:
 *
 *	superblock, extents              the superblock with the first extent
 *	leaves, nodes, top, properties   at the commit
 *	sync                             all that the trailer refers to is there
 *	trailer, sync                    the file is a snapshot
 *	publish                          it has its name, durably
 *
 * A crash before the second sync leaves a file without a valid trailer, and a
 * crash before the publish leaves one without its name. In both cases the old
 * file of that name is still there.
 *
 * Leaves are written in region order, and a node right after its last leaf. So
 * a commit holds one node and the top. The trailer has the checksum of all
 * bytes. After an error the writer returns it from every call.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "format/base/crc32c.h"
#include "format/base/error.h"
#include "format/image/disk-internal.h"
#include "format/image/meta-internal.h"
#include "format/image/writer-internal.h"

#define MAP_MEMORY_DEFAULT (4 * SNAP_MIB)
#define FILE_SIZE_MAX ((uint64_t)1 << SNAP_DISK_WHERE_BITS)

/* ---- the file ---- */

int snap_writer_fail(SnapWriter *w, int r)
{
	if (r < 0 && !w->error)
		w->error = r;
	return r;
}

static int append(SnapWriter *w, const void *data, size_t size,
		  struct snap_entry *ret_entry)
{
	int r;

	if (size > FILE_SIZE_MAX - w->position)
		return snap_writer_fail(w, -EFBIG);
	r = w->file->ops->pwrite(w->file, data, size, w->position);
	if (r < 0)
		return snap_writer_fail(w, r);
	*ret_entry =
		(struct snap_entry){ .offset = w->position,
				     .length = (uint32_t)size,
				     .crc32c = snap_crc32c(0, data, size) };
	w->crc32c = snap_crc32c(w->crc32c, data, size);
	w->position += size;
	return 0;
}

int snap_writer_append(SnapWriter *w, const void *data, size_t size,
		       struct snap_entry *ret_entry)
{
	struct snap_disk_superblock d;
	struct snap_entry unused;
	int r = 0;

	if (!w->position) {
		snap_disk_put_superblock(
			w->uuid, w->parents ? SNAP_INCOMPAT_LAYERS : 0, &d);
		r = append(w, &d, sizeof(d), &unused);
	}
	return r < 0 ? r : append(w, data, size, ret_entry);
}

void snap_writer_begin(SnapWriter *w, SnapFile *file)
{
	w->file = file;
	w->position = 0;
	w->crc32c = 0;
	w->dead = 0;
}

/* Makes a random uuid (RFC 4122, version 4). */
static void uuid_make(uint8_t *ret)
{
	if (getentropy(ret, 16) < 0)
		for (int i = 0; i < 16; i++)
			ret[i] = (uint8_t)g_random_int();
	ret[6] = (uint8_t)((ret[6] & 0x0f) | 0x40);
	ret[8] = (uint8_t)((ret[8] & 0x3f) | 0x80);
}

int snap_writer_new(const struct snap_writer_opts *opts,
		    SnapWriter **ret_writer, GError **error)
{
	g_autoptr(SnapWriter) w = g_new0(SnapWriter, 1);
	uint64_t memory =
		opts->map_memory ? opts->map_memory : MAP_MEMORY_DEFAULT;

	w->map = snap_map_new(opts->scratch, memory);
	w->may_publish = opts->may_publish;
	w->step = opts->step;
	w->data = opts->data;
	if (opts->uuid)
		memcpy(w->uuid, opts->uuid, sizeof(w->uuid));
	else
		uuid_make(w->uuid);
	snap_writer_begin(w, opts->file);
	*ret_writer = g_steal_pointer(&w);
	return 0;
}

void snap_writer_free(SnapWriter *w)
{
	if (!w)
		return;
	snap_map_free(w->map);
	snap_file_close(w->file);
	g_free(w);
}

/* ---- pages ---- */

int snap_writer_splice(SnapWriter *w, uint64_t region,
		       const struct snap_segment *run)
{
	struct snap_splice gone;
	int r = snap_map_splice(w->map, region, run, &gone);

	w->dead += gone.dead;
	w->stored -= gone.pages;
	return snap_writer_fail(w, r);
}

/* The extent is appended before the map refers to it. */
int snap_writer_extent(SnapWriter *w, uint64_t region, const uint16_t *pages,
		       guint n, const void *frame, size_t size)
{
	struct snap_segment like = { .kind = SNAP_SEGMENT_EXTENT,
				     .pages = (uint8_t)n };
	struct snap_entry e = { 0 };
	int r = w->error;

	if (n < 1 || n > SNAP_EXTENT_PAGES || size < 1 ||
	    size > SNAP_DISK_EXTENT_MAX || region >= SNAP_DISK_REGIONS_MAX)
		return -EINVAL;
	for (guint i = 0; i < n; i++)
		if (pages[i] >= SNAP_REGION_PAGES ||
		    (i && pages[i] <= pages[i - 1]))
			return -EINVAL;
	if (r == 0)
		r = snap_writer_append(w, frame, size, &e);
	like.offset = e.offset;
	like.length = e.length;
	like.crc32c = e.crc32c;
	for (guint i = 0; r == 0 && i < n;) {
		struct snap_segment run;

		i = snap_leaf_run(pages, n, i, &like, &run);
		r = snap_writer_splice(w, region, &run);
		w->stored += run.count;
	}
	return r;
}

int snap_writer_fill(SnapWriter *w, uint64_t page, uint64_t count, uint8_t fill)
{
	const uint64_t all = SNAP_DISK_REGIONS_MAX * SNAP_REGION_PAGES;
	int r = w->error;

	if (page > all || count > all - page)
		return -EINVAL;
	while (r == 0 && count > 0) {
		uint64_t at = page % SNAP_REGION_PAGES;
		uint64_t n = MIN(count, SNAP_REGION_PAGES - at);
		struct snap_segment run = { .kind = fill ? SNAP_SEGMENT_FILL
							 : SNAP_SEGMENT_ZERO,
					    .page = (uint16_t)at,
					    .count = (uint16_t)n,
					    .fill = fill };

		r = snap_writer_splice(w, page / SNAP_REGION_PAGES, &run);
		page += n;
		count -= n;
	}
	return r;
}

struct snap_writer_stats snap_writer_stats(const SnapWriter *w)
{
	return (struct snap_writer_stats){ .written = w->position,
					   .dead = w->dead,
					   .stored = w->stored,
					   .on_disk =
						   snap_file_on_disk(w->file) };
}

/* ---- the commit ---- */

struct commit {
	SnapWriter *w;
	struct snap_meta *meta;
	uint64_t regions;
	guint block; /* the block of the last region */
	struct snap_trailer trailer;
	/* the layers as the leaves name them: without those not in use */
	uint8_t layers[SNAP_LAYERS_MAX + 1];
};

/* Lists the parents that are in use. */
static int list_layers(struct commit *c)
{
	uint64_t used[SNAP_LAYERS_MAX + 1] = { 0 };
	SnapWriter *w = c->w;
	struct snap_leaf leaf;
	int r = 0;

	for (uint64_t i = 0;
	     r == 0 && w->n_layers && i < snap_map_regions(w->map); i++) {
		if (!snap_map_has(w->map, i))
			continue;
		r = snap_map_get(w->map, i, &leaf);
		if (r == 0)
			snap_leaf_used(&leaf, used);
		snap_writer_step(w);
	}
	c->meta->n_layers = 0;
	for (guint i = 0; r == 0 && i < w->n_layers; i++) {
		if (!used[i + 1])
			continue;
		w->layers[i].used = used[i + 1];
		c->meta->layers[c->meta->n_layers++] = w->layers[i];
		c->layers[i + 1] = (uint8_t)c->meta->n_layers;
	}
	return r;
}

/* Counts a region's pages for its block. Regions come in order, and a block
 * begins with a region. */
static int count_block(struct commit *c, uint64_t region,
		       const struct snap_leaf *leaf)
{
	struct snap_meta *meta = c->meta;
	uint64_t end = region * SNAP_REGION_PAGES + snap_leaf_end(leaf);
	struct snap_block *b;

	while (c->block + 1 < meta->n_blocks &&
	       meta->blocks[c->block + 1].base <= region * SNAP_REGION)
		c->block++;
	b = &meta->blocks[c->block];
	b->stored += (uint64_t)snap_leaf_stored(leaf) * SNAP_PAGE;
	return end <= snap_div_up(b->base + b->length, SNAP_PAGE) ? 0 : -EINVAL;
}

static int put_leaf(struct commit *c, uint64_t region,
		    struct snap_entry *ret_entry)
{
	uint8_t frame[SNAP_DISK_LEAF_MAX];
	struct snap_leaf leaf;
	size_t size;
	int r;

	if (!snap_map_has(c->w->map, region))
		return 0;
	r = snap_map_get(c->w->map, region, &leaf);
	if (r < 0 || !snap_leaf_stored(&leaf))
		return r;
	r = count_block(c, region, &leaf);
	if (r < 0)
		return r;
	for (guint i = 0; i < leaf.n; i++)
		leaf.segments[i].layer = c->layers[leaf.segments[i].layer];
	size = snap_disk_put_leaf(region, &leaf, frame);
	r = snap_writer_append(c->w, frame, size, ret_entry);
	ret_entry->stored = snap_leaf_stored(&leaf);
	return r;
}

static int put_node(struct commit *c, guint index, struct snap_entry *ret_entry)
{
	uint8_t frame[sizeof(struct snap_disk_node) +
		      SNAP_NODE_ENTRIES * sizeof(struct snap_disk_entry)];
	guint n = snap_disk_node_entries(c->regions, index);
	struct snap_entry entries[SNAP_NODE_ENTRIES] = { 0 };
	uint32_t stored = 0;
	int r = 0;

	for (guint i = 0; r == 0 && i < n; i++) {
		r = put_leaf(c, (uint64_t)index * SNAP_NODE_ENTRIES + i,
			     &entries[i]);
		stored += entries[i].stored;
	}
	if (r < 0 || !stored)
		return r;
	snap_writer_step(c->w);
	snap_disk_put_node(SNAP_DISK_NODE, index, entries, n, frame);
	r = snap_writer_append(c->w, frame, snap_disk_node_size(n), ret_entry);
	ret_entry->stored = stored;
	return r;
}

static int put_map(struct commit *c)
{
	guint n = snap_disk_nodes(c->regions);
	g_autofree struct snap_entry *top = g_new0(struct snap_entry, n + 1);
	g_autofree void *frame = g_malloc(snap_disk_node_size(n));
	int r = 0;

	for (guint i = 0; r == 0 && i < n; i++)
		r = put_node(c, i, &top[i]);
	if (r < 0)
		return r;
	snap_disk_put_node(SNAP_DISK_TOP, 0, top, n, frame);
	return snap_writer_append(c->w, frame, snap_disk_node_size(n),
				  &c->trailer.top);
}

static int put_properties(struct commit *c, GError **error)
{
	g_autofree void *frame = NULL;
	size_t size;
	int r = snap_meta_check(c->meta, error);

	if (r < 0)
		return snap_writer_fail(c->w, -EINVAL);
	frame = snap_properties_put(c->meta, &size);
	r = snap_writer_append(c->w, frame, size, &c->trailer.properties);
	return r < 0 ? snap_fail_errno(error, -r, "writing the properties") : 0;
}

/* All that the trailer refers to must be on disk before it. */
static int put_trailer(struct commit *c)
{
	SnapWriter *w = c->w;
	struct snap_disk_trailer d;
	struct snap_entry unused;
	int r = w->file->ops->sync(w->file);

	snap_writer_step(w);
	if (r < 0)
		return r;
	memcpy(c->trailer.uuid, w->uuid, sizeof(w->uuid));
	c->trailer.file_size = w->position + sizeof(d);
	c->trailer.regions = c->regions;
	c->trailer.body_crc32c = w->crc32c;
	snap_disk_put_trailer(&c->trailer, &d);
	r = snap_writer_append(w, &d, sizeof(d), &unused);
	return r < 0 ? r : w->file->ops->sync(w->file);
}

static int commit_begin(struct commit *c, GError **error)
{
	SnapWriter *w = c->w;

	if (w->committed)
		return snap_fail(error, EINVAL, "committed already");
	if (w->error)
		return snap_fail_errno(error, -w->error,
				       "writing the snapshot");
	for (guint i = 0; i < c->meta->n_blocks; i++)
		c->meta->blocks[i].stored = 0;
	memcpy(c->meta->uuid, w->uuid, sizeof(w->uuid));
	c->meta->n_layers = 0;
	if (snap_meta_check(c->meta, error) < 0)
		return -EINVAL;
	c->regions = snap_meta_regions(c->meta);
	for (uint64_t i = c->regions; i < snap_map_regions(w->map); i++)
		if (snap_map_has(w->map, i))
			return snap_fail(error, EINVAL,
					 "pages past the end of the blocks");
	return 0;
}

int snap_writer_commit(SnapWriter *w, struct snap_meta *meta, int dirfd,
		       const char *name, GError **error)
{
	struct commit c = { .w = w, .meta = meta };
	int r = commit_begin(&c, error);

	if (r < 0)
		return r;
	r = list_layers(&c);
	if (r == 0)
		r = put_map(&c);
	if (r == -EINVAL)
		return snap_fail(error, -snap_writer_fail(w, r),
				 "pages past the end of block %s",
				 meta->blocks[c.block].name);
	if (r < 0)
		return snap_fail_errno(error, -snap_writer_fail(w, r),
				       "writing the map");
	r = put_properties(&c, error);
	if (r < 0)
		return r;
	r = put_trailer(&c);
	if (r < 0)
		return snap_fail_errno(error, -snap_writer_fail(w, r),
				       "writing the snapshot to disk");
	snap_writer_step(w);
	if (w->may_publish && !w->may_publish(w->data))
		return snap_fail(error, ECANCELED,
				 "the snapshot is not wanted any more");
	r = w->file->ops->publish(w->file, dirfd, name);
	if (r == -EUCLEAN)
		return snap_fail(error, -snap_writer_fail(w, r),
				 "its folder cannot be synced: the new "
				 "snapshot is there in place of the older one, "
				 "but a crash of the machine may lose it");
	if (r < 0)
		return snap_fail_errno(error, -snap_writer_fail(w, r),
				       "publishing the snapshot");
	w->committed = true;
	return 0;
}
