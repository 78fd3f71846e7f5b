/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A snapshot reads right from its own file and those of its parents, or says
 * what is wrong with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "format/base/error.h"
#include "format/image/ondisk.h"
#include "tests/lib/image-fixup.h"
#include "tests/unit/image/model.h"

#define PAGES 1300u

/* A snapshot, and what it must read as. */
struct shot {
	struct model model;
	struct crash_disk disk;
	SnapReader *source; /* of the parent, for the writer */
	guint n_parents;
	const struct shot *parents[SNAP_LAYERS_MAX];
};

static SnapFile *file_of(const struct shot *s)
{
	return memory_file_new(s->disk.all->data, s->disk.all->len);
}

/* Hands over parent `i`, found by its uuid. */
static int set_parent(const struct shot *s, SnapReader *r, guint i,
		      GError **error)
{
	const struct snap_layer *l = &snap_reader_meta(r)->layers[i];

	for (guint j = 0; j < s->n_parents; j++) {
		const GByteArray *all = s->parents[j]->disk.all;

		if (!memcmp(all->data + 40, l->uuid, sizeof(l->uuid)))
			return snap_reader_set_layer(
				r, i, file_of(s->parents[j]), error);
	}
	fail_msg("parent %u is none of those that were used", i);
	return -1;
}

static SnapReader *open_alone(const struct shot *s)
{
	GError *error = NULL;
	SnapReader *r;

	if (snap_reader_open(file_of(s), &r, &error) < 0)
		fail_msg("%s", error->message);
	return r;
}

/* Of a parent, only the trailer is read. */
static SnapReader *open_shot(const struct shot *s)
{
	SnapReader *r = open_alone(s);
	guint n = snap_reader_meta(r)->n_layers;
	uint64_t alone = snap_reader_bytes_read(r);

	for (guint i = 0; i < n; i++)
		assert_int_equal(set_parent(s, r, i, NULL), 0);
	assert_int_equal(snap_reader_bytes_read(r) - alone,
			 n * sizeof(struct snap_disk_trailer));
	return r;
}

static void check(const struct shot *s)
{
	g_autoptr(SnapReader) r = open_shot(s);
	GError *error = NULL;

	assert_int_equal(model_read(&s->model, r), 0);
	if (snap_verify(r, NULL, NULL, NULL, &error) < 0)
		fail_msg("%s", error->message);
}

static void shot_clear(struct shot *s)
{
	g_clear_pointer(&s->source, snap_reader_free);
	model_clear(&s->model);
	crash_disk_clear(&s->disk);
}

/* ---- writing ---- */

static SnapWriter *begin(struct shot *s, uint8_t name, guint32 seed,
			 uint64_t memory)
{
	uint8_t uuid[16] = { name };
	struct snap_writer_opts opts = { .map_memory = memory, .uuid = uuid };
	SnapWriter *w;

	memset(s, 0, sizeof(*s));
	crash_disk_init(&s->disk);
	model_init(&s->model, PAGES, seed);
	opts.file = crash_file_new(&s->disk);
	assert_int_equal(snap_file_scratch(AT_FDCWD, &opts.scratch), 0);
	assert_int_equal(snap_writer_new(&opts, &w, NULL), 0);
	return w;
}

static void end(struct shot *s, SnapWriter *w)
{
	GError *error = NULL;

	if (model_commit(&s->model, w, -1, "x", &error) < 0)
		fail_msg("%s", error->message);
	snap_writer_free(w);
}

/* Declares all files that `parent` uses. */
static void declare(struct shot *s, SnapWriter *w, const struct shot *parent,
		    SnapReader *r, uint8_t ret_numbers[SNAP_LAYERS_MAX + 1])
{
	const struct snap_meta *meta = snap_reader_meta(r);

	assert_int_equal(snap_writer_layer(w, r, 0, &ret_numbers[0]), 0);
	s->parents[s->n_parents++] = parent;
	for (guint i = 0; i < meta->n_layers; i++) {
		assert_int_equal(
			snap_writer_layer(w, r, i + 1, &ret_numbers[i + 1]), 0);
		for (guint j = 0; j < parent->n_parents; j++)
			if (parent->parents[j]->disk.all->data[40] ==
			    meta->layers[i].uuid[0])
				s->parents[s->n_parents++] = parent->parents[j];
	}
}

static void share_leaf(SnapWriter *w, uint64_t region,
		       const struct snap_leaf *leaf, const uint8_t *numbers)
{
	for (guint i = 0; i < leaf->n; i++) {
		struct snap_segment run = leaf->segments[i];

		if (run.kind == SNAP_SEGMENT_FILL)
			assert_int_equal(
				snap_writer_fill(w,
						 region * SNAP_REGION_PAGES +
							 run.page,
						 run.count, run.fill),
				0);
		if (run.kind != SNAP_SEGMENT_EXTENT)
			continue;
		run.layer = numbers[run.layer];
		assert_int_equal(snap_writer_share(w, region, &run), 0);
	}
}

/* Begins a snapshot with the memory of `parent`, all of it shared. */
static SnapWriter *begin_child(struct shot *s, const struct shot *parent,
			       uint8_t name, guint32 seed, uint64_t memory)
{
	SnapWriter *w = begin(s, name, seed, memory);
	SnapReader *r = s->source = open_shot(parent);
	uint8_t numbers[SNAP_LAYERS_MAX + 1];
	struct snap_node node;
	struct snap_leaf leaf;

	memcpy(s->model.bytes, parent->model.bytes, PAGES * SNAP_PAGE);
	declare(s, w, parent, r, numbers);
	assert_int_equal(snap_reader_node(r, 0, &node), 0);
	for (guint i = 0; i < node.n; i++) {
		assert_int_equal(
			snap_reader_leaf(r, i, &node.entries[i], &leaf), 0);
		if (i < snap_div_up(PAGES, SNAP_REGION_PAGES))
			share_leaf(w, i, &leaf, numbers);
	}
	return w;
}

static void make_root(struct shot *s, uint8_t name, guint32 seed, guint steps)
{
	SnapWriter *w = begin(s, name, seed, 0);

	assert_int_equal(model_play(&s->model, w, steps), 0);
	end(s, w);
}

/* ---- what is right ---- */

static void a_child_reads_as_its_parent_and_its_own_pages(void **state)
{
	for (guint32 seed = 0; seed < 20; seed++) {
		struct shot root, child;
		SnapWriter *w;

		make_root(&root, 'r', seed, 100);
		w = begin_child(&child, &root, 'c', seed, seed % 2);
		assert_int_equal(model_play(&child.model, w, 5 * seed), 0);
		end(&child, w);
		check(&child);
		if (seed < 5)
			assert_true(child.disk.all->len < root.disk.all->len);
		shot_clear(&child);
		shot_clear(&root);
	}
}

static void a_snapshot_names_the_files_that_hold_its_pages(void **state)
{
	struct shot shots[4];

	make_root(&shots[0], 'a', 7, 60);
	for (guint i = 1; i < G_N_ELEMENTS(shots); i++) {
		SnapWriter *w = begin_child(&shots[i], &shots[i - 1],
					    (uint8_t)('a' + i), i, 0);

		assert_int_equal(model_play(&shots[i].model, w, 10), 0);
		end(&shots[i], w);
		check(&shots[i]);
		assert_int_equal(shots[i].n_parents, i);
	}
	for (guint i = 0; i < G_N_ELEMENTS(shots); i++)
		shot_clear(&shots[i]);
}

static void parents_that_nothing_uses_are_left_out(void **state)
{
	struct shot one, two, child;
	g_autoptr(SnapReader) first = NULL, second = NULL, r = NULL;
	uint8_t numbers[SNAP_LAYERS_MAX + 1];
	const struct snap_meta *meta;
	struct snap_node node;
	struct snap_leaf leaf;
	SnapWriter *w;

	make_root(&one, '1', 1, 50);
	make_root(&two, '2', 2, 50);
	first = open_shot(&one);
	second = open_shot(&two);
	w = begin(&child, 'c', 3, 0);
	declare(&child, w, &one, first, numbers);
	declare(&child, w, &two, second, numbers);
	assert_int_equal(numbers[0], 2);
	assert_int_equal(snap_reader_node(second, 0, &node), 0);
	assert_int_equal(snap_reader_leaf(second, 0, &node.entries[0], &leaf),
			 0);
	share_leaf(w, 0, &leaf, numbers);
	memcpy(child.model.bytes, two.model.bytes, SNAP_REGION);
	end(&child, w);
	check(&child);
	r = open_shot(&child);
	meta = snap_reader_meta(r);
	assert_int_equal(meta->n_layers, 1);
	assert_int_equal(meta->layers[0].uuid[0], '2');
	assert_int_equal(meta->layers[0].size, two.disk.all->len);
	shot_clear(&child);
	shot_clear(&two);
	shot_clear(&one);
}

static void compaction_leaves_alone_what_lies_in_a_parent(void **state)
{
	struct crash_disk second;
	struct shot root, child;
	struct snap_writer_stats before, after;
	SnapWriter *w;

	make_root(&root, 'r', 4, 200);
	w = begin_child(&child, &root, 'c', 4, 0);
	assert_int_equal(model_play(&child.model, w, 150), 0);
	before = snap_writer_stats(w);
	crash_disk_init(&second);
	assert_int_equal(snap_writer_compact(w, crash_file_new(&second),
					     child.model.codec, NULL),
			 0);
	after = snap_writer_stats(w);
	assert_int_equal(after.dead, 0);
	assert_int_equal(after.stored, before.stored);
	assert_true(after.written < before.written);
	end(&child, w);
	crash_disk_clear(&child.disk);
	child.disk = second;
	check(&child);
	shot_clear(&child);
	shot_clear(&root);
}

static void what_lies_in_parents_can_be_stored_anew(void **state)
{
	struct shot root, child, alone;
	guint runs;
	SnapWriter *w;

	make_root(&root, 'r', 6, 120);
	w = begin_child(&child, &root, 'c', 6, 0);
	assert_int_equal(model_play(&child.model, w, 20), 0);
	end(&child, w);
	w = begin_child(&alone, &child, 'a', 7, 1);
	assert_int_equal(model_play(&alone.model, w, 20), 0);
	for (guint i = 0; i < snap_div_up(PAGES, SNAP_REGION_PAGES); i++) {
		assert_int_equal(snap_writer_runs(w, i, &runs), 0);
		assert_in_range(runs, 1, SNAP_REGION_PAGES);
		assert_int_equal(snap_writer_unshare(w, i, alone.model.codec),
				 0);
	}
	assert_int_equal(model_play(&alone.model, w, 5), 0);
	end(&alone, w);
	alone.n_parents = 0;
	check(&alone);
	shot_clear(&alone);
	shot_clear(&child);
	shot_clear(&root);
}

/* ---- what is wrong ---- */

/* A small parent and a child that uses all of its live extents. */
struct pair {
	struct shot root;
	struct shot child;
};

static int setup(void **state)
{
	static const uint16_t first[4] = { 0, 1, 2, 9 }, again[2] = { 1, 9 };
	struct pair *p = g_new0(struct pair, 1);
	SnapWriter *w = begin(&p->root, 'r', 3, 0);

	model_put(&p->root.model, w, 0, first, 4);
	model_put(&p->root.model, w, 0, again, 2);
	model_fill(&p->root.model, w, 50, 3, 0xee);
	model_put(&p->root.model, w, 2, again, 2);
	end(&p->root, w);
	w = begin_child(&p->child, &p->root, 'c', 4, 0);
	model_put(&p->child.model, w, 1, first, 4);
	end(&p->child, w);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct pair *p = *state;

	shot_clear(&p->child);
	shot_clear(&p->root);
	g_free(p);
	return 0;
}

static void a_missing_parent_is_an_error_only_where_it_is_needed(void **state)
{
	struct pair *p = *state;
	g_autoptr(SnapReader) r = open_alone(&p->child);
	g_autoptr(GError) error = NULL;
	struct snap_node node;
	struct snap_leaf leaf;
	uint8_t data[SNAP_EXTENT_BYTES];

	assert_int_equal(model_read(&p->child.model, r), -ENOLINK);
	assert_int_equal(snap_verify(r, NULL, NULL, NULL, &error), -ENOLINK);
	assert_non_null(strstr(error->message, "parent 1 is missing"));
	assert_int_equal(snap_reader_node(r, 0, &node), 0);
	assert_int_equal(snap_reader_leaf(r, 1, &node.entries[1], &leaf), 0);
	assert_int_equal(leaf.segments[0].layer, 0);
	assert_int_equal(snap_reader_extent(r, &leaf.segments[0],
					    p->child.model.codec, data),
			 0);
}

/* Offers bytes that are refused. */
static void refuse(struct pair *p, const void *bytes, gsize size,
		   const char *words)
{
	g_autoptr(SnapReader) r = open_alone(&p->child);
	g_autoptr(GError) error = NULL;

	assert_int_equal(snap_reader_set_layer(
				 r, 0, memory_file_new(bytes, size), &error),
			 -EBADMSG);
	assert_int_equal(error->code, EBADMSG);
	if (!strstr(error->message, words))
		fail_msg("\"%s\" says not \"%s\"", error->message, words);
	assert_int_equal(model_read(&p->child.model, r), -ENOLINK);
}

static void another_file_is_no_parent(void **state)
{
	struct pair *p = *state;
	struct shot same, other;

	make_root(&same, 'r', 99, 3);
	refuse(p, same.disk.all->data, same.disk.all->len, "another file");
	make_root(&other, 'o', 98, 3);
	refuse(p, other.disk.all->data, other.disk.all->len, "another file");
	refuse(p, "", 0, "too few");
	shot_clear(&other);
	shot_clear(&same);
}

static void a_cut_parent_is_refused(void **state)
{
	struct pair *p = *state;
	const GByteArray *all = p->root.disk.all;

	for (gsize size = 192; size < all->len; size++)
		refuse(p, all->data, size, "no valid end");
}

static void a_flipped_bit_in_any_byte_of_a_parent_is_found(void **state)
{
	struct pair *p = *state;
	GByteArray *all = p->root.disk.all;
	guint refused = 0, bad = 0;

	for (gsize at = 0; at < all->len; at++) {
		g_autoptr(SnapReader) r = open_alone(&p->child);

		all->data[at] ^= 1 << at % 8;
		if (snap_reader_set_layer(r, 0, file_of(&p->root), NULL) < 0) {
			refused++;
		} else {
			bad += model_read(&p->child.model, r) < 0;
			assert_int_equal(snap_verify(r, NULL, NULL, NULL, NULL),
					 -EBADMSG);
		}
		all->data[at] ^= 1 << at % 8;
	}
	assert_true(refused > 0);
	assert_true(bad > 0);
	check(&p->child);
}

/* The record of the only parent. */
static struct snap_disk_layer *record(struct pair *p)
{
	uint8_t *end = p->child.disk.all->data + p->child.disk.all->len -
		       sizeof(struct snap_disk_trailer);

	return (struct snap_disk_layer *)(end - sizeof(struct snap_disk_layer));
}

static bool is_found(struct pair *p)
{
	const GByteArray *all = p->child.disk.all;
	bool is_found = true;
	SnapReader *r;

	image_fixup(all->data, all->len);
	if (snap_reader_open(file_of(&p->child), &r, NULL) < 0)
		return true;
	if (snap_reader_set_layer(r, 0, file_of(&p->root), NULL) == 0)
		is_found = snap_verify(r, NULL, NULL, NULL, NULL) < 0;
	snap_reader_free(r);
	return is_found;
}

static void a_wrong_record_is_found_under_right_checksums(void **state)
{
	struct pair *p = *state;
	uint8_t *bytes = (uint8_t *)record(p);

	assert_int_equal(record(p)->uuid[0], 'r');
	for (gsize bit = 0; bit < sizeof(struct snap_disk_layer) * 8; bit++) {
		bytes[bit / 8] ^= 1 << bit % 8;
		if (!is_found(p))
			fail_msg("bit %zu of byte %zu", bit % 8, bit / 8);
		bytes[bit / 8] ^= 1 << bit % 8;
	}
	image_fixup(p->child.disk.all->data, p->child.disk.all->len);
	check(&p->child);
}

static void a_wrong_place_in_a_parent_is_found_by_verify(void **state)
{
	struct pair *p = *state;
	GByteArray *all = p->child.disk.all;
	g_autofree uint8_t *saved = g_memdup2(all->data, all->len);
	struct snap_disk_segment *s = NULL;

	/* The leaf of region 0 has a run of the parent in front. */
	for (gsize at = 64; !s; at++)
		if (!memcmp(all->data + at, SNAP_DISK_LEAF, 4))
			s = (struct snap_disk_segment *)(all->data + at + 16);
	assert_int_equal(snap_le64(s->where) >> 48, 1);
	for (gsize bit = 0; bit < 12 * 8; bit++) {
		((uint8_t *)s)[bit / 8] ^= 1 << bit % 8;
		if (!is_found(p))
			fail_msg("bit %zu of byte %zu", bit % 8, bit / 8);
		memcpy(all->data, saved, all->len);
	}
	check(&p->child);
}

/* Declares a parent of that name, which will not be read. */
static int declare_root(SnapWriter *w, uint8_t name)
{
	struct shot root;
	SnapReader *r;
	uint8_t number;
	int code;

	make_root(&root, name, 1, 1);
	r = open_alone(&root);
	code = snap_writer_layer(w, r, 0, &number);
	snap_reader_free(r);
	shot_clear(&root);
	return code;
}

static void the_writer_refuses_what_makes_no_sense(void **state)
{
	struct pair *p = *state;
	g_autoptr(SnapReader) r = open_shot(&p->root);
	struct snap_layer layer = snap_reader_as_layer(r);
	struct snap_segment good = { .kind = SNAP_SEGMENT_EXTENT,
				     .count = 2,
				     .pages = 4,
				     .layer = 1,
				     .offset = 64,
				     .length = 50 };
	struct snap_segment run = good;
	struct shot s;
	SnapWriter *w = begin(&s, 'w', 1, 0);
	uint8_t number;

	assert_int_equal(snap_writer_share(w, 0, &good), -EINVAL);
	assert_int_equal(snap_writer_layer(w, r, 0, &number), 0);
	assert_int_equal(number, 1);
	assert_int_equal(snap_writer_share(w, 0, &good), 0);
	for (guint i = 0; i < 6; i++) {
		run = good;
		run.layer = i == 0 ? 2 : 1;
		run.first = i == 1 ? 3 : 0;
		run.count = i == 2 ? 0 : 2;
		run.page = i == 3 ? 511 : 0;
		run.offset = i == 4 ? layer.size : 64;
		run.length = i == 5 ? (uint32_t)layer.size : 50;
		assert_int_equal(snap_writer_share(w, 0, &run), -EINVAL);
	}
	assert_int_equal(declare_root(w, 'w'), -EINVAL);
	assert_int_equal(declare_root(w, 'r'), 0);
	for (guint i = 1; i < SNAP_LAYERS_MAX; i++)
		assert_int_equal(declare_root(w, (uint8_t)('A' + i)), 0);
	assert_int_equal(declare_root(w, '!'), -E2BIG);
	snap_writer_free(w);
	shot_clear(&s);
}

static void no_parent_comes_after_the_first_extent(void **state)
{
	static const uint16_t pages[1] = { 5 };
	struct pair *p = *state;
	g_autoptr(SnapReader) r = open_shot(&p->root);
	struct shot s;
	SnapWriter *w = begin(&s, 'w', 1, 0);
	uint8_t number;

	assert_int_equal(model_put(&s.model, w, 0, pages, 1), 0);
	assert_int_equal(snap_writer_layer(w, r, 0, &number), -EINVAL);
	/* It is too late for that, too. */
	snap_writer_expect_parents(w);
	assert_int_equal(snap_writer_layer(w, r, 0, &number), -EINVAL);
	end(&s, w);
	check(&s);
	shot_clear(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test(name)
		TEST(a_child_reads_as_its_parent_and_its_own_pages),
		TEST(a_snapshot_names_the_files_that_hold_its_pages),
		TEST(parents_that_nothing_uses_are_left_out),
		TEST(compaction_leaves_alone_what_lies_in_a_parent),
		TEST(what_lies_in_parents_can_be_stored_anew),
		TEST(a_missing_parent_is_an_error_only_where_it_is_needed),
		TEST(another_file_is_no_parent),
		TEST(a_cut_parent_is_refused),
		TEST(a_flipped_bit_in_any_byte_of_a_parent_is_found),
		TEST(a_wrong_record_is_found_under_right_checksums),
		TEST(a_wrong_place_in_a_parent_is_found_by_verify),
		TEST(the_writer_refuses_what_makes_no_sense),
		TEST(no_parent_comes_after_the_first_extent),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
