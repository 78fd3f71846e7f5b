/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/lib/image-fixture.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <glib/gstdio.h>

#define STATE_SIZE 5000u

static void must(int r, const GError *error)
{
	if (r < 0)
		g_error("fixture: %s", error ? error->message : g_strerror(-r));
}

/* Pages of text-like bytes: they compress, and no two are alike. */
static void page_fill(uint8_t *page, GRand *rand)
{
	for (guint i = 0; i < SNAP_PAGE; i++)
		page[i] = i % 4 ? (uint8_t)('a' + i % 23)
				: (uint8_t)g_rand_int_range(rand, 0, 256);
}

/* Writes up to 16 pages of a region, from the reference, as one extent. */
static void put_extent(struct image_fixture *f, SnapWriter *w, SnapCodec *codec,
		       uint64_t region, const uint16_t *pages, guint n)
{
	uint8_t data[SNAP_EXTENT_BYTES];
	g_autofree uint8_t *frame = g_malloc(SNAP_EXTENT_BOUND);
	ssize_t size;

	if (!n)
		return;
	for (guint i = 0; i < n; i++)
		memcpy(data + (size_t)i * SNAP_PAGE,
		       f->bytes + region * SNAP_REGION +
			       (uint64_t)pages[i] * SNAP_PAGE,
		       SNAP_PAGE);
	size = snap_codec_compress(codec, data, n, frame);
	must((int)size, NULL);
	must(snap_writer_extent(w, region, pages, n, frame, (size_t)size),
	     NULL);
}

/* Invents a region's pages and writes those for which `wanted` of ten. */
static void put_region(struct image_fixture *f, SnapWriter *w, SnapCodec *codec,
		       uint64_t region, GRand *rand, int wanted)
{
	uint64_t first = region * SNAP_REGION_PAGES;
	uint16_t pages[SNAP_EXTENT_PAGES];
	guint n = 0;

	for (guint p = 0; p < SNAP_REGION_PAGES && first + p < f->pages; p++) {
		uint8_t *page = f->bytes + (first + p) * SNAP_PAGE;
		int kind = g_rand_int_range(rand, 0, 10);

		if (kind >= wanted)
			continue;
		if (kind == 0) {
			memset(page, 0xee, SNAP_PAGE);
			must(snap_writer_fill(w, first + p, 1, 0xee), NULL);
			continue;
		}
		page_fill(page, rand);
		pages[n++] = (uint16_t)p;
		if (n == SNAP_EXTENT_PAGES || kind == 1) {
			put_extent(f, w, codec, region, pages, n);
			n = 0;
		}
	}
	put_extent(f, w, codec, region, pages, n);
}

static void put_state(struct image_fixture *f, SnapWriter *w, SnapCodec *codec,
		      GRand *rand)
{
	static const uint16_t pages[2] = { 0, 1 };
	uint8_t *state = f->bytes + f->state_base;

	page_fill(state, rand);
	page_fill(state + SNAP_PAGE, rand);
	memset(state + STATE_SIZE, 0, 2 * SNAP_PAGE - STATE_SIZE);
	put_extent(f, w, codec, f->state_base / SNAP_REGION, pages, 2);
}

static void fixture_commit(struct image_fixture *f, SnapWriter *w)
{
	struct snap_meta meta = { .form = SNAP_FORM_CLASSIC,
				  .machine = "pc-q35-test",
				  .target_page = SNAP_PAGE,
				  .ram_section = 2,
				  .footers = true,
				  .pages_at = 100 };
	GError *error = NULL;

	snap_meta_add_block(&meta, SNAP_BLOCK_RAM, "pc.ram",
			    f->pages * SNAP_PAGE);
	snap_meta_add_block(&meta, SNAP_BLOCK_STATE, "devstate", STATE_SIZE);
	must(snap_writer_commit(w, &meta, f->fd, "snapshot.zst", &error),
	     error);
	snap_meta_clear(&meta);
}

void image_fixture_make(struct image_fixture *f, uint64_t pages, guint32 seed)
{
	g_autoptr(SnapCodec) codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
	struct snap_writer_opts opts = { 0 };
	g_autoptr(SnapWriter) w = NULL;
	GError *error = NULL;

	memset(f, 0, sizeof(*f));
	f->folder = g_dir_make_tmp("snapfs-unit-XXXXXX", NULL);
	f->fd = open(f->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->pages = pages;
	f->state_base = snap_round_up(pages * SNAP_PAGE, SNAP_REGION);
	f->size = f->state_base + 2 * SNAP_PAGE;
	f->bytes = g_malloc0(f->size);
	must(snap_file_create(f->fd, "new", 0600, NULL, SNAP_FILE_PLAIN,
			      &opts.file),
	     NULL);
	must(snap_file_scratch(f->fd, &opts.scratch), NULL);
	must(snap_writer_new(&opts, &w, &error), error);
	/* All of it once, and some of it again. */
	for (uint64_t r = 0; r * SNAP_REGION_PAGES < pages; r++)
		if (r % 5 != 3)
			put_region(f, w, codec, r, rand, 6);
	for (uint64_t r = 0; r * SNAP_REGION_PAGES < pages; r += 2)
		if (r % 5 != 3)
			put_region(f, w, codec, r, rand, 2);
	put_state(f, w, codec, rand);
	fixture_commit(f, w);
}

SnapReader *image_fixture_open(const struct image_fixture *f)
{
	GError *error = NULL;
	SnapReader *reader;
	SnapFile *file;

	file = snap_file_wrap(
		openat(f->fd, "snapshot.zst", O_RDONLY | O_CLOEXEC));
	must(snap_reader_open(file, &reader, &error), error);
	return reader;
}

void image_fixture_clear(struct image_fixture *f)
{
	unlinkat(f->fd, "snapshot.zst", 0);
	close(f->fd);
	g_rmdir(f->folder);
	g_free(f->folder);
	g_free(f->bytes);
}
