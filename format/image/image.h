/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The snapshot file as the rest of the house sees it: a page space that is
 * written once (SnapWriter) and read at random (SnapReader).
 *
 * The page space holds blocks one after the other, each on a 2 MiB boundary:
 * guest RAM, then the device state; or a stream that was kept verbatim. Its
 * unit is the page (4096 bytes), its map is made of regions (512 pages).
 * ondisk.h is the format, and nobody outside this room sees it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "format/base/units.h"
#include "format/store/store.h"

#define SNAP_EXTENT_PAGES 16u
#define SNAP_EXTENT_BYTES (SNAP_EXTENT_PAGES * SNAP_PAGE)

/* ---- what a snapshot says of itself (meta.c) ---- */

enum snap_form {
	SNAP_FORM_CLASSIC = 1,	/* RAM and device state, apart */
	SNAP_FORM_VERBATIM = 2, /* the stream as it came */
	SNAP_FORM_MAPPED = 3,	/* as classic; saved as mapped-ram */
};

enum snap_block_kind {
	SNAP_BLOCK_RAM = 1,
	SNAP_BLOCK_STATE = 2,
	SNAP_BLOCK_STREAM = 3,
	SNAP_BLOCK_PREAMBLE = 4, /* what stands before QEMU's stream; may be
				  * missing */
};

/* A run of the page space that has a name; lengths and places in bytes. */
struct snap_block {
	enum snap_block_kind kind;
	char name[256];
	uint64_t base; /* where it begins; a multiple of 2 MiB */
	uint64_t length;
	uint64_t stored; /* bytes in pages that are not zero; the writer counts
			  * them */
	uint64_t page_size;
	uint64_t gpa;
	bool ignored; /* its memory is not here, but in a shared file */
};

/* The properties of a snapshot. */
struct snap_meta {
	enum snap_form form;
	uint8_t uuid[16];
	uint64_t created; /* ns since 1970 */
	char machine[256];
	char why[256]; /* why it is verbatim */
	/* what the classic stream is written again from */
	uint64_t pages_at;
	uint32_t ram_section;
	uint32_t target_page;
	bool footers;
	guint n_blocks;
	struct snap_block *blocks; /* in page-space order */
};

/* "classic", "verbatim" or "mapped-ram". */
const char *snap_form_name(enum snap_form form);

/* True when RAM and device state lie apart. */
static inline bool snap_meta_split(const struct snap_meta *meta)
{
	return meta->form != SNAP_FORM_VERBATIM;
}

/* Frees what `meta` holds. */
void snap_meta_clear(struct snap_meta *meta);

/* Appends a block behind the last one, on the next 2 MiB boundary. */
struct snap_block *snap_meta_add_block(struct snap_meta *meta,
				       enum snap_block_kind kind,
				       const char *name, uint64_t length);

/* The first block of that kind, or NULL. */
const struct snap_block *snap_meta_find(const struct snap_meta *meta,
					enum snap_block_kind kind);

/* The end of the last block of that kind in the page space (0 where there is
 * none): of RAM, the size of the `ram` file. */
uint64_t snap_meta_end(const struct snap_meta *meta, enum snap_block_kind kind);

/* Regions in the page space. */
uint64_t snap_meta_regions(const struct snap_meta *meta);

/* ---- frames (frame.c) ---- */

#define SNAP_LEVEL_DEFAULT 1
#define SNAP_LEVEL_MAX 19

/* A compressor and decompressor; one a thread. */
typedef struct SnapCodec SnapCodec;
SnapCodec *snap_codec_new(int level);
void snap_codec_free(SnapCodec *codec);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapCodec, snap_codec_free)

/* The most bytes that an extent may take compressed, at any level. */
#define SNAP_EXTENT_BOUND (SNAP_EXTENT_BYTES + SNAP_EXTENT_BYTES / 128 + 1024)

/* Compresses `pages` pages into one zstd frame; returns its size. `ret` holds
 * SNAP_EXTENT_BOUND bytes. -ENOMEM. */
ssize_t snap_codec_compress(SnapCodec *codec, const void *data, guint pages,
			    void *ret);

/* Decompresses a frame that holds exactly `pages` pages. -EBADMSG. */
int snap_codec_decompress(SnapCodec *codec, const void *frame, size_t size,
			  void *ret, guint pages);

/* ---- the map (map.c) ---- */

enum snap_segment_kind {
	SNAP_SEGMENT_ZERO = 0,
	SNAP_SEGMENT_FILL = 1,
	SNAP_SEGMENT_EXTENT = 2,
};

/* A run of pages within a region. */
struct snap_segment {
	enum snap_segment_kind kind;
	uint16_t page;	/* first page, within the region */
	uint16_t count; /* pages */
	uint8_t fill;
	uint8_t first;	 /* page within the extent that the run begins with */
	uint8_t pages;	 /* in the extent */
	uint64_t offset; /* of the extent in the file */
	uint32_t length; /* of the extent, compressed */
	uint32_t crc32c; /* of the extent, compressed */
};

/* A region's runs in page order; together they are all its 512 pages. */
struct snap_leaf {
	guint n;
	struct snap_segment segments[SNAP_REGION_PAGES];
};

/* Names a leaf, or a node of leaves. */
struct snap_entry {
	uint64_t offset; /* length 0: all pages below are zero */
	uint32_t length;
	uint32_t crc32c;
	uint32_t stored; /* pages below that are not zero */
};

#define SNAP_NODE_ENTRIES 512u

/* The leaves of up to 512 regions. */
struct snap_node {
	guint n;
	struct snap_entry entries[SNAP_NODE_ENTRIES];
};

/* ---- reading (reader.c) ---- */

/* A snapshot file open to be read. It holds the properties and the top, and
 * caches nothing else: every call below reads the file. Any thread. */
typedef struct SnapReader SnapReader;

/* Opens a snapshot and checks what opening needs (trailer, superblock,
 * properties, top); takes `file` over, also on failure. -ENODATA without a
 * valid end, -EBADMSG damaged, -EOPNOTSUPP a feature or version we do not know
 * (increments among them), -errno. */
int snap_reader_open(SnapFile *file, SnapReader **ret_reader, GError **error);
void snap_reader_free(SnapReader *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapReader, snap_reader_free)

/* What the snapshot says of itself; owned by the reader. */
const struct snap_meta *snap_reader_meta(const SnapReader *r);

/* Bytes of the snapshot file. */
uint64_t snap_reader_file_size(const SnapReader *r);

/* Bytes read from the file so far. */
uint64_t snap_reader_bytes_read(const SnapReader *r);

/* The top: an entry for each node, `*ret_n` of them. */
const struct snap_entry *snap_reader_top(const SnapReader *r, guint *ret_n);

/* Reads node `index`; one of zeros reads no byte. -EBADMSG, -EOPNOTSUPP,
 * -errno. */
int snap_reader_node(SnapReader *r, guint index, struct snap_node *ret_node);

/* Reads the leaf of `region` that `entry` names; where that names none, a run
 * of zeros. -EBADMSG, -EOPNOTSUPP, -errno. */
int snap_reader_leaf(SnapReader *r, uint64_t region,
		     const struct snap_entry *entry,
		     struct snap_leaf *ret_leaf);

/* Reads and decompresses the extent of a segment: all its pages, to `ret`.
 * -EBADMSG, -errno. */
int snap_reader_extent(SnapReader *r, const struct snap_segment *segment,
		       SnapCodec *codec, void *ret);

/* ---- writing (writer.c, compact.c) ---- */

/* A snapshot being written. Calls come one at a time, from any thread. */
typedef struct SnapWriter SnapWriter;

struct snap_writer_opts {
	SnapFile *file;	     /* the new file; taken over */
	SnapFile *scratch;   /* the map's overflow; taken over */
	uint64_t map_memory; /* bytes the map may hold; 0: 4 MiB */
	const uint8_t *uuid; /* 16 bytes; NULL: a random one */
};

/* Begins the file. */
int snap_writer_new(const struct snap_writer_opts *opts,
		    SnapWriter **ret_writer, GError **error);

/* Without a commit, nothing remains. */
void snap_writer_free(SnapWriter *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapWriter, snap_writer_free)

/* Appends an extent: a frame of `size` bytes that holds `n` pages of `region`,
 * which are `pages` (within the region, ascending). They replace what the map
 * said of them. -EINVAL, -errno; after an error of the file every further call
 * says the same. */
int snap_writer_extent(SnapWriter *w, uint64_t region, const uint16_t *pages,
		       guint n, const void *frame, size_t size);

/* Says that `count` pages from `page` on (in the page space) are all `fill`.
 * -errno. */
int snap_writer_fill(SnapWriter *w, uint64_t page, uint64_t count,
		     uint8_t fill);

/* What has become of the bytes so far. */
struct snap_writer_stats {
	uint64_t written; /* bytes appended */
	uint64_t dead;	  /* of those, in pages that came again later */
	uint64_t stored;  /* pages in extents now, repeats not counted */
};
struct snap_writer_stats snap_writer_stats(const SnapWriter *w);

/* Moves what is alive into `fresh`, region by region, and drops the old file.
 * `fresh` is taken over, also on failure. -errno, and then the writer is of no
 * more use. */
int snap_writer_compact(SnapWriter *w, SnapFile *fresh, SnapCodec *codec,
			GError **error);

/* Writes the map, the properties and the trailer, makes it all durable in that
 * order, and publishes the file as `name` in the folder `dirfd`. The writer
 * counts the blocks' `stored`, and fills in meta->uuid. -EINVAL where `meta`
 * and the pages contradict each other, -errno; then nothing was published (but
 * when the folder cannot be synced after the renaming: then the name stands,
 * and may be gone after a crash). */
int snap_writer_commit(SnapWriter *w, struct snap_meta *meta, int dirfd,
		       const char *name, GError **error);

/* ---- checking (verify.c) ---- */

/* Called with the bytes checked so far and in all; false stops. */
typedef bool (*snap_verify_progress)(uint64_t done, uint64_t all, void *data);

/* Checks every byte of the file and everything that hangs together in it: the
 * sums, the map's structure, every frame's content. -EBADMSG with a sentence
 * that names the offset, -ECANCELED, -errno. */
int snap_verify(SnapReader *r, snap_verify_progress progress, void *data,
		GError **error);
