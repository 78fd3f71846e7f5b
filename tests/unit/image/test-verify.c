/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Several snapshots with one parent: it is read once, and the map of each is
 * compared with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>

#include "tests/unit/image/model.h"

#define PAGES 1300u

struct pair {
	struct model model;
	struct crash_disk parent;
	struct crash_disk child;
};

static SnapReader *open_disk(const struct crash_disk *disk)
{
	SnapReader *r;

	assert_int_equal(snap_reader_open(memory_file_new(disk->all->data,
							  disk->all->len),
					  &r, NULL),
			 0);
	return r;
}

static int setup(void **state)
{
	static const uint16_t pages[3] = { 0, 1, 2 };
	struct pair *p = g_new0(struct pair, 1);
	SnapWriter *w;

	crash_disk_init(&p->parent);
	crash_disk_init(&p->child);
	model_init(&p->model, PAGES, 1);
	w = model_writer(&p->parent, 0);
	assert_int_equal(model_put(&p->model, w, 0, pages, 3), 0);
	assert_int_equal(model_put(&p->model, w, 1, pages, 3), 0);
	assert_int_equal(model_play(&p->model, w, 300), 0);
	assert_int_equal(model_put(&p->model, w, 0, pages, 3), 0);
	assert_int_equal(model_commit(&p->model, w, -1, "x", NULL), 0);
	snap_writer_free(w);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct pair *p = *state;

	model_clear(&p->model);
	crash_disk_clear(&p->parent);
	crash_disk_clear(&p->child);
	g_free(p);
	return 0;
}

/* The run of pages 0 to 2 of region 0. */
static struct snap_segment first_run(SnapReader *parent)
{
	struct snap_node node;
	struct snap_leaf leaf;

	assert_int_equal(snap_reader_node(parent, 0, &node), 0);
	assert_int_equal(snap_reader_leaf(parent, 0, &node.entries[0], &leaf),
			 0);
	assert_int_equal(leaf.segments[0].kind, SNAP_SEGMENT_EXTENT);
	assert_int_equal(leaf.segments[0].pages, 3);
	return leaf.segments[0];
}

/* What may be wrong with a run: the place of its extent, the sum of that, the
 * number of its pages, or that two regions use it. */
enum wrong { NOTHING, PLACE, SUM, COUNT, REGION };

/* Makes a child that shares the first run. */
static void make_child(struct pair *p, enum wrong wrong)
{
	g_autoptr(SnapReader) parent = open_disk(&p->parent);
	struct snap_segment run = first_run(parent);
	struct snap_writer_opts opts = { 0 };
	struct model model;
	SnapWriter *w;

	crash_disk_clear(&p->child);
	crash_disk_init(&p->child);
	model_init(&model, PAGES, 2);
	opts.file = crash_file_new(&p->child);
	assert_int_equal(snap_file_scratch(AT_FDCWD, &opts.scratch), 0);
	assert_int_equal(snap_writer_new(&opts, &w, NULL), 0);
	assert_int_equal(snap_writer_layer(w, parent, 0, &run.layer), 0);
	run.offset += wrong == PLACE;
	run.crc32c ^= wrong == SUM;
	run.pages += wrong == COUNT;
	assert_int_equal(snap_writer_share(w, 0, &run), 0);
	if (wrong == REGION)
		assert_int_equal(snap_writer_share(w, 1, &run), 0);
	assert_int_equal(model_commit(&model, w, -1, "x", NULL), 0);
	snap_writer_free(w);
	model_clear(&model);
}

/* Checks the child; *ret_read becomes the bytes that were read. */
static int verify(struct pair *p, SnapVerified *done, uint64_t *ret_read)
{
	g_autoptr(SnapReader) r = open_disk(&p->child);
	int code;

	assert_int_equal(
		snap_reader_set_layer(r, 0,
				      memory_file_new(p->parent.all->data,
						      p->parent.all->len),
				      NULL),
		0);
	code = snap_verify(r, done, NULL, NULL, NULL);
	*ret_read = snap_reader_bytes_read(r);
	return code;
}

static void a_parent_is_read_once(void **state)
{
	g_autoptr(SnapVerified) done = snap_verified_new();
	struct pair *p = *state;
	uint64_t first, second;

	make_child(p, NOTHING);
	assert_int_equal(verify(p, done, &first), 0);
	assert_true(first > p->parent.all->len);
	make_child(p, NOTHING);
	assert_int_equal(verify(p, done, &second), 0);
	assert_true(second < p->parent.all->len);
}

static void a_wrong_map_is_found_though_the_parent_is_known(void **state)
{
	g_autoptr(SnapVerified) done = snap_verified_new();
	struct pair *p = *state;
	uint64_t bytes;

	for (enum wrong wrong = PLACE; wrong <= REGION; wrong++) {
		make_child(p, NOTHING);
		assert_int_equal(verify(p, done, &bytes), 0);
		make_child(p, wrong);
		assert_int_equal(verify(p, done, &bytes), -EBADMSG);
		assert_int_equal(verify(p, NULL, &bytes), -EBADMSG);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_parent_is_read_once),
		cmocka_unit_test(
			a_wrong_map_is_found_though_the_parent_is_known),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
