/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The snapshot file as the other rooms see it: a page space that is written
 * once (SnapWriter) and read at random (SnapReader).
 *
 * The page space holds blocks one after the other, each on a 2 MiB boundary:
 * guest RAM, then the device state; or a verbatim stream; then the preamble, if
 * there is one. Its unit is the page (4096 bytes), and its map is made of
 * regions (512 pages). ondisk.h is the format; only this room includes it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "format/base/units.h"
#include "format/store/store.h"

#define SNAP_EXTENT_PAGES 16u
#define SNAP_EXTENT_BYTES (SNAP_EXTENT_PAGES * SNAP_PAGE)

/* ---- the properties of a snapshot (meta.c) ---- */

enum snap_form {
	SNAP_FORM_CLASSIC = 1,	/* RAM and device state are separate */
	SNAP_FORM_VERBATIM = 2, /* the stream as it came */
	SNAP_FORM_MAPPED = 3,	/* like classic, but saved as mapped-ram */
};

enum snap_block_kind {
	SNAP_BLOCK_RAM = 1,
	SNAP_BLOCK_STATE = 2,
	SNAP_BLOCK_STREAM = 3,
	SNAP_BLOCK_PREAMBLE =
		4, /* what stands before QEMU's stream; may be missing */
};

/* A named run of the page space. Sizes and offsets in bytes. */
struct snap_block {
	enum snap_block_kind kind;
	char name[256];
	uint64_t base; /* offset in the page space; a multiple of 2 MiB */
	uint64_t length;
	uint64_t
		stored; /* in pages that are not zero; the writer counts them */
	uint64_t page_size;
	uint64_t gpa;
	/* its memory is not in the snapshot but in a shared file */
	bool ignored;
};

/* The most parents that a snapshot has. */
#define SNAP_LAYERS_MAX 8u

/* A parent: another snapshot file, some of whose extents this one uses. */
struct snap_layer {
	uint8_t uuid[16];
	uint64_t size;	 /* of the file in bytes */
	uint64_t used;	 /* bytes of the extents in use; the writer counts */
	uint32_t crc32c; /* of its trailer, which sums up all other bytes */
};

/* The properties of a snapshot. */
struct snap_meta {
	enum snap_form form;
	uint8_t uuid[16];
	uint64_t created; /* ns since 1970 */
	char machine[256];
	char why[256]; /* why the stream is verbatim */
	/* what is needed to write the classic stream again */
	uint64_t pages_at;
	uint32_t ram_section;
	uint32_t target_page;
	bool footers;
	guint n_blocks;
	struct snap_block *blocks; /* in page-space order */
	/* layer n of the map is layers[n - 1]; the writer fills them in */
	guint n_layers;
	struct snap_layer layers[SNAP_LAYERS_MAX];
};

/* Writes a uuid as text: 8-4-4-4-12 digits. */
#define SNAP_UUID_TEXT 37
void snap_uuid_text(const uint8_t uuid[16], char ret[SNAP_UUID_TEXT]);

/* The same as a new text; g_free. */
char *snap_uuid_dup(const uint8_t uuid[16]);

/* "classic", "verbatim" or "mapped-ram". */
const char *snap_form_name(enum snap_form form);

/* True when RAM and device state are separate. */
static inline bool snap_meta_split(const struct snap_meta *meta)
{
	return meta->form != SNAP_FORM_VERBATIM;
}

/* The uuids of the parents, one a line; NULL where there are none; g_free. */
char *snap_meta_parents(const struct snap_meta *meta);

/* Frees the fields of `meta`. */
void snap_meta_clear(struct snap_meta *meta);

/* Appends a block of `length` bytes after the last one, on the next 2 MiB
 * boundary. NULL where there is no memory. */
struct snap_block *snap_meta_add_block(struct snap_meta *meta,
				       enum snap_block_kind kind,
				       const char *name, uint64_t length);

/* Returns the first block of that kind, or NULL. */
const struct snap_block *snap_meta_find(const struct snap_meta *meta,
					enum snap_block_kind kind);

/* Returns the end of the last block of that kind in the page space in bytes, or
 * 0 where there is none. For RAM this is the size of the `ram` file. */
uint64_t snap_meta_end(const struct snap_meta *meta, enum snap_block_kind kind);

/* The number of regions in the page space. */
uint64_t snap_meta_regions(const struct snap_meta *meta);

/* ---- frames (frame.c) ---- */

/* zstd's levels that are in use here. Those below 0 are faster and pack less
 * (`--fast` in zstd(1)). zstd takes 0 for its own default, so no extent has
 * it. */
#define SNAP_LEVEL_MIN (-5)
#define SNAP_LEVEL_DEFAULT 1
#define SNAP_LEVEL_MAX 19

/* Tells zstd's version (format/base/version.h). */
char *snap_codec_library(void);

/* A compressor and decompressor; each thread needs its own. */
typedef struct SnapCodec SnapCodec;
SnapCodec *snap_codec_new(int level);
/* Sets the level of the extents that are compressed from now on. */
void snap_codec_set_level(SnapCodec *codec, int level);
void snap_codec_free(SnapCodec *codec);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapCodec, snap_codec_free)

/* The largest size of a compressed extent at any level, in bytes. */
#define SNAP_EXTENT_BOUND (SNAP_EXTENT_BYTES + SNAP_EXTENT_BYTES / 128 + 1024)

/* Compresses `pages` pages into one zstd frame in `ret`, which holds
 * SNAP_EXTENT_BOUND bytes. Returns the size of the frame in bytes, or
 * -ENOMEM. */
ssize_t snap_codec_compress(SnapCodec *codec, const void *data, guint pages,
			    void *ret);

/* Decompresses a frame that holds exactly `pages` pages. Returns 0 or
 * -EBADMSG. */
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
	uint8_t first;	 /* first page, within the extent */
	uint8_t pages;	 /* pages in the extent */
	uint8_t layer;	 /* the file of the extent; 0: the snapshot's own */
	uint64_t offset; /* of the extent in that file */
	uint32_t length; /* of the extent, compressed */
	uint32_t crc32c; /* of the extent, compressed */
};

/* The runs of a region in page order. Together they cover its 512 pages. */
struct snap_leaf {
	guint n;
	struct snap_segment segments[SNAP_REGION_PAGES];
};

/* The bytes of a leaf of `n` segments. */
static inline size_t snap_leaf_size(guint n)
{
	return offsetof(struct snap_leaf, segments) +
	       n * sizeof(struct snap_segment);
}

/* Refers to a leaf, or to a node of leaves. */
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

/* A snapshot file that is open for reading. It holds the properties and the top
 * and caches nothing else: every call below reads the file. Any thread may
 * call. */
typedef struct SnapReader SnapReader;

/* Opens a snapshot and checks what opening needs: trailer, superblock,
 * properties, top. It owns `file` from then on, also on failure. Returns 0,
 * -ENODATA without a valid trailer, -EBADMSG for damage, -EOPNOTSUPP for an
 * unknown feature or version, or -errno. Extents of a parent can be read once
 * its file was handed over with snap_reader_set_layer(). */
int snap_reader_open(SnapFile *file, SnapReader **ret_reader, GError **error);
void snap_reader_free(SnapReader *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapReader, snap_reader_free)

/* Hands over the file of parent `i` of the properties (from 0 on), before other
 * threads read. The reader owns `file` from then on, also on failure. Returns
 * 0, -EBADMSG where it is not the file that the snapshot was made from, or
 * -errno. */
int snap_reader_set_layer(SnapReader *r, guint i, SnapFile *file,
			  GError **error);

/* Tells which file a layer is, as snap_file_identify() does; -ENOLINK where it
 * was not handed over. */
int snap_reader_identify(const SnapReader *r, guint layer,
			 struct snap_file_id *ret_id);

/* Gives a file to read in the place of `file`, which it owns from then on; it
 * may be the same. `which` says what snapshot file it is. */
typedef SnapFile *(*snap_reader_wrapper)(void *data, SnapFile *file,
					 const struct snap_layer *which);
/* Replaces the file of a layer so, before other threads read. Does nothing
 * where it was not handed over. */
void snap_reader_wrap(SnapReader *r, guint layer, snap_reader_wrapper wrap,
		      void *data);

/* The snapshot as the parent of another one. */
struct snap_layer snap_reader_as_layer(const SnapReader *r);

/* The properties of the snapshot; owned by the reader. */
const struct snap_meta *snap_reader_meta(const SnapReader *r);

/* The size of the snapshot file in bytes. */
uint64_t snap_reader_file_size(const SnapReader *r);

/* The bytes read from the file so far. */
uint64_t snap_reader_bytes_read(const SnapReader *r);

/* The top: *ret_n entries, one per node; owned by the reader. */
const struct snap_entry *snap_reader_top(const SnapReader *r, guint *ret_n);

/* Reads node `index`. A node of zeros costs no read. Returns 0, -EBADMSG,
 * -EOPNOTSUPP or -errno. */
int snap_reader_node(SnapReader *r, guint index, struct snap_node *ret_node);

/* Bytes of the file that were read together, unchecked. */
struct snap_stretch {
	uint64_t offset; /* in the file */
	size_t size;
	const void *bytes;
};

/* Reads `size` bytes at `offset` of the file into `buf`, for a stretch. Returns
 * 0, -EBADMSG past the end of the file, or -errno. */
int snap_reader_stretch(SnapReader *r, uint64_t offset, size_t size, void *buf);

/* Reads the leaf of `region` to which `entry` refers. An empty entry gives a
 * run of zeros. Returns 0, -EBADMSG, -EOPNOTSUPP or -errno. */
int snap_reader_leaf(SnapReader *r, uint64_t region,
		     const struct snap_entry *entry,
		     struct snap_leaf *ret_leaf);

/* The same, but takes the leaf from `at` where that holds it. */
int snap_reader_leaf_at(SnapReader *r, const struct snap_stretch *at,
			uint64_t region, const struct snap_entry *entry,
			struct snap_leaf *ret_leaf);

/* The segments of the leaf to which an entry refers, by its length. */
guint snap_entry_segments(const struct snap_entry *entry);

/* No leaf in the file is longer, in bytes. */
#define SNAP_LEAF_MAX (16 * SNAP_KIB)

/* Says that these bytes of the file of a layer will be read soon. */
void snap_reader_expect(SnapReader *r, guint layer, uint64_t offset,
			uint64_t size);

/* Reads and decompresses the extent of a segment: all its pages, into `ret`.
 * Returns 0, -EBADMSG, -ENOLINK where it lies in a parent whose file was not
 * handed over, or -errno. */
int snap_reader_extent(SnapReader *r, const struct snap_segment *segment,
		       SnapCodec *codec, void *ret);

/* ---- writing (writer.c, share.c, compact.c) ---- */

/* A snapshot that is being written. Any thread may call, but only one at a
 * time. */
typedef struct SnapWriter SnapWriter;

struct snap_writer_opts {
	SnapFile *file; /* the new file; owned by the writer */
	/* for leaves that do not fit in memory; owned by the writer */
	SnapFile *scratch;
	uint64_t map_memory; /* bytes of memory for the map; 0: 4 MiB */
	const uint8_t *uuid; /* 16 bytes; NULL: a random one */
	/* Asked when all is on disk, right before the file gets its name;
	 * false: it shall not. NULL: it always may. */
	bool (*may_publish)(void *data);
	/* Called after each step of what takes long, by the thread that called
	 * snap_writer_commit() or snap_writer_compact(). May be NULL. */
	void (*step)(void);
	void *data;
};

/* Begins the file. Returns 0 or -errno. */
int snap_writer_new(const struct snap_writer_opts *opts,
		    SnapWriter **ret_writer, GError **error);

/* Ends the writer. Without a commit, the file is removed. */
void snap_writer_free(SnapWriter *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapWriter, snap_writer_free)

/* Appends an extent: a frame of `size` bytes with `n` pages of `region`.
 * `pages` are their numbers within the region, ascending. They replace older
 * content of these pages in the map. Returns 0, -EINVAL or -errno. After an
 * error of the file, all later calls return it. */
int snap_writer_extent(SnapWriter *w, uint64_t region, const uint16_t *pages,
		       guint n, const void *frame, size_t size);

/* To be called before the first extent if parents may be declared later: the
 * beginning of the file then says that it may have some. Older programs refuse
 * such a file, also if it has none in the end. After the first extent this does
 * nothing, and no parent can be declared. */
void snap_writer_expect_parents(SnapWriter *w);

/* Declares a parent: the file of the snapshot of `parent` (`layer` 0), or that
 * of its own parent `layer`. The reader must outlive the writer. *ret_layer
 * becomes the file's number. At the commit, parents that no page uses are left
 * out. Returns 0, -E2BIG where there are SNAP_LAYERS_MAX, or -EINVAL where the
 * first extent was written and the file does not say that it may have parents.
 */
int snap_writer_layer(SnapWriter *w, SnapReader *parent, guint layer,
		      uint8_t *ret_layer);

/* Says that the pages of a run of `region` lie in an extent of the parent
 * run->layer. They replace older content. Returns 0, -EINVAL or -errno. */
int snap_writer_share(SnapWriter *w, uint64_t region,
		      const struct snap_segment *run);

/* The most runs of a region that uses parents, as snap_leaf_runs() counts them.
 * One that has more is slow to read: snap_writer_unshare(). */
#define SNAP_SHARED_RUNS_MAX 64u

/* Counts the runs of pages that lie in extents. Pages that follow each other in
 * an extent are one run, also with zero pages between them. */
guint snap_leaf_runs(const struct snap_leaf *leaf);

/* Counts them for a region of a new snapshot. Returns 0 or -errno. */
int snap_writer_runs(SnapWriter *w, uint64_t region, guint *ret_runs);

/* Stores the pages of a region anew, in extents of the file's own that follow
 * the order of the pages. Returns 0, -EBADMSG or -errno. */
int snap_writer_unshare(SnapWriter *w, uint64_t region, SnapCodec *codec);

/* Says that all bytes of `count` pages from `page` on (in the page space) are
 * `fill`. Returns 0 or -errno. */
int snap_writer_fill(SnapWriter *w, uint64_t page, uint64_t count,
		     uint8_t fill);

/* Counters of the bytes so far. */
struct snap_writer_stats {
	uint64_t written; /* bytes appended */
	uint64_t dead; /* of those, bytes of pages that were replaced later */
	/* pages in extents, those of parents too; replaced ones do not count */
	uint64_t stored;
	/* the offset before which the file is known to be on disk */
	uint64_t on_disk;
};
struct snap_writer_stats snap_writer_stats(const SnapWriter *w);

/* Copies the live pages into `fresh`, region by region, and drops the old file.
 * It owns `fresh` from then on, also on failure. Returns 0, or -errno; then the
 * writer can only be freed. */
int snap_writer_compact(SnapWriter *w, SnapFile *fresh, SnapCodec *codec,
			GError **error);

/* Writes the map, the properties and the trailer, makes them durable in that
 * order, and publishes the file as `name` in the folder `dirfd`. The writer
 * fills in meta->uuid and the `stored` of the blocks. Returns 0, -EINVAL where
 * `meta` and the pages contradict each other, or -errno. After an error nothing
 * is published, and the file that had the name has it, except with -EUCLEAN:
 * then the name exists but may vanish in a crash. */
int snap_writer_commit(SnapWriter *w, struct snap_meta *meta, int dirfd,
		       const char *name, GError **error);

/* ---- checking (verify.c) ---- */

/* Called with the bytes checked so far and in total. Returning false stops the
 * check. */
typedef bool (*snap_verify_progress)(uint64_t done, uint64_t all, void *data);

/* The files whose bytes were found whole so far. */
typedef struct SnapVerified SnapVerified;
SnapVerified *snap_verified_new(void);
void snap_verified_free(SnapVerified *done);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapVerified, snap_verified_free)

/* Checks every byte of the file and of its parents: checksums, the structure of
 * the map, the content of every frame. Parents that are in `done` are not read
 * again, and the files that were read are added to it; it may be NULL. Returns
 * 0, -EBADMSG with a sentence that names the offset, -ENOLINK where a parent
 * was not handed over, -ECANCELED or -errno. */
int snap_verify(SnapReader *r, SnapVerified *done,
		snap_verify_progress progress, void *data, GError **error);
