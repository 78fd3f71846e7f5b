/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between the two worlds: the structs of ondisk.h, and those that the rest of
 * the room works with. What comes from a file goes through here, and nothing
 * gets past that is out of its range.
 */
#pragma once

#include "format/image/image.h"
#include "format/image/ondisk.h"

/* What the superblock says. */
struct snap_superblock {
	uint64_t incompat;
	uint8_t uuid[16];
};

/* What the trailer says. */
struct snap_trailer {
	uint8_t uuid[16];
	uint64_t file_size;
	uint64_t regions;
	struct snap_entry top;
	struct snap_entry properties;
	uint32_t body_crc32c;
};

/* Where frames may lie, and how many pages may hang below an entry. */
struct snap_range {
	uint64_t end;	/* of the frames: where the trailer begins */
	uint32_t pages; /* at most below an entry; in a leaf, exactly */
};

/* Nodes that it takes for that many regions. */
static inline guint snap_disk_nodes(uint64_t regions)
{
	return (guint)snap_div_up(regions, SNAP_NODE_ENTRIES);
}

/* Entries of node `index`. */
static inline guint snap_disk_node_entries(uint64_t regions, guint index)
{
	uint64_t first = (uint64_t)index * SNAP_NODE_ENTRIES;

	return (guint)MIN(regions - first, SNAP_NODE_ENTRIES);
}

#define SNAP_DISK_REGIONS_MAX                                                  \
	((uint64_t)SNAP_DISK_NODES_MAX * SNAP_DISK_NODE_ENTRIES)

/* Fills in the head of a frame of `size` bytes. */
void snap_disk_put_frame(struct snap_disk_frame *ret, const char *kind,
			 size_t size);

/* True when it is the head of a frame of that kind and size. */
bool snap_disk_is_frame(const struct snap_disk_frame *f, const char *kind,
			size_t size);

/* Writes a superblock. */
void snap_disk_put_superblock(const uint8_t *uuid,
			      struct snap_disk_superblock *ret);

/* -EBADMSG, or -EOPNOTSUPP for a version or feature that we do not know; the
 * layers' bit is left to the caller, who knows the parent's name. */
int snap_disk_get_superblock(const struct snap_disk_superblock *d,
			     struct snap_superblock *ret, GError **error);

/* Writes a trailer. */
void snap_disk_put_trailer(const struct snap_trailer *t,
			   struct snap_disk_trailer *ret);

/* `file_size` is what the file has. -ENODATA where this is no end of a
 * snapshot, -EBADMSG, -EOPNOTSUPP. */
int snap_disk_get_trailer(const struct snap_disk_trailer *d, uint64_t file_size,
			  struct snap_trailer *ret, GError **error);

/* Writes a node (or the top, which is one) of `n` entries to `ret`, which holds
 * snap_disk_node_size(n) bytes. */
void snap_disk_put_node(const char *kind, guint index,
			const struct snap_entry *entries, guint n, void *ret);

/* Reads a node (or the top) that must have `n` entries, each with up to
 * `range->pages` pages. -EBADMSG, -EOPNOTSUPP. */
int snap_disk_get_node(const void *data, const char *kind, guint index, guint n,
		       const struct snap_range *range,
		       struct snap_entry *ret_entries);

/* Bytes of a node (or the top) of `n` entries. */
static inline size_t snap_disk_node_size(guint n)
{
	return sizeof(struct snap_disk_node) +
	       (size_t)n * sizeof(struct snap_disk_entry);
}

#define SNAP_DISK_LEAF_MAX                                                     \
	(sizeof(struct snap_disk_leaf) +                                       \
	 SNAP_DISK_LEAF_SEGMENTS * sizeof(struct snap_disk_segment))

/* Writes a leaf to `ret`, which holds SNAP_DISK_LEAF_MAX bytes; its size. */
size_t snap_disk_put_leaf(uint64_t region, const struct snap_leaf *leaf,
			  void *ret);

/* Reads the leaf of `region`. -EBADMSG, -EOPNOTSUPP. */
int snap_disk_get_leaf(const void *data, size_t size, uint64_t region,
		       const struct snap_range *range,
		       struct snap_leaf *ret_leaf);
