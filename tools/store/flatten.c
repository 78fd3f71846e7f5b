/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapfs flatten: makes an increment stand alone.
 *
 * All pages are written to a new file, which then replaces the old one. It has
 * a uuid of its own. A rewritten preamble belongs to the old file's uuid, so it
 * goes into the new file, where a crash cannot part them.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "fs/catalog/catalog.h"
#include "tools/cli/print.h"
#include "tools/cli/progress.h"
#include "tools/cli/signals.h"
#include "tools/store/place.h"
#include "tools/store/verbs.h"

/* A snapshot that is made to stand alone is to be kept. */
#define LEVEL 3

struct flattening {
	SnapReader *reader;
	SnapWriter *writer;
	SnapCodec *codec;
	GBytes *preamble; /* rewritten, or NULL */
	uint64_t preamble_base;
	int signals;
	uint64_t region;
	/* pages of the region that wait to be written */
	guint n;
	uint16_t pages[SNAP_EXTENT_PAGES];
	uint8_t bytes[SNAP_EXTENT_BYTES];
	struct snap_segment loaded; /* the run whose extent is in `extent` */
	uint8_t extent[SNAP_EXTENT_BYTES];
	uint8_t frame[SNAP_EXTENT_BOUND];
	char *why; /* what could not be read, and where; NULL: nothing */
};

/* Notes what could not be read (r < 0), and where it lies. Returns r. */
static int note(struct flattening *f, const char *what, guint layer,
		uint64_t offset, int r)
{
	char uuid[SNAP_UUID_TEXT] = "";

	if (r == 0 || f->why)
		return r;
	if (layer)
		snap_uuid_text(
			snap_reader_meta(f->reader)->layers[layer - 1].uuid,
			uuid);
	f->why = g_strdup_printf("%s at byte %" PRIu64 " of its %s%s: %s", what,
				 offset, layer ? "parent " : "snapshot file",
				 uuid,
				 r == -EBADMSG ? "damaged" : g_strerror(-r));
	return r;
}

/* ---- pages ---- */

static int put_pages(struct flattening *f)
{
	ssize_t size;
	guint n = f->n;

	if (!n)
		return 0;
	f->n = 0;
	size = snap_codec_compress(f->codec, f->bytes, n, f->frame);
	return size < 0 ? (int)size
			: snap_writer_extent(f->writer, f->region, f->pages, n,
					     f->frame, (size_t)size);
}

static int put_page(struct flattening *f, guint page, const uint8_t *data)
{
	f->pages[f->n] = (uint16_t)page;
	memcpy(f->bytes + (size_t)f->n * SNAP_PAGE, data, SNAP_PAGE);
	f->n++;
	return f->n == SNAP_EXTENT_PAGES ? put_pages(f) : 0;
}

static int load(struct flattening *f, const struct snap_segment *s)
{
	int r = 0;

	if (f->loaded.length && f->loaded.layer == s->layer &&
	    f->loaded.offset == s->offset)
		return 0;
	f->loaded.length = 0;
	r = note(f, "extent", s->layer, s->offset,
		 snap_reader_extent(f->reader, s, f->codec, f->extent));
	if (r == 0)
		f->loaded = *s;
	return r;
}

static int put_run(struct flattening *f, const struct snap_segment *s)
{
	int r;

	if (s->kind == SNAP_SEGMENT_ZERO)
		return 0;
	if (s->kind == SNAP_SEGMENT_FILL)
		return snap_writer_fill(f->writer,
					f->region * SNAP_REGION_PAGES + s->page,
					s->count, s->fill);
	r = load(f, s);
	for (guint i = 0; r == 0 && i < s->count; i++)
		r = put_page(f, s->page + i,
			     f->extent + (size_t)(s->first + i) * SNAP_PAGE);
	return r;
}

static int put_region(struct flattening *f, uint64_t region,
		      const struct snap_entry *e)
{
	struct snap_leaf leaf;
	int r = note(f, "map leaf", 0, e->offset,
		     snap_reader_leaf(f->reader, region, e, &leaf));

	f->region = region;
	for (guint i = 0; r == 0 && i < leaf.n; i++)
		r = put_run(f, &leaf.segments[i]);
	return r == 0 ? put_pages(f) : r;
}

static int put_preamble(struct flattening *f)
{
	gsize size;
	const uint8_t *data = g_bytes_get_data(f->preamble, &size);
	int r = 0;

	for (gsize at = 0; r == 0 && at < size; at += SNAP_PAGE) {
		uint8_t page[SNAP_PAGE] = { 0 };
		uint64_t to = f->preamble_base + at;

		if (to / SNAP_REGION != f->region) {
			r = put_pages(f);
			f->region = to / SNAP_REGION;
		}
		memcpy(page, data + at, MIN(size - at, SNAP_PAGE));
		if (r == 0)
			r = put_page(f, (guint)(to % SNAP_REGION / SNAP_PAGE),
				     page);
	}
	return r == 0 ? put_pages(f) : r;
}

/* Does the region hold the older bytes of a rewritten preamble? It lies behind
 * all else. */
static bool is_rewritten(const struct flattening *f, uint64_t region)
{
	return f->preamble && region >= f->preamble_base / SNAP_REGION;
}

static int put_node(struct flattening *f, guint index,
		    const struct snap_entry *e)
{
	g_autofree struct snap_node *node = g_new(struct snap_node, 1);
	int r = note(f, "map node", 0, e->offset,
		     snap_reader_node(f->reader, index, node));

	for (guint i = 0; r == 0 && i < node->n; i++) {
		uint64_t region = (uint64_t)index * SNAP_NODE_ENTRIES + i;

		if (!is_rewritten(f, region))
			r = put_region(f, region, &node->entries[i]);
		if (r == 0)
			r = snap_signals_take(f->signals);
	}
	return r;
}

/* Writes all pages: 0, a signal, or -errno. */
static int put_all(struct flattening *f, const char *name, GError **error)
{
	g_autoptr(SnapProgress) progress = snap_progress_new(name);
	guint n;
	const struct snap_entry *top = snap_reader_top(f->reader, &n);
	int r = 0;

	for (guint i = 0; r == 0 && i < n; i++) {
		r = put_node(f, i, &top[i]);
		snap_progress_show(progress, i + 1, n);
	}
	if (r == 0 && f->preamble)
		r = put_preamble(f);
	if (r < 0 && f->why)
		return snap_fail(error, -r, "%s: %s", name, f->why);
	return r < 0 ? snap_fail_errno(error, -r, "%s", name) : r;
}

/* ---- the snapshot ---- */

/* Opens the snapshot and what belongs to it. */
static int open_old(struct flattening *f, SnapCatalog *c, int folder_fd,
		    struct snap_meta *meta, GError **error)
{
	const struct snap_block *b;
	int r = snap_catalog_find_whole(c, folder_fd, &f->reader, error);

	if (r < 0)
		return r;
	*meta = *snap_reader_meta(f->reader);
	meta->blocks = g_memdup2(meta->blocks,
				 meta->n_blocks * sizeof(meta->blocks[0]));
	r = snap_catalog_preamble_read(folder_fd, meta->uuid, &f->preamble,
				       error);
	if (r < 0 || !f->preamble)
		return r;
	b = snap_meta_find(meta, SNAP_BLOCK_PREAMBLE);
	if (!b)
		b = snap_meta_add_block(meta, SNAP_BLOCK_PREAMBLE, "before",
					g_bytes_get_size(f->preamble));
	else if (b->length != g_bytes_get_size(f->preamble))
		return snap_fail(error, EBADMSG,
				 SNAP_CATALOG_PREAMBLE
				 ": its length is not that of the preamble");
	f->preamble_base = b->base;
	return 0;
}

static int create(struct flattening *f, SnapCatalog *c, const char *path,
		  int folder_fd, GError **error)
{
	struct snap_writer_opts opts = { 0 };
	struct snap_catalog_owner owner;
	struct snap_file_id read;
	struct stat st;
	int r = snap_reader_identify(f->reader, 0, &read);

	if (r < 0)
		return snap_fail_errno(error, -r, SNAP_CATALOG_SNAPSHOT);
	if (fstatat(folder_fd, SNAP_CATALOG_SNAPSHOT, &st,
		    AT_SYMLINK_NOFOLLOW) < 0)
		return snap_fail_errno(error, errno, SNAP_CATALOG_SNAPSHOT);
	/* Another one may have come in its place, of another owner. */
	if (st.st_dev != read.device || st.st_ino != read.inode)
		return snap_fail(error, ESTALE, "it was replaced");
	owner = (struct snap_catalog_owner){ .uid = st.st_uid,
					     .gid = st.st_gid,
					     .mode = st.st_mode & 0777 };
	r = snap_catalog_create(c, path, &owner, &opts.file, &opts.scratch,
				error);
	return r < 0 ? r : snap_writer_new(&opts, &f->writer, error);
}

static int rewrite(struct flattening *f, SnapCatalog *c, const char *path,
		   int folder_fd, struct snap_meta *meta, GError **error)
{
	int r = create(f, c, path, folder_fd, error);

	if (r == 0)
		r = put_all(f, path, error);
	if (r == 0)
		r = snap_writer_commit(f->writer, meta, folder_fd,
				       SNAP_CATALOG_SNAPSHOT, error);
	if (r == 0 && f->preamble)
		snap_catalog_preamble_drop(folder_fd);
	return r;
}

static int flatten(SnapCatalog *c, const SnapPlace *place, const char *path,
		   GError **error)
{
	g_autofree char *name = snap_place_title(place, path);
	g_autofree struct flattening *f = g_new0(struct flattening, 1);
	snap_autofd int fd = snap_place_folder(c, path, error);
	struct snap_meta meta = { 0 };
	int r = fd;

	f->signals = snap_signals_hold();
	f->codec = snap_codec_new(LEVEL);
	if (r >= 0)
		r = open_old(f, c, fd, &meta, error);
	if (r == -ENOENT) {
		g_clear_error(error);
		r = snap_place_no_snapshot(c, path, error);
	} else if (r < 0) {
		snap_fail_prefix(error, r, "%s", name);
	} else if (meta.n_layers) {
		r = rewrite(f, c, path, fd, &meta, error);
	} else {
		printf("%s: stands alone already\n", name);
	}
	snap_writer_free(f->writer);
	snap_reader_free(f->reader);
	snap_codec_free(f->codec);
	g_clear_pointer(&f->preamble, g_bytes_unref);
	g_free(f->why);
	snap_meta_clear(&meta);
	return r;
}

/* Removes the files that the snapshot was the last to use. The snapshot stands
 * alone in any case. */
static void collect(SnapCatalog *c)
{
	g_autoptr(GError) error = NULL;

	if (snap_catalog_collect(c, &error) < 0)
		snap_print_error("flatten: files that no snapshot uses any "
				 "more stay in the store for now: %s",
				 error->message);
}

/* Is there a snapshot? To open a store to write makes folders in it. */
static int check_there(const SnapPlace *place, const char *path, GError **error)
{
	g_autoptr(SnapCatalog) c = NULL;
	snap_autofd int fd = -1;
	struct stat st;
	int r = snap_place_open(place, &c, error);

	if (r < 0)
		return r;
	fd = snap_place_folder(c, path, NULL);
	if (fd == -ENOENT || (fd >= 0 && fstatat(fd, SNAP_CATALOG_SNAPSHOT, &st,
						 AT_SYMLINK_NOFOLLOW) < 0))
		return snap_place_no_snapshot(c, path, error);
	return 0;
}

static int run(char **arguments, guint n, GError **error)
{
	g_autoptr(SnapPlace) place = NULL;
	g_autoptr(SnapCatalog) catalog = NULL;
	g_autofree char *path = NULL;
	g_autofree char *holder = NULL;
	int r = snap_place_find(arguments[0], &place, error);

	if (r < 0)
		return r;
	path = snap_place_path(place, arguments[1]);
	r = check_there(place, path, error);
	if (r < 0)
		return r;
	holder = g_strconcat("snapfs flatten of ", path, NULL);
	r = snap_catalog_open(place->store, false, holder, &catalog, error);
	if (r == 0)
		r = flatten(catalog, place, path, error);
	if (r == 0)
		collect(catalog);
	return r <= 0 ? r
		      : snap_signals_exit(
				r, "flatten: interrupted, nothing was changed",
				error);
}

const struct snap_verb snap_verb_flatten = {
	.name = "flatten",
	.arguments = "STORE NAME",
	.min_arguments = 2,
	.max_arguments = 2,
	.summary = "make an increment stand alone",
	.help = "Writes the snapshot NAME anew, with all pages that it has in "
		"the files of other\nsnapshots, and replaces it. The store "
		"must not be mounted.",
	.run = run,
};
