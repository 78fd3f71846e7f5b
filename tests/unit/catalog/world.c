/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/catalog/world.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/crash-names.h"

static const char *const folders[WORLD_FOLDERS] = { "a", "b", "c" };

int world_open(void **state)
{
	struct world *w = g_new0(struct world, 1);

	w->path = g_dir_make_tmp("snapfs-layers-XXXXXX", NULL);
	if (snap_catalog_open(w->path, false, "a test", &w->catalog, NULL) < 0)
		return -1;
	for (guint i = 0; i < WORLD_FOLDERS; i++) {
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

int world_close(void **state)
{
	struct world *w = *state;
	g_autofree char *command = NULL;
	int r;

	crash_names_end();
	for (guint i = 0; i < WORLD_FOLDERS; i++)
		close(w->fds[i]);
	close(w->layers_fd);
	snap_catalog_free(w->catalog);
	command = g_strdup_printf("rm -rf %s", w->path);
	r = system(command);
	g_free(w->path);
	g_free(w);
	return r;
}

guint count_layers(const struct world *w)
{
	g_autofree char *path =
		g_build_filename(w->path, SNAP_CATALOG_LAYERS, NULL);
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	guint n = 0;

	while (g_dir_read_name(dir))
		n++;
	return n;
}

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

void save(struct world *world, guint to, int parent, guint changed)
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
			snap_catalog_link(world->catalog, kept, &reader, NULL),
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

int check(struct world *w, guint folder, GError **error)
{
	g_autoptr(SnapReader) r = NULL;
	int code = snap_catalog_find(w->fds[folder], &r, error);

	if (code == 0)
		code = snap_catalog_set_parents(w->catalog, r, error);
	return code < 0 ? code : snap_verify(r, NULL, NULL, NULL, error);
}

void removes(struct world *w, guint folder)
{
	assert_int_equal(snap_catalog_remove(w->catalog, w->fds[folder]), 0);
}

void collects(struct world *w, guint left)
{
	GError *error = NULL;

	if (snap_catalog_collect(w->catalog, &error) < 0)
		fail_msg("%s", error->message);
	assert_int_equal(count_layers(w), left);
}
