/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files that snapshots share stay as long as they are used, and no longer;
 * also through crashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "fs/catalog/catalog.h"
#include "tests/lib/crash-names.h"

static const char *const folders[] = { "a", "b", "c" };

struct world {
	char *path;
	SnapCatalog *catalog;
	int fds[G_N_ELEMENTS(folders)];
	int layers_fd;
};

static int set_up(void **state)
{
	struct world *w = g_new0(struct world, 1);

	w->path = g_dir_make_tmp("snapfs-layers-XXXXXX", NULL);
	if (snap_catalog_open(w->path, false, "a test", &w->catalog, NULL) < 0)
		return -1;
	for (guint i = 0; i < G_N_ELEMENTS(folders); i++) {
		g_autofree char *path =
			g_build_filename(w->path, folders[i], NULL);

		g_mkdir(path, 0755);
		w->fds[i] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (snap_catalog_can_link(w->catalog, NULL) < 0)
		return -1;
	w->layers_fd = openat(snap_catalog_fd(w->catalog), SNAP_CATALOG_LAYERS,
			      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	crash_names_begin();
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	g_autofree char *command = NULL;
	int r;

	crash_names_end();
	for (guint i = 0; i < G_N_ELEMENTS(folders); i++)
		close(w->fds[i]);
	close(w->layers_fd);
	snap_catalog_free(w->catalog);
	command = g_strdup_printf("rm -rf %s", w->path);
	r = system(command);
	g_free(w->path);
	g_free(w);
	return r;
}

static guint count_layers(const struct world *w)
{
	g_autofree char *path =
		g_build_filename(w->path, SNAP_CATALOG_LAYERS, NULL);
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	guint n = 0;

	while (g_dir_read_name(dir))
		n++;
	return n;
}

/* ---- saving and looking ---- */

/* Puts an extent of random pages into a region. */
static void put(SnapWriter *w, uint64_t region)
{
	static const uint16_t pages[] = { 0, 1 };
	g_autoptr(SnapCodec) codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	g_autofree uint8_t *frame = g_malloc(SNAP_EXTENT_BOUND);
	guint32 data[2 * SNAP_PAGE / sizeof(guint32)];
	ssize_t size;

	for (guint i = 0; i < G_N_ELEMENTS(data); i++)
		data[i] = g_random_int();
	size = snap_codec_compress(codec, data, 2, frame);
	assert_int_equal(
		snap_writer_extent(w, region, pages, 2, frame, (size_t)size),
		0);
}

/* Shares all extents of the parent but that of region `but`. */
static void share(SnapWriter *w, SnapReader *parent, uint64_t but)
{
	const struct snap_meta *meta = snap_reader_meta(parent);
	uint8_t numbers[SNAP_LAYERS_MAX + 1];
	struct snap_node node;
	struct snap_leaf leaf;

	assert_int_equal(snap_writer_layer(w, parent, 0, &numbers[0]), 0);
	for (guint i = 0; i < meta->n_layers; i++)
		assert_int_equal(
			snap_writer_layer(w, parent, i + 1, &numbers[i + 1]),
			0);
	assert_int_equal(snap_reader_node(parent, 0, &node), 0);
	for (guint i = 0; i < node.n; i++) {
		struct snap_segment run;

		assert_int_equal(
			snap_reader_leaf(parent, i, &node.entries[i], &leaf),
			0);
		run = leaf.segments[0];
		if (i == but || run.kind != SNAP_SEGMENT_EXTENT)
			continue;
		run.layer = numbers[run.layer];
		assert_int_equal(snap_writer_share(w, i, &run), 0);
	}
}

/* Saves four regions into folder `to`: with a parent, all but one of them are
 * its own. */
static void save(struct world *world, guint to, int parent, guint changed)
{
	const struct snap_catalog_owner owner = { .uid = (uid_t)-1,
						  .gid = (gid_t)-1,
						  .mode = 0600 };
	struct snap_meta meta = { .form = SNAP_FORM_VERBATIM };
	struct snap_writer_opts opts = { 0 };
	g_autoptr(SnapKept) kept = NULL;
	g_autoptr(SnapReader) reader = NULL;
	SnapWriter *w;

	assert_int_equal(snap_catalog_create(world->catalog, "x", &owner,
					     &opts.file, &opts.scratch, NULL),
			 0);
	assert_int_equal(snap_writer_new(&opts, &w, NULL), 0);
	if (parent >= 0) {
		assert_int_equal(
			snap_catalog_keep(world->catalog, world->fds[parent],
					  geteuid(), &reader, &kept, NULL),
			0);
		assert_int_equal(
			snap_catalog_link(world->catalog, kept, reader, NULL),
			0);
		share(w, reader, changed);
	}
	for (guint i = 0; i < 4; i++)
		if (parent < 0 || i == changed)
			put(w, i);
	snap_meta_add_block(&meta, SNAP_BLOCK_STREAM, "stream",
			    4 * SNAP_REGION);
	if (parent >= 0)
		assert_int_equal(snap_catalog_sync_links(world->catalog), 0);
	assert_int_equal(snap_writer_commit(w, &meta, world->fds[to],
					    SNAP_CATALOG_SNAPSHOT, NULL),
			 0);
	snap_writer_free(w);
	snap_meta_clear(&meta);
}

/* Opens a snapshot with its parents, and reads all of it. */
static int check(struct world *w, guint folder, GError **error)
{
	g_autoptr(SnapReader) r = NULL;
	int code = snap_catalog_find(w->fds[folder], &r, error);

	if (code == 0)
		code = snap_catalog_set_parents(w->catalog, r, error);
	return code < 0 ? code : snap_verify(r, NULL, NULL, NULL, error);
}

static void removes(struct world *w, guint folder)
{
	assert_int_equal(snap_catalog_remove(w->fds[folder]), 0);
}

static void collects(struct world *w, guint left)
{
	GError *error = NULL;

	if (snap_catalog_collect(w->catalog, &error) < 0)
		fail_msg("%s", error->message);
	assert_int_equal(count_layers(w), left);
}

/* ---- what is used stays ---- */

static void a_removed_parent_stays_while_it_is_used(void **state)
{
	struct world *w = *state;

	save(w, 0, -1, 0);
	assert_int_equal(count_layers(w), 0);
	save(w, 1, 0, 2);
	collects(w, 1);
	removes(w, 0);
	collects(w, 1);
	assert_int_equal(check(w, 1, NULL), 0);
	removes(w, 1);
	collects(w, 0);
}

static void a_snapshot_can_replace_its_own_parent(void **state)
{
	struct world *w = *state;

	save(w, 0, -1, 0);
	for (guint i = 0; i < 6; i++) {
		save(w, 0, 0, i % 4);
		assert_int_equal(check(w, 0, NULL), 0);
		/* Each region is in the file that wrote it last. */
		collects(w, MIN(i + 1, 3));
	}
	save(w, 0, -1, 0);
	collects(w, 0);
}

static void a_missing_parent_is_named_and_may_come_back(void **state)
{
	struct world *w = *state;
	g_autoptr(SnapReader) r = NULL;
	g_autoptr(GError) error = NULL;
	char name[SNAP_CATALOG_LAYER_NAME];

	save(w, 0, -1, 0);
	save(w, 1, 0, 2);
	assert_int_equal(snap_catalog_find(w->fds[0], &r, NULL), 0);
	snap_catalog_layer_name(snap_reader_meta(r)->uuid, name);
	assert_int_equal(unlinkat(w->layers_fd, name, 0), 0);
	assert_int_equal(check(w, 1, &error), -ENOLINK);
	assert_non_null(strstr(error->message, name));
	assert_int_equal(
		linkat(w->fds[0], SNAP_CATALOG_SNAPSHOT, w->layers_fd, name, 0),
		0);
	assert_int_equal(check(w, 1, NULL), 0);
}

static void another_file_in_the_place_of_a_parent_is_refused(void **state)
{
	struct world *w = *state;
	g_autoptr(SnapReader) r = NULL;
	g_autoptr(GError) error = NULL;
	char name[SNAP_CATALOG_LAYER_NAME];

	save(w, 0, -1, 0);
	save(w, 1, 0, 2);
	assert_int_equal(snap_catalog_find(w->fds[0], &r, NULL), 0);
	snap_catalog_layer_name(snap_reader_meta(r)->uuid, name);
	unlinkat(w->layers_fd, name, 0);
	linkat(w->fds[1], SNAP_CATALOG_SNAPSHOT, w->layers_fd, name, 0);
	assert_int_equal(check(w, 1, &error), -EBADMSG);
	assert_non_null(strstr(error->message, name));
	/* The next one that is made from the parent puts it right. */
	save(w, 2, 0, 1);
	assert_int_equal(check(w, 1, NULL), 0);
	assert_int_equal(check(w, 2, NULL), 0);
}

/* ---- what is not removed ---- */

static void what_a_save_keeps_is_not_removed(void **state)
{
	struct world *w = *state;
	g_autoptr(SnapReader) r = NULL;
	SnapKept *kept;

	save(w, 0, -1, 0);
	assert_int_equal(snap_catalog_keep(w->catalog, w->fds[0], geteuid(), &r,
					   &kept, NULL),
			 0);
	assert_int_equal(snap_catalog_link(w->catalog, kept, r, NULL), 0);
	removes(w, 0);
	collects(w, 1);
	snap_kept_free(kept);
	collects(w, 0);
}

static void a_parent_that_was_removed_cannot_be_linked(void **state)
{
	struct world *w = *state;
	g_autoptr(SnapReader) r = NULL;
	g_autoptr(SnapKept) kept = NULL;

	save(w, 0, -1, 0);
	assert_int_equal(snap_catalog_keep(w->catalog, w->fds[0], geteuid(), &r,
					   &kept, NULL),
			 0);
	removes(w, 0);
	assert_int_equal(snap_catalog_link(w->catalog, kept, r, NULL), -ENOENT);
	assert_int_equal(count_layers(w), 0);
}

static void another_users_file_is_no_parent(void **state)
{
	struct world *w = *state;
	SnapReader *r;
	SnapKept *kept;

	save(w, 0, -1, 0);
	assert_int_equal(snap_catalog_keep(w->catalog, w->fds[0], geteuid() + 1,
					   &r, &kept, NULL),
			 -EPERM);
	assert_int_equal(count_layers(w), 0);
}

static void nothing_is_removed_while_a_snapshot_cannot_be_read(void **state)
{
	struct world *w = *state;
	g_autoptr(GError) error = NULL;
	g_autofree char *path =
		g_build_filename(w->path, "c", SNAP_CATALOG_SNAPSHOT, NULL);

	save(w, 0, -1, 0);
	save(w, 1, 0, 2);
	removes(w, 1);
	assert_true(g_file_set_contents(path, "damaged", -1, NULL));
	assert_int_equal(snap_catalog_collect(w->catalog, &error), -ENODATA);
	assert_non_null(strstr(error->message, "c: "));
	assert_int_equal(count_layers(w), 1);
	removes(w, 2);
	collects(w, 0);
}

static void nothing_is_removed_while_a_folder_is_moved(void **state)
{
	struct world *w = *state;

	save(w, 0, -1, 0);
	save(w, 1, 0, 2);
	removes(w, 1);
	snap_catalog_move_begin(w->catalog);
	collects(w, 1);
	snap_catalog_move_end(w->catalog);
	collects(w, 0);
}

static void the_background_does_the_same(void **state)
{
	struct world *w = *state;

	save(w, 0, -1, 0);
	save(w, 1, 0, 2);
	removes(w, 1);
	for (guint i = 0; i < 20; i++)
		snap_catalog_collect_later(w->catalog);
	/* Closing the store waits for it. */
	snap_catalog_free(w->catalog);
	assert_int_equal(count_layers(w), 0);
	assert_int_equal(
		snap_catalog_open(w->path, false, "a test", &w->catalog, NULL),
		0);
}

static void a_store_without_hard_links_is_refused(void **state)
{
	struct world *w = *state;
	g_autoptr(GError) error = NULL;

	assert_int_equal(snap_catalog_can_link(w->catalog, NULL), 0);
	crash_names_fail_links(EPERM);
	assert_int_equal(snap_catalog_can_link(w->catalog, &error),
			 -EOPNOTSUPP);
	assert_non_null(strstr(error->message, "hard links"));
}

/* ---- crashes ---- */

/* A day of a store. */
static void live(struct world *w)
{
	save(w, 0, -1, 0);
	save(w, 1, 0, 1);
	removes(w, 0);
	collects(w, 1);
	save(w, 0, 1, 2);
	save(w, 1, 1, 3);
	collects(w, 2);
	removes(w, 0);
	collects(w, 2);
	save(w, 2, 1, 0);
	removes(w, 1);
	collects(w, 3);
	save(w, 2, -1, 0);
	collects(w, 0);
	removes(w, 2);
}

/* True when a snapshot that a crash has left has its parents. */
static bool is_whole(struct world *w, GHashTable *names, int fd)
{
	g_autoptr(SnapReader) r = NULL;
	const struct snap_meta *meta;

	assert_int_equal(snap_reader_open(snap_file_wrap(fd), &r, NULL), 0);
	meta = snap_reader_meta(r);
	for (guint i = 0; i < meta->n_layers; i++) {
		char name[SNAP_CATALOG_LAYER_NAME];
		int layer;

		snap_catalog_layer_name(meta->layers[i].uuid, name);
		layer = crash_names_open(names, w->layers_fd, name);
		if (layer < 0 || snap_reader_set_layer(
					 r, i, snap_file_wrap(layer), NULL) < 0)
			return false;
	}
	return snap_verify(r, NULL, NULL, NULL, NULL) == 0;
}

/* Crashes after each change, in several ways; counts what is left. */
static void crash_everywhere(struct world *w, guint *ret_whole, guint *ret_torn)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(7);

	*ret_whole = *ret_torn = 0;
	for (guint n = 0; n <= crash_names_count(); n++)
		for (guint way = 0; way < 30; way++) {
			g_autoptr(GHashTable) names =
				crash_names_after(n, rand);

			for (guint i = 0; i < G_N_ELEMENTS(folders); i++) {
				int fd =
					crash_names_open(names, w->fds[i],
							 SNAP_CATALOG_SNAPSHOT);

				if (fd >= 0 && is_whole(w, names, fd))
					(*ret_whole)++;
				else if (fd >= 0)
					(*ret_torn)++;
			}
		}
}

static void a_crash_leaves_every_snapshot_whole(void **state)
{
	struct world *w = *state;
	guint whole, torn;

	live(w);
	crash_everywhere(w, &whole, &torn);
	assert_true(whole > 1000);
	assert_int_equal(torn, 0);
}

/* Checks that the test above can fail. */
static void folders_that_are_not_synced_are_caught_by_this_test(void **state)
{
	struct world *w = *state;
	guint whole, torn;

	crash_names_lie();
	live(w);
	crash_everywhere(w, &whole, &torn);
	assert_true(torn > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		TEST(a_removed_parent_stays_while_it_is_used),
		TEST(a_snapshot_can_replace_its_own_parent),
		TEST(a_missing_parent_is_named_and_may_come_back),
		TEST(another_file_in_the_place_of_a_parent_is_refused),
		TEST(what_a_save_keeps_is_not_removed),
		TEST(a_parent_that_was_removed_cannot_be_linked),
		TEST(another_users_file_is_no_parent),
		TEST(nothing_is_removed_while_a_snapshot_cannot_be_read),
		TEST(nothing_is_removed_while_a_folder_is_moved),
		TEST(the_background_does_the_same),
		TEST(a_store_without_hard_links_is_refused),
		TEST(a_crash_leaves_every_snapshot_whole),
		TEST(folders_that_are_not_synced_are_caught_by_this_test),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
