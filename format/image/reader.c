/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads a snapshot file, from its end.
 *
 * Opening reads four frames: the trailer, which refers to the rest; the
 * superblock, which shows that it is the same file; the properties; the top.
 * The reader holds the last two. All later reads are checked against the
 * checksum in the entry that refers to them, so a reader gives right bytes or
 * an error. After opening only the count of bytes changes, so any thread may
 * read.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "format/base/crc32c.h"
#include "format/base/error.h"
#include "format/image/frame-internal.h"
#include "format/image/leaf-internal.h"
#include "format/image/meta-internal.h"
#include "format/image/reader-internal.h"

int snap_reader_read(SnapReader *r, guint layer, void *buf, size_t size,
		     uint64_t offset)
{
	SnapFile *file = r->files[layer];
	int ret = file ? snap_file_read(file, buf, size, offset) : -ENOLINK;

	if (ret == 0)
		__atomic_add_fetch(&r->bytes_read, size, __ATOMIC_RELAXED);
	return ret;
}

/* Reads the frame of an entry and checks its checksum. */
static int read_named(SnapReader *r, guint layer, const struct snap_entry *e,
		      void *ret)
{
	uint64_t end = snap_reader_layer_size(r, layer) -
		       sizeof(struct snap_disk_trailer);
	int ret_code;

	if (e->offset > end || e->length > end - e->offset)
		return -EBADMSG;
	ret_code = snap_reader_read(r, layer, ret, e->length, e->offset);
	if (ret_code < 0)
		return ret_code;
	if (snap_crc32c(0, ret, e->length) == e->crc32c)
		return 0;
	/* What is wrong may be a copy of it. */
	ret_code = snap_file_reread(r->files[layer], ret, e->length, e->offset);
	if (ret_code < 0)
		return ret_code;
	return snap_crc32c(0, ret, e->length) == e->crc32c ? 0 : -EBADMSG;
}

/* ---- opening ---- */

static int fail_read(GError **error, int r, const char *what)
{
	if (r == -EBADMSG)
		return snap_fail(error, EBADMSG, "%s: wrong checksum", what);
	return snap_fail_errno(error, -r, "%s", what);
}

/* True when the file begins like a snapshot file, or is too short to tell. */
static bool begins_as_ours(SnapReader *r)
{
	struct snap_disk_superblock d;

	return snap_reader_read(r, 0, &d, sizeof(d), 0) < 0 ||
	       memcmp(d.magic, SNAP_DISK_MAGIC, sizeof(d.magic)) == 0;
}

int snap_reader_trailer(SnapReader *r, guint layer, struct snap_trailer *ret,
			GError **error)
{
	SnapFile *file = r->files[layer];
	struct snap_disk_trailer d;
	uint64_t size;
	int code = file->ops->size(file, &size);

	if (code < 0)
		return snap_fail_errno(error, -code, "size of the file");
	if (size < sizeof(struct snap_disk_superblock) + sizeof(d))
		return snap_fail(error, ENODATA,
				 "no valid end: %" PRIu64 " bytes are too few "
				 "for a snapshot",
				 size);
	code = snap_reader_read(r, layer, &d, sizeof(d), size - sizeof(d));
	if (code < 0)
		return snap_fail_errno(error, -code, "reading the trailer");
	return snap_disk_get_trailer(&d, size, ret, error);
}

static int open_trailer(SnapReader *r, GError **error)
{
	int ret = snap_reader_trailer(r, 0, &r->trailer, error);

	if (ret == -ENODATA && !begins_as_ours(r)) {
		g_clear_error(error);
		return snap_fail(error, ENODATA,
				 "no snapshot file: it neither begins nor ends "
				 "as one");
	}
	return ret;
}

static int open_superblock(SnapReader *r, GError **error)
{
	struct snap_disk_superblock d;
	int ret = snap_reader_read(r, 0, &d, sizeof(d), 0);

	if (ret < 0)
		return snap_fail_errno(error, -ret, "reading the superblock");
	ret = snap_disk_get_superblock(&d, &r->superblock, error);
	if (ret < 0)
		return ret;
	if (memcmp(r->superblock.uuid, r->trailer.uuid,
		   sizeof(r->trailer.uuid)) != 0)
		return snap_fail(
			error, EBADMSG,
			"superblock and trailer belong to different files");
	return 0;
}

/* Checks what the properties alone do not tell of the parents. */
static int check_parents(const SnapReader *r, GError **error)
{
	const struct snap_meta *meta = &r->meta;

	if (meta->n_layers && !(r->superblock.incompat & SNAP_INCOMPAT_LAYERS))
		return snap_fail(error, EBADMSG,
				 "parents, in a file that begins as one "
				 "without");
	for (guint i = 0; i < meta->n_layers; i++)
		if (!memcmp(meta->layers[i].uuid, meta->uuid,
			    sizeof(meta->uuid)))
			return snap_fail(error, EBADMSG,
					 "a snapshot that is its own parent");
	return 0;
}

static int open_properties(SnapReader *r, GError **error)
{
	const struct snap_entry *e = &r->trailer.properties;
	g_autofree void *frame = g_try_malloc(MAX(e->length, 1));
	int ret = frame ? read_named(r, 0, e, frame) : -ENOMEM;

	if (ret < 0)
		return fail_read(error, ret, "properties");
	ret = snap_properties_get(frame, e->length, &r->meta, error);
	if (ret < 0)
		return ret;
	memcpy(r->meta.uuid, r->superblock.uuid, sizeof(r->meta.uuid));
	ret = check_parents(r, error);
	if (ret < 0)
		return ret;
	if (snap_meta_regions(&r->meta) != r->trailer.regions)
		return snap_fail(
			error, EBADMSG,
			"trailer: %" PRIu64 " regions, the blocks have "
			"%" PRIu64,
			r->trailer.regions, snap_meta_regions(&r->meta));
	return 0;
}

static int open_top(SnapReader *r, GError **error)
{
	const struct snap_entry *e = &r->trailer.top;
	struct snap_range range = {
		.end = e->offset, .pages = SNAP_NODE_ENTRIES * SNAP_REGION_PAGES
	};
	guint n = snap_disk_nodes(r->trailer.regions);
	g_autofree void *frame = g_try_malloc(MAX(e->length, 1));
	int ret = frame ? read_named(r, 0, e, frame) : -ENOMEM;

	r->top = g_try_new0(struct snap_entry, n ? n : 1);
	if (ret == 0 && !r->top)
		ret = -ENOMEM;
	if (ret < 0)
		return fail_read(error, ret, "top of the map");
	r->n_top = n;
	ret = snap_disk_get_node(frame, SNAP_DISK_TOP, 0, n, &range, r->top);
	return ret < 0 ? snap_fail(error, EBADMSG, "top of the map: damaged")
		       : 0;
}

int snap_reader_open(SnapFile *file, SnapReader **ret_reader, GError **error)
{
	g_autoptr(SnapReader) r = g_new0(SnapReader, 1);
	int ret;

	r->files[0] = file;
	ret = open_trailer(r, error);
	if (ret == 0)
		ret = open_superblock(r, error);
	if (ret == 0)
		ret = open_properties(r, error);
	if (ret == 0)
		ret = open_top(r, error);
	if (ret == 0)
		*ret_reader = g_steal_pointer(&r);
	return ret;
}

void snap_reader_free(SnapReader *r)
{
	if (!r)
		return;
	for (guint i = 0; i < G_N_ELEMENTS(r->files); i++)
		snap_file_close(r->files[i]);
	snap_meta_clear(&r->meta);
	g_free(r->top);
	g_free(r);
}

/* ---- parents ---- */

int snap_reader_identify(const SnapReader *r, guint layer,
			 struct snap_file_id *ret_id)
{
	return r->files[layer] ? snap_file_identify(r->files[layer], ret_id)
			       : -ENOLINK;
}

struct snap_layer snap_reader_as_layer(const SnapReader *r)
{
	struct snap_layer layer = { .size = r->trailer.file_size,
				    .crc32c = r->trailer.crc32c };

	memcpy(layer.uuid, r->meta.uuid, sizeof(layer.uuid));
	return layer;
}

int snap_reader_set_layer(SnapReader *r, guint i, SnapFile *file,
			  GError **error)
{
	const struct snap_layer *layer = &r->meta.layers[i];
	struct snap_trailer *t = &r->parents[i];
	int ret;

	snap_file_close(r->files[i + 1]);
	r->files[i + 1] = file;
	ret = snap_reader_trailer(r, i + 1, t, error);
	if (ret == 0 &&
	    (memcmp(t->uuid, layer->uuid, sizeof(t->uuid)) != 0 ||
	     t->file_size != layer->size || t->crc32c != layer->crc32c))
		ret = snap_fail(error, EBADMSG,
				"another file than the one that the snapshot "
				"was made from");
	if (ret == -ENODATA || ret == -EOPNOTSUPP) {
		ret = -EBADMSG;
		if (error)
			(*error)->code = EBADMSG;
	}
	if (ret < 0) {
		snap_file_close(file);
		r->files[i + 1] = NULL;
	}
	return ret;
}

void snap_reader_wrap(SnapReader *r, guint layer, snap_reader_wrapper wrap,
		      void *data)
{
	struct snap_layer own = snap_reader_as_layer(r);

	if (r->files[layer])
		r->files[layer] =
			wrap(data, r->files[layer],
			     layer ? &r->meta.layers[layer - 1] : &own);
}

/* ---- properties ---- */

const struct snap_meta *snap_reader_meta(const SnapReader *r)
{
	return &r->meta;
}

uint64_t snap_reader_file_size(const SnapReader *r)
{
	return r->trailer.file_size;
}

uint64_t snap_reader_bytes_read(const SnapReader *r)
{
	return __atomic_load_n(&r->bytes_read, __ATOMIC_RELAXED);
}

const struct snap_entry *snap_reader_top(const SnapReader *r, guint *ret_n)
{
	*ret_n = r->n_top;
	return r->top;
}

/* ---- reading ---- */

int snap_reader_node(SnapReader *r, guint index, struct snap_node *ret_node)
{
	uint8_t frame[sizeof(struct snap_disk_node) +
		      SNAP_NODE_ENTRIES * sizeof(struct snap_disk_entry)];
	const struct snap_entry *e = &r->top[index];
	struct snap_range range = { .end = e->offset,
				    .pages = SNAP_REGION_PAGES };
	guint n = snap_disk_node_entries(r->trailer.regions, index);
	uint32_t stored = 0;
	int ret;

	memset(ret_node, 0, sizeof(*ret_node));
	ret_node->n = n;
	if (!e->length)
		return 0;
	if (e->length != snap_disk_node_size(n))
		return -EBADMSG;
	ret = read_named(r, 0, e, frame);
	if (ret == 0)
		ret = snap_disk_get_node(frame, SNAP_DISK_NODE, index, n,
					 &range, ret_node->entries);
	if (ret < 0)
		return ret;
	for (guint i = 0; i < n; i++)
		stored += ret_node->entries[i].stored;
	return stored == e->stored ? 0 : -EBADMSG;
}

int snap_reader_stretch(SnapReader *r, uint64_t offset, size_t size, void *buf)
{
	return snap_reader_read(r, 0, buf, size, offset);
}

/* Takes the frame of an entry from a stretch that holds all of it; NULL where
 * that holds less, or other bytes than the entry says. */
static const void *in_stretch(const struct snap_stretch *at,
			      const struct snap_entry *e)
{
	const uint8_t *frame;

	if (!at || e->offset < at->offset ||
	    e->offset - at->offset > at->size ||
	    e->length > at->size - (e->offset - at->offset))
		return NULL;
	frame = (const uint8_t *)at->bytes + (e->offset - at->offset);
	return snap_crc32c(0, frame, e->length) == e->crc32c ? frame : NULL;
}

G_STATIC_ASSERT(SNAP_DISK_LEAF_MAX <= SNAP_LEAF_MAX);

guint snap_entry_segments(const struct snap_entry *entry)
{
	uint32_t head = sizeof(struct snap_disk_leaf);

	if (entry->length < head)
		return 0;
	return MIN((entry->length - head) / sizeof(struct snap_disk_segment),
		   SNAP_REGION_PAGES);
}

int snap_reader_leaf(SnapReader *r, uint64_t region,
		     const struct snap_entry *entry, struct snap_leaf *ret_leaf)
{
	return snap_reader_leaf_at(r, NULL, region, entry, ret_leaf);
}

int snap_reader_leaf_at(SnapReader *r, const struct snap_stretch *at,
			uint64_t region, const struct snap_entry *entry,
			struct snap_leaf *ret_leaf)
{
	struct snap_range range = { .end = entry->offset,
				    .parents = &r->meta,
				    .pages = entry->stored };
	uint8_t frame[SNAP_DISK_LEAF_MAX];
	const void *known;
	int ret;

	if (!entry->length) {
		snap_leaf_clear(ret_leaf);
		return 0;
	}
	if (entry->length > sizeof(frame))
		return -EBADMSG;
	known = in_stretch(at, entry);
	if (!known) {
		ret = read_named(r, 0, entry, frame);
		if (ret < 0)
			return ret;
		known = frame;
	}
	return snap_disk_get_leaf(known, entry->length, region, &range,
				  ret_leaf);
}

void snap_reader_expect(SnapReader *r, guint layer, uint64_t offset,
			uint64_t size)
{
	if (r->files[layer])
		snap_file_expect(r->files[layer], offset, size);
}

int snap_reader_extent(SnapReader *r, const struct snap_segment *segment,
		       SnapCodec *codec, void *ret)
{
	struct snap_entry e = { .offset = segment->offset,
				.length = segment->length,
				.crc32c = segment->crc32c };
	void *frame = snap_codec_buffer(codec);
	int ret_code;

	if (e.length > SNAP_DISK_EXTENT_MAX)
		return -EBADMSG;
	ret_code = read_named(r, segment->layer, &e, frame);
	if (ret_code < 0)
		return ret_code;
	return snap_codec_decompress_trusted(codec, frame, e.length, ret,
					     segment->pages);
}
