/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pages of a new snapshot that lie in the files of others. */
#include <errno.h>
#include <string.h>

#include "format/image/compact-internal.h"
#include "format/image/disk-internal.h"
#include "format/image/leaf-internal.h"
#include "format/image/writer-internal.h"

/* The file of a layer of a reader, as a parent. */
static struct snap_layer layer_of(const SnapReader *parent, guint layer)
{
	return layer ? snap_reader_meta(parent)->layers[layer - 1]
		     : snap_reader_as_layer(parent);
}

void snap_writer_expect_parents(SnapWriter *w)
{
	w->parents = w->parents || !w->position;
}

int snap_writer_layer(SnapWriter *w, SnapReader *parent, guint layer,
		      uint8_t *ret_layer)
{
	struct snap_layer new = layer_of(parent, layer);
	guint n = w->n_layers;

	for (guint i = 0; i < n; i++)
		if (!memcmp(w->layers[i].uuid, new.uuid, sizeof(new.uuid))) {
			*ret_layer = (uint8_t)(i + 1);
			return 0;
		}
	if (!memcmp(new.uuid, w->uuid, sizeof(w->uuid)) ||
	    (w->position && !w->parents))
		return -EINVAL;
	if (n == SNAP_LAYERS_MAX)
		return -E2BIG;
	w->parents = true;
	w->layers[n] = new;
	w->sources[n].reader = parent;
	w->sources[n].layer = layer;
	w->n_layers = n + 1;
	*ret_layer = (uint8_t)w->n_layers;
	return 0;
}

static bool is_in_layer(const SnapWriter *w, const struct snap_segment *s)
{
	uint64_t size;

	if (s->layer < 1 || s->layer > w->n_layers)
		return false;
	size = w->layers[s->layer - 1].size;
	return s->length >= 1 && s->length <= SNAP_DISK_EXTENT_MAX &&
	       s->offset >= sizeof(struct snap_disk_superblock) &&
	       s->offset < size && s->length <= size - s->offset;
}

int snap_writer_share(SnapWriter *w, uint64_t region,
		      const struct snap_segment *run)
{
	int r = w->error;

	if (run->kind != SNAP_SEGMENT_EXTENT || !is_in_layer(w, run) ||
	    region >= SNAP_DISK_REGIONS_MAX || run->count < 1 ||
	    run->page + run->count > SNAP_REGION_PAGES ||
	    run->pages > SNAP_EXTENT_PAGES ||
	    run->first + run->count > run->pages)
		return -EINVAL;
	if (r == 0)
		r = snap_writer_splice(w, region, run);
	w->stored += r == 0 ? run->count : 0;
	return r;
}

int snap_writer_runs(SnapWriter *w, uint64_t region, guint *ret_runs)
{
	struct snap_leaf leaf;
	int r = w->error ? w->error : snap_map_get(w->map, region, &leaf);

	if (r == 0)
		*ret_runs = snap_leaf_runs(&leaf);
	return snap_writer_fail(w, r);
}

int snap_writer_unshare(SnapWriter *w, uint64_t region, SnapCodec *codec)
{
	return w->error ? w->error
			: snap_writer_fail(
				  w, snap_compact_region(w, region, codec));
}
