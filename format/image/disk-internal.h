/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Converts between the structs of ondisk.h and those of the rest of the room.
 * All data from a file passes through here, and every value is checked against
 * its range.
 */
#pragma once

#include "format/image/image.h"
#include "format/image/ondisk.h"

/* The fields of a superblock. */
struct snap_superblock {
	uint64_t incompat;
	uint8_t uuid[16];
};

/* The fields of a trailer. */
struct snap_trailer {
	uint8_t uuid[16];
	uint64_t file_size;
	uint64_t regions;
	struct snap_entry top;
	struct snap_entry properties;
	uint32_t body_crc32c;
	uint32_t crc32c; /* of the trailer itself; snap_disk_get_trailer() */
};

/* The limits of the entries in a frame. */
struct snap_range {
	uint64_t end; /* the end of the frames: the offset of the trailer */
	/* in which segments may lie; NULL: in no parent */
	const struct snap_meta *parents;
	/* the most pages below an entry; in a leaf, the exact number */
	uint32_t pages;
};

/* The number of nodes for that many regions. */
static inline guint snap_disk_nodes(uint64_t regions)
{
	return (guint)snap_div_up(regions, SNAP_NODE_ENTRIES);
}

/* The number of entries in node `index`. */
static inline guint snap_disk_node_entries(uint64_t regions, guint index)
{
	uint64_t first = (uint64_t)index * SNAP_NODE_ENTRIES;

	return (guint)MIN(regions - first, SNAP_NODE_ENTRIES);
}

#define SNAP_DISK_REGIONS_MAX                                                  \
	((uint64_t)SNAP_DISK_NODES_MAX * SNAP_DISK_NODE_ENTRIES)

/* Fills in the header of a frame of `size` bytes. */
void snap_disk_put_frame(struct snap_disk_frame *ret, const char *kind,
			 size_t size);

/* True when this is the header of a frame of that kind and size. */
bool snap_disk_is_frame(const struct snap_disk_frame *f, const char *kind,
			size_t size);

/* Writes a superblock; `incompat` is SNAP_INCOMPAT_LAYERS or 0. */
void snap_disk_put_superblock(const uint8_t *uuid, uint64_t incompat,
			      struct snap_disk_superblock *ret);

/* Reads a superblock. Returns 0, -EBADMSG, or -EOPNOTSUPP for an unknown
 * version or feature. */
int snap_disk_get_superblock(const struct snap_disk_superblock *d,
			     struct snap_superblock *ret, GError **error);

/* Writes a trailer. */
void snap_disk_put_trailer(const struct snap_trailer *t,
			   struct snap_disk_trailer *ret);

/* Reads a trailer. `file_size` is the size of the file in bytes. Returns 0,
 * -ENODATA where this is not a trailer, -EBADMSG or -EOPNOTSUPP. */
int snap_disk_get_trailer(const struct snap_disk_trailer *d, uint64_t file_size,
			  struct snap_trailer *ret, GError **error);

/* Writes a node, or the top, with `n` entries to `ret`, which holds
 * snap_disk_node_size(n) bytes. */
void snap_disk_put_node(const char *kind, guint index,
			const struct snap_entry *entries, guint n, void *ret);

/* Reads a node, or the top, which must have `n` entries with at most
 * `range->pages` pages each. Returns 0 or -EBADMSG. */
int snap_disk_get_node(const void *data, const char *kind, guint index, guint n,
		       const struct snap_range *range,
		       struct snap_entry *ret_entries);

/* The size of a node, or the top, with `n` entries in bytes. */
static inline size_t snap_disk_node_size(guint n)
{
	return sizeof(struct snap_disk_node) +
	       (size_t)n * sizeof(struct snap_disk_entry);
}

#define SNAP_DISK_LEAF_MAX                                                     \
	(sizeof(struct snap_disk_leaf) +                                       \
	 SNAP_DISK_LEAF_SEGMENTS * sizeof(struct snap_disk_segment))

/* Writes a leaf to `ret`, which holds SNAP_DISK_LEAF_MAX bytes. Returns its
 * size in bytes. */
size_t snap_disk_put_leaf(uint64_t region, const struct snap_leaf *leaf,
			  void *ret);

/* Reads the leaf of `region`. Returns 0 or -EBADMSG. */
int snap_disk_get_leaf(const void *data, size_t size, uint64_t region,
		       const struct snap_range *range,
		       struct snap_leaf *ret_leaf);
