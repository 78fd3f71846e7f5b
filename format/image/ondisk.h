/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The snapshot file, byte by byte; snapfs-format(5) describes it in prose.
 *
 *	superblock | extents, leaves, nodes, top, properties | trailer
 *
 * The file is a valid zstd file: an extent is an ordinary zstd frame,
 * everything else is in skippable frames. The file is read from its end: the
 * trailer refers to top and properties, the top to the nodes, a node to 512
 * leaves, a leaf to the extents of a region's pages. Each reference has the
 * CRC-32C of its target, so all bytes are checked before they are used, and the
 * trailer has the CRC-32C of all bytes before it.
 *
 * All integers are little-endian. "Reserved" fields are written as zero and
 * refused otherwise. This header has no functions.
 *
 * History: version 1, the first.
 */
#pragma once

#include <assert.h>

#include "format/base/bytes.h"

/* zstd's magics for skippable frames are 0x184D2A50 to 0x184D2A5F (zstd
 * compression format, 3.1.2). snapfs uses this one. */
#define SNAP_DISK_SKIPPABLE 0x184D2A57u
#define SNAP_DISK_VERSION 1u

#define SNAP_DISK_MAGIC "SNAPFS\r\n"	/* 8 bytes, in the superblock */
#define SNAP_DISK_END_MAGIC "SNAPEND\n" /* the file's last 8 bytes */

/* Features that a reader must know to read the file. */
#define SNAP_INCOMPAT_LAYERS ((uint64_t)1 << 0) /* may refer to parents */
#define SNAP_INCOMPAT_KNOWN SNAP_INCOMPAT_LAYERS /* what this program reads */

/* What a skippable frame holds: four letters after its header. */
#define SNAP_DISK_SUPERBLOCK "SUPR"
#define SNAP_DISK_LEAF "LEAF"
#define SNAP_DISK_NODE "NODE"
#define SNAP_DISK_TOP "TOP "
#define SNAP_DISK_PROPERTIES "PROP"
#define SNAP_DISK_TRAILER "TRLR"

/* Begins every skippable frame. */
struct snap_disk_frame {
	le32 skippable; /* SNAP_DISK_SKIPPABLE */
	le32 size;	/* of what follows these 8 bytes */
	uint8_t kind[4];
};
static_assert(sizeof(struct snap_disk_frame) == 12, "frame");

/* The first bytes of the file. */
struct snap_disk_superblock {
	struct snap_disk_frame frame;
	uint8_t magic[8];
	le32 version;
	le64 incompat; /* unknown bit: refuse */
	le64 compat;   /* unknown bit: ignore */
	uint8_t uuid[16];
	uint8_t reserved[4];
	le32 crc32c; /* of the bytes above */
};
static_assert(sizeof(struct snap_disk_superblock) == 64, "superblock");
static_assert(offsetof(struct snap_disk_superblock, crc32c) == 60,
	      "superblock");

/* The place of a frame: bits 0 to 47 are its offset in the file, bits 48 to 63
 * the layer. Layer 0 is this file, layer n the nth parent in the properties.
 * Only an extent may lie in a parent. */
#define SNAP_DISK_WHERE_BITS 48

/* Refers to a frame and sums up the pages below it. All zero: every page below
 * is zero, and there is no frame. */
struct snap_disk_entry {
	le64 where;
	le32 length; /* of the whole frame */
	le32 crc32c; /* of the whole frame */
	le32 stored; /* pages below that are not zero */
	le32 reserved;
};
static_assert(sizeof(struct snap_disk_entry) == 24, "entry");

/* A node: the leaves of up to 512 regions (1 GiB). The top is the same with one
 * entry for each node. */
#define SNAP_DISK_NODE_ENTRIES 512u
#define SNAP_DISK_NODES_MAX 65536u /* format limit: 64 TiB of pages */
struct snap_disk_node {
	struct snap_disk_frame frame;
	le32 index; /* of the node; 0 in the top */
	le32 n;	    /* entries; in a node 1 to 512, all but the last have 512 */
	le32 reserved;
	struct snap_disk_entry entries[];
};
static_assert(sizeof(struct snap_disk_node) == 24, "node");

/* An extent is a zstd frame with its content size and checksum in it: up to 16
 * pages of one region, in page order. */
#define SNAP_DISK_EXTENT_PAGES 16u
#define SNAP_DISK_EXTENT_MAX (1u << 17) /* bytes compressed, format limit */

/* A run of pages in a region. */
#define SNAP_DISK_SEGMENT_ZERO 0u /* all else but count is zero */
#define SNAP_DISK_SEGMENT_FILL 1u /* every byte is `fill` */
#define SNAP_DISK_SEGMENT_EXTENT 2u
struct snap_disk_segment {
	le64 where;
	le32 length; /* of the extent, compressed */
	le32 crc32c; /* of the extent, compressed */
	le16 count;  /* pages in this run, 1 to 512 */
	uint8_t kind;
	uint8_t fill;
	le16 first; /* first page of the run, within the extent */
	le16 pages; /* in the extent, 1 to 16 */
};
static_assert(sizeof(struct snap_disk_segment) == 24, "segment");

/* A leaf: the runs of a region in page order; their counts add up to 512. */
#define SNAP_DISK_LEAF_SEGMENTS 512u
struct snap_disk_leaf {
	struct snap_disk_frame frame;
	le32 region;
	le16 n; /* 1 to 512 */
	uint8_t reserved[6];
	struct snap_disk_segment segments[];
};
static_assert(sizeof(struct snap_disk_leaf) == 24, "leaf");

/* Properties: the header of the frame, then one record after the other. */
#define SNAP_DISK_PROPERTIES_MAX (4u << 20) /* bytes, format limit */
struct snap_disk_property {
	le16 key;
	le16 reserved;
	le32 length; /* of the value, which follows */
};
static_assert(sizeof(struct snap_disk_property) == 8, "property");

/* Keys. A reader ignores an unknown key if its top bit is set, and refuses it
 * otherwise. */
#define SNAP_DISK_KEY_FORM                                                     \
	1u			/* le32: 1 classic, 2 verbatim, 3              \
				 * mapped-ram */
#define SNAP_DISK_KEY_BLOCK 2u	/* snap_disk_block; repeated, in order */
#define SNAP_DISK_KEY_STREAM 3u /* snap_disk_stream; not in form 2 */
/* 4 was kept for parents, and is in no file */
#define SNAP_DISK_KEY_LAYER 5u /* snap_disk_layer; repeated, in order */
#define SNAP_DISK_KEY_IGNORABLE 0x8000u
#define SNAP_DISK_KEY_MACHINE 0x8001u /* QEMU's machine type, text */
#define SNAP_DISK_KEY_CREATED 0x8002u /* le64: ns since 1970, UTC */
#define SNAP_DISK_KEY_WHY 0x8003u     /* why the stream is verbatim, text */

/* A block: a named run of the page space. The blocks lie one after the other,
 * each on a 2 MiB boundary, guest RAM first. */
#define SNAP_DISK_BLOCK_RAM 1u
#define SNAP_DISK_BLOCK_STATE 2u    /* devstate */
#define SNAP_DISK_BLOCK_STREAM 3u   /* a stream kept verbatim */
#define SNAP_DISK_BLOCK_PREAMBLE 4u /* stands before the stream; last */
#define SNAP_DISK_BLOCKS_MAX 8192u
/* The stream did not carry the block's memory: QEMU shares it with the QEMU
 * that loads the stream (x-ignore-shared, cpr modes). */
#define SNAP_DISK_BLOCK_IGNORED 1u
struct snap_disk_block {
	le64 base;	/* byte offset in the page space */
	le64 length;	/* bytes; the last page is padded with zeros */
	le64 stored;	/* bytes in pages that are not zero */
	le64 page_size; /* as QEMU listed it; 0 where it did not */
	le64 gpa;	/* guest-physical address; 0 where not listed */
	uint8_t kind;
	uint8_t flags;
	uint8_t reserved[5];
	uint8_t name_length;
	uint8_t name[];
};
static_assert(sizeof(struct snap_disk_block) == 48, "block");

/* What is needed to write the classic stream again. */
#define SNAP_DISK_STREAM_FOOTERS 1u
struct snap_disk_stream {
	le64 pages_at;	  /* offset of the pages in devstate */
	le32 ram_section; /* section id of RAM */
	le32 target_page; /* bytes, a power of two, 4096 to 65536 */
	le32 flags;	  /* SNAP_DISK_STREAM_FOOTERS */
	le32 reserved;
};
static_assert(sizeof(struct snap_disk_stream) == 24, "stream");

/* A parent: another snapshot file, some of whose extents this one uses. Of two
 * files with one uuid, size and sum are those of the right one. */
#define SNAP_DISK_LAYERS_MAX 8u
struct snap_disk_layer {
	uint8_t uuid[16];
	le64 size;   /* of the file in bytes */
	le64 used;   /* bytes of the extents that this snapshot uses */
	le32 crc32c; /* the one at the end of its trailer */
	le32 reserved;
};
static_assert(sizeof(struct snap_disk_layer) == 40, "layer");

/* The last 128 bytes of the file. */
struct snap_disk_trailer {
	struct snap_disk_frame frame;
	le32 version;
	uint8_t uuid[16];	    /* the superblock's */
	le64 file_size;		    /* bytes, this trailer included */
	le64 regions;		    /* in the page space */
	struct snap_disk_entry top; /* stored is 0 in both */
	struct snap_disk_entry properties;
	le32 body_crc32c; /* of all bytes before the trailer */
	uint8_t reserved[16];
	le32 crc32c;	  /* of the trailer's bytes above */
	uint8_t magic[8]; /* SNAP_DISK_END_MAGIC */
};
static_assert(sizeof(struct snap_disk_trailer) == 128, "trailer");
static_assert(offsetof(struct snap_disk_trailer, crc32c) == 116, "trailer");
