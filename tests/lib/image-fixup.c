/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/lib/image-fixup.h"

#include <stdbool.h>
#include <string.h>

#include "format/base/crc32c.h"
#include "format/image/ondisk.h"

/* Bytes that may be summed up in all: places that overlap can name the same
 * bytes over and over. */
#define WORK_MAX (4u << 20)

struct fixup {
	uint8_t *bytes;
	size_t size;
	size_t work;
	const uint8_t *parent; /* or NULL */
	size_t parent_size;
};

/* The bytes that something names, or NULL. */
static uint8_t *named(struct fixup *f, le64 where, size_t length)
{
	uint64_t offset =
		snap_le64(where) & (((uint64_t)1 << SNAP_DISK_WHERE_BITS) - 1);

	if (offset > f->size || length > f->size - offset ||
	    length > WORK_MAX - f->work)
		return NULL;
	f->work += length;
	return f->bytes + offset;
}

/* The extent of a segment, or NULL. */
static const uint8_t *extent_of(struct fixup *f,
				const struct snap_disk_segment *s)
{
	uint64_t offset = snap_le64(s->where), layer = offset >> 48;
	size_t length = snap_le32(s->length);

	if (!layer)
		return named(f, s->where, length);
	offset &= ((uint64_t)1 << SNAP_DISK_WHERE_BITS) - 1;
	if (layer > 1 || offset > f->parent_size ||
	    length > f->parent_size - offset || length > WORK_MAX - f->work)
		return NULL;
	f->work += length;
	return f->parent + offset;
}

static void fix_leaf(struct fixup *f, uint8_t *frame, size_t length)
{
	struct snap_disk_segment s;

	for (size_t at = sizeof(struct snap_disk_leaf);
	     at + sizeof(s) <= length; at += sizeof(s)) {
		const uint8_t *extent;

		memcpy(&s, frame + at, sizeof(s));
		if (s.kind != SNAP_DISK_SEGMENT_EXTENT)
			continue;
		extent = extent_of(f, &s);
		if (!extent)
			continue;
		s.crc32c = snap_to_le32(
			snap_crc32c(0, extent, snap_le32(s.length)));
		memcpy(frame + at, &s, sizeof(s));
	}
}

static void fix_entry(struct fixup *f, struct snap_disk_entry *e,
		      void (*fix_below)(struct fixup *, uint8_t *, size_t))
{
	uint32_t length = snap_le32(e->length);
	uint8_t *frame = named(f, e->where, length);

	if (!frame || !length)
		return;
	if (fix_below)
		fix_below(f, frame, length);
	e->crc32c = snap_to_le32(snap_crc32c(0, frame, length));
}

static void fix_entries(struct fixup *f, uint8_t *frame, size_t length,
			void (*fix_below)(struct fixup *, uint8_t *, size_t))
{
	struct snap_disk_entry e;

	for (size_t at = sizeof(struct snap_disk_node);
	     at + sizeof(e) <= length; at += sizeof(e)) {
		memcpy(&e, frame + at, sizeof(e));
		fix_entry(f, &e, fix_below);
		memcpy(frame + at, &e, sizeof(e));
	}
}

static void fix_node(struct fixup *f, uint8_t *frame, size_t length)
{
	fix_entries(f, frame, length, fix_leaf);
}

static void fix_top(struct fixup *f, uint8_t *frame, size_t length)
{
	fix_entries(f, frame, length, fix_node);
}

static void fix_superblock(struct fixup *f)
{
	struct snap_disk_superblock d;

	memcpy(&d, f->bytes, sizeof(d));
	d.crc32c = snap_to_le32(snap_crc32c(
		0, &d, offsetof(struct snap_disk_superblock, crc32c)));
	memcpy(f->bytes, &d, sizeof(d));
}

/* Makes the first record of a parent right. */
static void fix_record(struct fixup *f, const struct snap_disk_trailer *d)
{
	uint32_t length = snap_le32(d->properties.length);
	uint8_t *frame = named(f, d->properties.where, length);
	struct snap_disk_property head;
	struct snap_disk_trailer end;
	struct snap_disk_layer layer;

	if (!frame || f->parent_size < sizeof(end))
		return;
	memcpy(&end, f->parent + f->parent_size - sizeof(end), sizeof(end));
	for (size_t at = sizeof(struct snap_disk_frame);
	     at + sizeof(head) + sizeof(layer) <= length;
	     at += sizeof(head) + snap_le32(head.length)) {
		memcpy(&head, frame + at, sizeof(head));
		if (snap_le16(head.key) != SNAP_DISK_KEY_LAYER)
			continue;
		memcpy(&layer, frame + at + sizeof(head), sizeof(layer));
		memcpy(layer.uuid, end.uuid, sizeof(layer.uuid));
		layer.size = end.file_size;
		layer.crc32c = end.crc32c;
		memcpy(frame + at + sizeof(head), &layer, sizeof(layer));
		return;
	}
}

void image_fixup(uint8_t *bytes, size_t size)
{
	image_fixup_child(bytes, size, NULL, 0);
}

void image_fixup_child(uint8_t *bytes, size_t size, const uint8_t *parent,
		       size_t parent_size)
{
	struct fixup f = { .bytes = bytes,
			   .parent = parent,
			   .parent_size = parent_size };
	struct snap_disk_trailer d;

	if (size < sizeof(struct snap_disk_superblock) + sizeof(d))
		return;
	f.size = size - sizeof(d);
	memcpy(&d, bytes + f.size, sizeof(d));
	fix_record(&f, &d);
	fix_entry(&f, &d.top, fix_top);
	fix_entry(&f, &d.properties, NULL);
	fix_superblock(&f);
	d.body_crc32c = snap_to_le32(snap_crc32c(0, bytes, f.size));
	d.crc32c = snap_to_le32(
		snap_crc32c(0, &d, offsetof(struct snap_disk_trailer, crc32c)));
	memcpy(bytes + f.size, &d, sizeof(d));
}
