/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file with right checksums in which two references give one frame two
 * meanings. The bytes that are read must not depend on which came first. */
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
#include <unistd.h>

#include "format/base/log.h"
#include "format/image/ondisk.h"
#include "fs/load/pages.h"
#include "tests/lib/image-fixup.h"

struct world {
	char *folder;
	int fd;
	char *bytes; /* of the file */
	gsize size;
	SnapLoader *loader;
	SnapPages *pages;
};

static void put_page(SnapWriter *w, SnapCodec *codec, uint64_t region,
		     const uint8_t *page)
{
	g_autofree uint8_t *frame = g_malloc(SNAP_EXTENT_BOUND);
	ssize_t size = snap_codec_compress(codec, page, 1, frame);
	static const uint16_t first;

	assert_true(size > 0);
	assert_int_equal(
		snap_writer_extent(w, region, &first, 1, frame, (size_t)size),
		0);
}

/* Two regions of one page each; the first page looks like a leaf in memory
 * whose run lies far outside of its region. */
static void make_file(struct world *w)
{
	g_autoptr(SnapCodec) codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	struct snap_meta meta = { .form = SNAP_FORM_CLASSIC,
				  .target_page = SNAP_PAGE };
	struct snap_segment far = { .kind = SNAP_SEGMENT_EXTENT,
				    .page = SNAP_REGION_PAGES,
				    .count = 64 };
	uint8_t page[SNAP_PAGE] = { 1 };
	struct snap_writer_opts opts = { 0 };
	g_autoptr(SnapWriter) writer = NULL;

	memcpy(page + offsetof(struct snap_leaf, segments), &far, sizeof(far));
	assert_int_equal(snap_file_create(w->fd, "new", 0600, NULL,
					  SNAP_FILE_PLAIN, &opts.file),
			 0);
	assert_int_equal(snap_writer_new(&opts, &writer, NULL), 0);
	put_page(writer, codec, 0, page);
	memset(page, 7, 100);
	put_page(writer, codec, 1, page);
	snap_meta_add_block(&meta, SNAP_BLOCK_RAM, "pc.ram", 2 * SNAP_REGION);
	snap_meta_add_block(&meta, SNAP_BLOCK_STATE, "devstate", 0);
	assert_int_equal(snap_writer_commit(writer, &meta, w->fd, "evil", NULL),
			 0);
	snap_meta_clear(&meta);
}

/* Makes the second region's entry refer to the first region's extent as its
 * leaf. */
static void confuse(struct world *w)
{
	struct snap_disk_trailer *trailer =
		(void *)(w->bytes + w->size - sizeof(*trailer));
	struct snap_disk_node *top =
		(void *)(w->bytes + snap_le64(trailer->top.where));
	struct snap_disk_node *node =
		(void *)(w->bytes + snap_le64(top->entries[0].where));
	struct snap_disk_leaf *leaf =
		(void *)(w->bytes + snap_le64(node->entries[0].where));

	node->entries[1].where = leaf->segments[0].where;
	node->entries[1].length = leaf->segments[0].length;
	image_fixup((uint8_t *)w->bytes, w->size);
}

static void world_open(struct world *w)
{
	struct snap_loader_opts opts = { .cache = SNAP_CACHE_MIN,
					 .threads = 1 };
	g_autofree char *path = NULL;
	SnapReader *reader;
	SnapFile *file;

	snap_log_open(snap_log_to_stderr, SNAP_LOG_ERROR);
	w->folder = g_dir_make_tmp("snapfs-unit-XXXXXX", NULL);
	w->fd = open(w->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	make_file(w);
	path = g_build_filename(w->folder, "evil", NULL);
	assert_true(g_file_get_contents(path, &w->bytes, &w->size, NULL));
	confuse(w);
	assert_true(g_file_set_contents(path, w->bytes, (gssize)w->size, NULL));
	file = snap_file_wrap(openat(w->fd, "evil", O_RDONLY | O_CLOEXEC));
	assert_int_equal(snap_reader_open(file, &reader, NULL), 0);
	w->loader = snap_loader_new(&opts);
	w->pages = snap_pages_new(w->loader, reader, "evil");
}

static void world_close(struct world *w)
{
	snap_pages_unref(w->pages);
	snap_loader_free(w->loader);
	unlinkat(w->fd, "evil", 0);
	close(w->fd);
	g_rmdir(w->folder);
	g_free(w->folder);
	g_free(w->bytes);
}

static void a_leaf_that_is_an_extent_is_refused_in_any_order(void **state)
{
	uint64_t bits[SNAP_REGION_PAGES / 64];
	uint8_t page[SNAP_PAGE];
	struct world w = { 0 };

	world_open(&w);
	assert_int_equal(snap_pages_stored(w.pages, 1, bits), -EBADMSG);
	assert_int_equal(snap_pages_read(w.pages, page, sizeof(page), 0, NULL),
			 0);
	assert_int_equal(snap_pages_stored(w.pages, 1, bits), -EBADMSG);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_leaf_that_is_an_extent_is_refused_in_any_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
