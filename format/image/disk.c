/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Converts structs on disk to host structs, and back.
 *
 * Only this file touches the fields of ondisk.h, except for the properties
 * (properties.c). The order of checks matters: first the checksum, so that
 * damage is reported as damage; then version and features, so that a file of a
 * later program is not reported as damaged; then ranges.
 */
#include "format/image/disk-internal.h"

#include <inttypes.h>
#include <string.h>

#include "format/base/crc32c.h"
#include "format/base/error.h"
#include "format/image/leaf-internal.h"

#define OFFSET_MASK (((uint64_t)1 << SNAP_DISK_WHERE_BITS) - 1)

static bool all_zero(const void *data, size_t size)
{
	const uint8_t *p = data;

	while (size--)
		if (*p++)
			return false;
	return true;
}

/* ---- the header of a frame ---- */

void snap_disk_put_frame(struct snap_disk_frame *ret, const char *kind,
			 size_t size)
{
	ret->skippable = snap_to_le32(SNAP_DISK_SKIPPABLE);
	ret->size = snap_to_le32((uint32_t)(size - 8));
	memcpy(ret->kind, kind, sizeof(ret->kind));
}

bool snap_disk_is_frame(const struct snap_disk_frame *f, const char *kind,
			size_t size)
{
	return snap_le32(f->skippable) == SNAP_DISK_SKIPPABLE &&
	       (uint64_t)snap_le32(f->size) + 8 == size &&
	       memcmp(f->kind, kind, sizeof(f->kind)) == 0;
}

/* ---- superblock ---- */

void snap_disk_put_superblock(const uint8_t *uuid, uint64_t incompat,
			      struct snap_disk_superblock *ret)
{
	memset(ret, 0, sizeof(*ret));
	snap_disk_put_frame(&ret->frame, SNAP_DISK_SUPERBLOCK, sizeof(*ret));
	memcpy(ret->magic, SNAP_DISK_MAGIC, sizeof(ret->magic));
	ret->version = snap_to_le32(SNAP_DISK_VERSION);
	ret->incompat = snap_to_le64(incompat);
	memcpy(ret->uuid, uuid, sizeof(ret->uuid));
	ret->crc32c = snap_to_le32(snap_crc32c(
		0, ret, offsetof(struct snap_disk_superblock, crc32c)));
}

static int check_version(le32 version, GError **error)
{
	if (snap_le32(version) == SNAP_DISK_VERSION)
		return 0;
	return snap_fail(error, EOPNOTSUPP,
			 "version %" PRIu32 " of the snapshot format; this "
			 "program reads version %u",
			 snap_le32(version), SNAP_DISK_VERSION);
}

int snap_disk_get_superblock(const struct snap_disk_superblock *d,
			     struct snap_superblock *ret, GError **error)
{
	uint64_t incompat = snap_le64(d->incompat);
	uint64_t unknown = incompat & ~SNAP_INCOMPAT_KNOWN;
	int r;

	if (memcmp(d->magic, SNAP_DISK_MAGIC, sizeof(d->magic)) != 0)
		return snap_fail(error, EBADMSG, "superblock: no magic");
	if (snap_crc32c(0, d, offsetof(struct snap_disk_superblock, crc32c)) !=
	    snap_le32(d->crc32c))
		return snap_fail(error, EBADMSG, "superblock: wrong checksum");
	r = check_version(d->version, error);
	if (r < 0)
		return r;
	if (unknown)
		return snap_fail(error, EOPNOTSUPP,
				 "features that this program does not know: "
				 "incompat bits 0x%" PRIx64,
				 unknown);
	if (!snap_disk_is_frame(&d->frame, SNAP_DISK_SUPERBLOCK, sizeof(*d)) ||
	    !all_zero(d->reserved, sizeof(d->reserved)))
		return snap_fail(error, EBADMSG, "superblock: damaged");
	ret->incompat = incompat;
	memcpy(ret->uuid, d->uuid, sizeof(ret->uuid));
	return 0;
}

/* ---- entries ---- */

static void put_entry(const struct snap_entry *e, struct snap_disk_entry *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->where = snap_to_le64(e->offset);
	ret->length = snap_to_le32(e->length);
	ret->crc32c = snap_to_le32(e->crc32c);
	ret->stored = snap_to_le32(e->stored);
}

/* Splits `where`, and checks that [offset, offset + length) is within the
 * frames of that layer. */
static int get_place(le64 where, uint32_t length,
		     const struct snap_range *range, uint8_t *ret_layer,
		     uint64_t *ret_offset)
{
	uint64_t offset = snap_le64(where) & OFFSET_MASK, end = range->end;
	uint64_t layer = snap_le64(where) >> SNAP_DISK_WHERE_BITS;

	if (layer) {
		if (!range->parents || layer > range->parents->n_layers)
			return -EBADMSG;
		end = range->parents->layers[layer - 1].size -
		      sizeof(struct snap_disk_trailer);
	}
	if (offset < sizeof(struct snap_disk_superblock) || offset > end ||
	    length > end - offset)
		return -EBADMSG;
	*ret_layer = (uint8_t)layer;
	*ret_offset = offset;
	return 0;
}

static int get_entry(const struct snap_disk_entry *d,
		     const struct snap_range *range, struct snap_entry *ret)
{
	struct snap_entry e = { .length = snap_le32(d->length),
				.crc32c = snap_le32(d->crc32c),
				.stored = snap_le32(d->stored) };
	uint8_t layer = 0;
	int r;

	if (all_zero(d, sizeof(*d))) {
		*ret = (struct snap_entry){ 0 };
		return 0;
	}
	r = get_place(d->where, e.length, range, &layer, &e.offset);
	if (r < 0)
		return r;
	if (layer || e.length < sizeof(struct snap_disk_frame) || !e.stored ||
	    e.stored > range->pages || snap_le32(d->reserved))
		return -EBADMSG;
	*ret = e;
	return 0;
}

/* ---- trailer ---- */

void snap_disk_put_trailer(const struct snap_trailer *t,
			   struct snap_disk_trailer *ret)
{
	memset(ret, 0, sizeof(*ret));
	snap_disk_put_frame(&ret->frame, SNAP_DISK_TRAILER, sizeof(*ret));
	ret->version = snap_to_le32(SNAP_DISK_VERSION);
	memcpy(ret->uuid, t->uuid, sizeof(ret->uuid));
	ret->file_size = snap_to_le64(t->file_size);
	ret->regions = snap_to_le64(t->regions);
	put_entry(&t->top, &ret->top);
	put_entry(&t->properties, &ret->properties);
	ret->body_crc32c = snap_to_le32(t->body_crc32c);
	memcpy(ret->magic, SNAP_DISK_END_MAGIC, sizeof(ret->magic));
	ret->crc32c = snap_to_le32(snap_crc32c(
		0, ret, offsetof(struct snap_disk_trailer, crc32c)));
}

/* Reads the entry of the top or the properties. Their frames must exist, and
 * their pages are not counted. */
static int get_trailer_entry(const struct snap_disk_entry *d, uint64_t end,
			     struct snap_entry *ret)
{
	struct snap_range range = { .end = end, .pages = 1 };
	struct snap_disk_entry entry = *d;
	int r;

	if (snap_le32(d->stored) || !snap_le32(d->length))
		return -EBADMSG;
	entry.stored = snap_to_le32(1);
	r = get_entry(&entry, &range, ret);
	ret->stored = 0;
	return r;
}

static int get_trailer_entries(const struct snap_disk_trailer *d,
			       struct snap_trailer *t, GError **error)
{
	uint64_t end = t->file_size - sizeof(*d);
	int r = get_trailer_entry(&d->top, end, &t->top);

	if (r == 0)
		r = get_trailer_entry(&d->properties, end, &t->properties);
	if (r == 0 && (t->top.length != snap_disk_node_size(
						snap_disk_nodes(t->regions)) ||
		       t->properties.length > SNAP_DISK_PROPERTIES_MAX))
		r = -EBADMSG;
	return r < 0 ? snap_fail(error, EBADMSG,
				 "trailer: an offset outside the file")
		     : 0;
}

int snap_disk_get_trailer(const struct snap_disk_trailer *d, uint64_t file_size,
			  struct snap_trailer *ret, GError **error)
{
	struct snap_trailer t = { .file_size = snap_le64(d->file_size),
				  .regions = snap_le64(d->regions),
				  .body_crc32c = snap_le32(d->body_crc32c),
				  .crc32c = snap_le32(d->crc32c) };
	int r;

	if (memcmp(d->magic, SNAP_DISK_END_MAGIC, sizeof(d->magic)) != 0)
		return snap_fail(
			error, ENODATA,
			"no valid end: the file was cut, has grown, or "
			"was never completed");
	if (snap_crc32c(0, d, offsetof(struct snap_disk_trailer, crc32c)) !=
	    snap_le32(d->crc32c))
		return snap_fail(error, EBADMSG, "trailer: wrong checksum");
	r = check_version(d->version, error);
	if (r < 0)
		return r;
	if (!snap_disk_is_frame(&d->frame, SNAP_DISK_TRAILER, sizeof(*d)) ||
	    !all_zero(d->reserved, sizeof(d->reserved)))
		return snap_fail(error, EBADMSG, "trailer: damaged");
	if (t.file_size != file_size)
		return snap_fail(error, EBADMSG,
				 "the file has %" PRIu64 " bytes, and was "
				 "written with %" PRIu64,
				 file_size, t.file_size);
	if (t.regions > SNAP_DISK_REGIONS_MAX)
		return snap_fail(error, EBADMSG, "trailer: %" PRIu64 " regions",
				 t.regions);
	memcpy(t.uuid, d->uuid, sizeof(t.uuid));
	r = get_trailer_entries(d, &t, error);
	if (r == 0)
		*ret = t;
	return r;
}

/* ---- nodes ---- */

void snap_disk_put_node(const char *kind, guint index,
			const struct snap_entry *entries, guint n, void *ret)
{
	struct snap_disk_node *d = ret;

	memset(d, 0, sizeof(*d));
	snap_disk_put_frame(&d->frame, kind, snap_disk_node_size(n));
	d->index = snap_to_le32(index);
	d->n = snap_to_le32(n);
	for (guint i = 0; i < n; i++)
		put_entry(&entries[i], &d->entries[i]);
}

int snap_disk_get_node(const void *data, const char *kind, guint index, guint n,
		       const struct snap_range *range,
		       struct snap_entry *ret_entries)
{
	const struct snap_disk_node *d = data;

	if (!snap_disk_is_frame(&d->frame, kind, snap_disk_node_size(n)) ||
	    snap_le32(d->index) != index || snap_le32(d->n) != n ||
	    snap_le32(d->reserved))
		return -EBADMSG;
	for (guint i = 0; i < n; i++) {
		int r = get_entry(&d->entries[i], range, &ret_entries[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- leaves ---- */

static void put_segment(const struct snap_segment *s,
			struct snap_disk_segment *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->kind = (uint8_t)s->kind;
	ret->count = snap_to_le16(s->count);
	if (s->kind == SNAP_SEGMENT_FILL)
		ret->fill = s->fill;
	if (s->kind != SNAP_SEGMENT_EXTENT)
		return;
	ret->where = snap_to_le64(s->offset | (uint64_t)s->layer
						      << SNAP_DISK_WHERE_BITS);
	ret->length = snap_to_le32(s->length);
	ret->crc32c = snap_to_le32(s->crc32c);
	ret->first = snap_to_le16(s->first);
	ret->pages = snap_to_le16(s->pages);
}

/* Reads a run of an extent's pages. */
static int get_extent(const struct snap_disk_segment *d,
		      const struct snap_range *range, struct snap_segment *s)
{
	uint16_t first = snap_le16(d->first), pages = snap_le16(d->pages);

	if (pages < 1 || pages > SNAP_DISK_EXTENT_PAGES || first >= pages ||
	    s->count > pages - first || d->fill)
		return -EBADMSG;
	s->first = (uint8_t)first;
	s->pages = (uint8_t)pages;
	s->length = snap_le32(d->length);
	s->crc32c = snap_le32(d->crc32c);
	if (s->length < 1 || s->length > SNAP_DISK_EXTENT_MAX)
		return -EBADMSG;
	return get_place(d->where, s->length, range, &s->layer, &s->offset);
}

/* Reads a run of pages of one byte. The fields of an extent must be zero. */
static int get_fill(const struct snap_disk_segment *d, struct snap_segment *s)
{
	s->fill = d->fill;
	if (snap_le64(d->where) || snap_le32(d->length) ||
	    snap_le32(d->crc32c) || snap_le16(d->first) || snap_le16(d->pages))
		return -EBADMSG;
	return (s->kind == SNAP_SEGMENT_FILL) == (s->fill != 0) ? 0 : -EBADMSG;
}

static int get_segment(const struct snap_disk_segment *d, guint page,
		       const struct snap_range *range, struct snap_segment *ret)
{
	guint count = snap_le16(d->count);

	memset(ret, 0, sizeof(*ret));
	if (count < 1 || count > SNAP_REGION_PAGES - page)
		return -EBADMSG;
	ret->page = (uint16_t)page;
	ret->count = (uint16_t)count;
	switch (d->kind) {
	case SNAP_DISK_SEGMENT_ZERO:
	case SNAP_DISK_SEGMENT_FILL:
		ret->kind = d->kind == SNAP_DISK_SEGMENT_ZERO
				    ? SNAP_SEGMENT_ZERO
				    : SNAP_SEGMENT_FILL;
		return get_fill(d, ret);
	case SNAP_DISK_SEGMENT_EXTENT:
		ret->kind = SNAP_SEGMENT_EXTENT;
		return get_extent(d, range, ret);
	default:
		return -EBADMSG;
	}
}

size_t snap_disk_put_leaf(uint64_t region, const struct snap_leaf *leaf,
			  void *ret)
{
	struct snap_disk_leaf *d = ret;
	size_t size = sizeof(*d) + leaf->n * sizeof(d->segments[0]);

	memset(d, 0, sizeof(*d));
	snap_disk_put_frame(&d->frame, SNAP_DISK_LEAF, size);
	d->region = snap_to_le32((uint32_t)region);
	d->n = snap_to_le16((uint16_t)leaf->n);
	for (guint i = 0; i < leaf->n; i++)
		put_segment(&leaf->segments[i], &d->segments[i]);
	return size;
}

int snap_disk_get_leaf(const void *data, size_t size, uint64_t region,
		       const struct snap_range *range,
		       struct snap_leaf *ret_leaf)
{
	const struct snap_disk_leaf *d = data;
	guint n, page = 0;

	if (size < sizeof(*d) || size > SNAP_DISK_LEAF_MAX)
		return -EBADMSG;
	n = snap_le16(d->n);
	if (!snap_disk_is_frame(&d->frame, SNAP_DISK_LEAF, size) ||
	    size != sizeof(*d) + n * sizeof(d->segments[0]) ||
	    snap_le32(d->region) != region ||
	    !all_zero(d->reserved, sizeof(d->reserved)))
		return -EBADMSG;
	for (guint i = 0; i < n; i++) {
		struct snap_segment *s = &ret_leaf->segments[i];
		int r = get_segment(&d->segments[i], page, range, s);

		if (r < 0)
			return r;
		page += s->count;
	}
	if (page != SNAP_REGION_PAGES)
		return -EBADMSG;
	ret_leaf->n = n;
	return snap_leaf_stored(ret_leaf) == range->pages ? 0 : -EBADMSG;
}
