/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The map of a snapshot that is being written, compared with an array of
 * pages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>

#include "format/image/map-internal.h"

#define REGIONS 40u

/* The content of a page. */
struct page {
	enum snap_segment_kind kind;
	uint8_t fill;
	uint8_t index; /* within the extent */
	uint64_t offset;
};

struct reference {
	struct page pages[REGIONS][SNAP_REGION_PAGES];
	GRand *rand;
	uint64_t next; /* offset of the next extent */
	uint64_t dead;
};

/* Makes a random run: an extent, a fill or zeros. */
static struct snap_segment invent(struct reference *ref)
{
	struct snap_segment s = { 0 };
	int most = SNAP_REGION_PAGES;

	s.kind = (enum snap_segment_kind)MIN(g_rand_int_range(ref->rand, 0, 9),
					     2);
	if (s.kind == SNAP_SEGMENT_FILL)
		s.fill = (uint8_t)g_rand_int_range(ref->rand, 1, 3);
	if (s.kind == SNAP_SEGMENT_EXTENT) {
		s.pages = (uint8_t)g_rand_int_range(ref->rand, 1, 17);
		s.first = (uint8_t)g_rand_int_range(ref->rand, 0, s.pages);
		s.length = 1000;
		s.offset = ref->next;
		ref->next += s.length;
		most = s.pages - s.first;
	}
	s.count = (uint16_t)g_rand_int_range(ref->rand, 1, most + 1);
	s.page = (uint16_t)g_rand_int_range(ref->rand, 0,
					    SNAP_REGION_PAGES - s.count + 1);
	return s;
}

static void reference_put(struct reference *ref, guint region,
			  const struct snap_segment *s)
{
	for (guint i = 0; i < s->count; i++)
		ref->pages[region][s->page + i] =
			(struct page){ .kind = s->kind,
				       .fill = s->fill,
				       .index = (uint8_t)(s->first + i),
				       .offset = s->offset };
}

static void check_leaf(const struct reference *ref, guint region,
		       const struct snap_leaf *leaf)
{
	guint page = 0;

	for (guint i = 0; i < leaf->n; i++) {
		const struct snap_segment *s = &leaf->segments[i];

		assert_int_equal(s->page, page);
		for (guint j = 0; j < s->count; j++, page++) {
			const struct page *is = &ref->pages[region][page];

			assert_int_equal(s->kind, is->kind);
			if (s->kind == SNAP_SEGMENT_FILL)
				assert_int_equal(s->fill, is->fill);
			if (s->kind != SNAP_SEGMENT_EXTENT)
				continue;
			assert_int_equal(s->offset, is->offset);
			assert_int_equal(s->first + j, is->index);
		}
	}
	assert_int_equal(page, SNAP_REGION_PAGES);
}

static void play(struct reference *ref, SnapMap *map, guint steps)
{
	struct snap_leaf leaf;

	for (guint i = 0; i < steps; i++) {
		guint region = (guint)g_rand_int_range(ref->rand, 0, REGIONS);
		struct snap_segment s = invent(ref);
		struct snap_splice gone;

		assert_int_equal(snap_map_splice(map, region, &s, &gone), 0);
		reference_put(ref, region, &s);
		ref->dead += gone.dead;
	}
	for (guint i = 0; i < REGIONS; i++) {
		assert_int_equal(snap_map_get(map, i, &leaf), 0);
		check_leaf(ref, i, &leaf);
	}
}

static SnapMap *map_new(uint64_t memory)
{
	SnapFile *scratch;

	assert_int_equal(snap_file_scratch(AT_FDCWD, &scratch), 0);
	return snap_map_new(scratch, memory);
}

static struct reference *reference_new(guint32 seed)
{
	struct reference *ref = g_new0(struct reference, 1);

	ref->rand = g_rand_new_with_seed(seed);
	ref->next = 64;
	return ref;
}

static void reference_free(struct reference *ref)
{
	g_rand_free(ref->rand);
	g_free(ref);
}

static void knows_the_newest_content_of_each_page(void **state)
{
	for (guint32 seed = 0; seed < 10; seed++) {
		struct reference *ref = reference_new(seed);
		g_autoptr(SnapMap) map = map_new(SNAP_GIB);

		play(ref, map, 3000);
		reference_free(ref);
	}
}

static void knows_it_from_the_scratch_file_too(void **state)
{
	for (guint32 seed = 0; seed < 10; seed++) {
		struct reference *ref = reference_new(seed);
		struct reference *same = reference_new(seed);
		g_autoptr(SnapMap) tiny = map_new(1);
		g_autoptr(SnapMap) map = map_new(SNAP_GIB);

		play(ref, tiny, 3000);
		play(same, map, 3000);
		assert_int_equal(ref->dead, same->dead);
		reference_free(ref);
		reference_free(same);
	}
}

static void keeps_no_leaf_of_regions_that_stay_zero(void **state)
{
	g_autoptr(SnapMap) map = map_new(SNAP_GIB);
	struct snap_segment s = { .kind = SNAP_SEGMENT_ZERO, .count = 512 };
	struct snap_splice gone;

	assert_int_equal(snap_map_splice(map, 1000000, &s, &gone), 0);
	assert_false(snap_map_has(map, 1000000));
	assert_int_equal(snap_map_regions(map), 0);
}

static void joins_neighbours_that_are_the_same(void **state)
{
	struct snap_segment s[SNAP_REGION_PAGES] = {
		{ .kind = SNAP_SEGMENT_ZERO, .count = 512 },
	};
	struct snap_segment run = { .kind = SNAP_SEGMENT_EXTENT,
				    .page = 10,
				    .count = 4,
				    .pages = 8,
				    .offset = 64,
				    .length = 100 };
	struct snap_splice gone;
	guint n = 1;

	n = snap_leaf_splice(s, n, &run, &gone);
	assert_int_equal(n, 3);
	run.page = 14;
	run.first = 4;
	n = snap_leaf_splice(s, n, &run, &gone);
	assert_int_equal(n, 3);
	assert_int_equal(s[1].count, 8);
	run = (struct snap_segment){ .kind = SNAP_SEGMENT_ZERO,
				     .page = 10,
				     .count = 8 };
	n = snap_leaf_splice(s, n, &run, &gone);
	assert_int_equal(n, 1);
	assert_int_equal(gone.dead, 100);
	assert_int_equal(gone.pages, 8);
}

/* An extent of 100 bytes in 7 pages: in whatever order they die, all of it is
 * dead at last. */
static void the_parts_of_a_dead_extent_add_up(void **state)
{
	for (guint step = 1; step <= 7; step++) {
		struct snap_segment s[SNAP_REGION_PAGES] = {
			{ .kind = SNAP_SEGMENT_ZERO, .count = 512 },
		};
		struct snap_segment run = { .kind = SNAP_SEGMENT_EXTENT,
					    .page = 100,
					    .count = 7,
					    .pages = 7,
					    .offset = 64,
					    .length = 100 };
		struct snap_splice gone;
		uint64_t dead = 0;
		guint n = snap_leaf_splice(s, 1, &run, &gone);

		for (guint i = 0; i < 7; i += step) {
			struct snap_segment zero = {
				.page = (uint16_t)(100 + i),
				.count = (uint16_t)MIN(step, 7 - i),
			};

			n = snap_leaf_splice(s, n, &zero, &gone);
			dead += gone.dead;
			if (i + step < 7)
				assert_in_range(dead, 1, 99);
		}
		assert_int_equal(dead, 100);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_the_newest_content_of_each_page),
		cmocka_unit_test(knows_it_from_the_scratch_file_too),
		cmocka_unit_test(keeps_no_leaf_of_regions_that_stay_zero),
		cmocka_unit_test(joins_neighbours_that_are_the_same),
		cmocka_unit_test(the_parts_of_a_dead_extent_add_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
