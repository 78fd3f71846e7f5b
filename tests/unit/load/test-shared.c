/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An extent of a file that several snapshots use is loaded once for all of
 * them; one of another file never, whatever that says of itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "fs/load/pages.h"
#include "tests/lib/image-fixture.h"

#define PAGES (3 * SNAP_REGION_PAGES)

struct world {
	struct image_fixture f;
	SnapLoader *loader;
};

static int set_up(void **state)
{
	struct snap_loader_opts opts = { .cache = SNAP_CACHE_DEFAULT,
					 .threads = 1 };
	struct world *w = g_new0(struct world, 1);

	image_fixture_make(&w->f, PAGES, 5);
	w->loader = snap_loader_new(&opts);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	snap_loader_free(w->loader);
	unlinkat(w->f.fd, "child", 0);
	unlinkat(w->f.fd, "copy", 0);
	image_fixture_clear(&w->f);
	g_free(w);
	return 0;
}

static SnapFile *open_file(struct world *w, const char *name)
{
	int fd = openat(w->f.fd, name, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return snap_file_wrap(fd);
}

static void share_region(SnapWriter *w, SnapReader *parent, uint64_t region,
			 uint8_t layer)
{
	struct snap_node node;
	struct snap_leaf leaf;

	assert_int_equal(snap_reader_node(parent, 0, &node), 0);
	assert_int_equal(
		snap_reader_leaf(parent, region, &node.entries[region], &leaf),
		0);
	for (guint i = 0; i < leaf.n; i++) {
		struct snap_segment run = leaf.segments[i];

		run.layer = layer;
		if (run.kind == SNAP_SEGMENT_FILL)
			snap_writer_fill(w,
					 region * SNAP_REGION_PAGES + run.page,
					 run.count, run.fill);
		else if (run.kind == SNAP_SEGMENT_EXTENT)
			assert_int_equal(snap_writer_share(w, region, &run), 0);
	}
}

/* Makes "child", which has all of its RAM from the fixture's snapshot. */
static void make_child(struct world *world)
{
	struct snap_meta meta = { .form = SNAP_FORM_CLASSIC,
				  .target_page = SNAP_PAGE };
	g_autoptr(SnapReader) parent = image_fixture_open(&world->f);
	struct snap_writer_opts opts = { 0 };
	SnapWriter *w;
	uint8_t layer;

	assert_int_equal(snap_file_create(world->f.fd, "new", 0600, NULL,
					  SNAP_FILE_PLAIN, &opts.file),
			 0);
	assert_int_equal(snap_writer_new(&opts, &w, NULL), 0);
	assert_int_equal(snap_writer_layer(w, parent, 0, &layer), 0);
	for (guint i = 0; i < PAGES / SNAP_REGION_PAGES; i++)
		share_region(w, parent, i, layer);
	snap_meta_add_block(&meta, SNAP_BLOCK_RAM, "pc.ram", PAGES * SNAP_PAGE);
	snap_meta_add_block(&meta, SNAP_BLOCK_STATE, "devstate", 100);
	assert_int_equal(
		snap_writer_commit(w, &meta, world->f.fd, "child", NULL), 0);
	snap_writer_free(w);
	snap_meta_clear(&meta);
}

static SnapPages *open_child(struct world *w, const char *parent)
{
	SnapReader *r;

	assert_int_equal(snap_reader_open(open_file(w, "child"), &r, NULL), 0);
	assert_int_equal(
		snap_reader_set_layer(r, 0, open_file(w, parent), NULL), 0);
	return snap_pages_new(w->loader, r, "child");
}

/* Reads all of RAM; the bytes that had to be read from files. */
static uint64_t read_all(struct world *w, SnapPages *pages)
{
	uint64_t before = snap_loader_stats(w->loader).bytes_read;
	g_autofree uint8_t *buf = g_malloc(SNAP_PAGE);

	for (uint64_t page = 0; page < PAGES; page++) {
		/* So that also an extent of one page stays in the cache. */
		struct snap_pages_hint hint = { .next = UINT64_MAX };

		assert_int_equal(snap_pages_read(pages, buf, SNAP_PAGE,
						 page * SNAP_PAGE, &hint),
				 0);
		assert_memory_equal(buf, w->f.bytes + page * SNAP_PAGE,
				    SNAP_PAGE);
	}
	return snap_loader_stats(w->loader).bytes_read - before;
}

static void a_shared_extent_is_loaded_once_for_all(void **state)
{
	struct world *w = *state;
	SnapPages *root, *child, *other;
	uint64_t whole;

	make_child(w);
	root = snap_pages_new(w->loader, image_fixture_open(&w->f), "root");
	whole = read_all(w, root);
	child = open_child(w, "snapshot.zst");
	assert_true(read_all(w, child) < whole / 10);
	/* The child keeps them when the parent is closed. */
	snap_pages_unref(root);
	other = open_child(w, "snapshot.zst");
	assert_true(read_all(w, other) < whole / 10);
	snap_pages_unref(other);
	assert_true(read_all(w, child) == 0);
	snap_pages_unref(child);
	assert_int_equal(snap_loader_stats(w->loader).cached, 0);
	/* Nothing is left of a file that was closed. */
	child = open_child(w, "snapshot.zst");
	assert_true(read_all(w, child) > whole / 2);
	snap_pages_unref(child);
}

static void the_pages_of_a_copy_are_its_own(void **state)
{
	struct world *w = *state;
	g_autofree char *from =
		g_build_filename(w->f.folder, "snapshot.zst", NULL);
	g_autofree char *to = g_build_filename(w->f.folder, "copy", NULL);
	g_autofree char *bytes = NULL;
	SnapPages *child, *other;
	gsize size;

	make_child(w);
	assert_true(g_file_get_contents(from, &bytes, &size, NULL));
	assert_true(g_file_set_contents(to, bytes, (gssize)size, NULL));
	child = open_child(w, "snapshot.zst");
	other = open_child(w, "copy");
	assert_true(read_all(w, child) > size / 2);
	assert_true(read_all(w, other) > size / 2);
	snap_pages_unref(child);
	snap_pages_unref(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_shared_extent_is_loaded_once_for_all, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(the_pages_of_a_copy_are_its_own,
						set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
