/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a damaged file, a reader gives right bytes or an error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "format/base/crc32c.h"
#include "format/base/error.h"
#include "format/image/ondisk.h"
#include "tests/lib/image-fixup.h"
#include "tests/unit/image/model.h"

/* A small snapshot with everything in it: extents that are live, partly dead
 * and dead, fills, an empty region, device state. */
struct small {
	struct model model;
	struct crash_disk disk;
	uint8_t *bytes;
	gsize size;
};

static int setup(void **state)
{
	static const uint16_t first[4] = { 0, 1, 2, 9 }, again[2] = { 1, 9 },
			      dead[2] = { 100, 101 };
	struct small *s = g_new0(struct small, 1);
	SnapWriter *w;

	model_init(&s->model, 3 * SNAP_REGION_PAGES, 3);
	crash_disk_init(&s->disk);
	w = model_writer(&s->disk, 0);
	model_put(&s->model, w, 0, first, 4);
	model_put(&s->model, w, 0, dead, 2);
	model_put(&s->model, w, 0, again, 2);
	model_fill(&s->model, w, 100, 2, 0);
	model_fill(&s->model, w, 50, 3, 0xee);
	model_put(&s->model, w, 2, again, 2);
	if (model_commit(&s->model, w, -1, "x", NULL) < 0)
		return -1;
	snap_writer_free(w);
	s->bytes = s->disk.all->data;
	s->size = s->disk.all->len;
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct small *s = *state;

	model_clear(&s->model);
	crash_disk_clear(&s->disk);
	g_free(s);
	return 0;
}

static int open_bytes(const void *bytes, gsize size, SnapReader **ret_reader,
		      GError **error)
{
	return snap_reader_open(memory_file_new(bytes, size), ret_reader,
				error);
}

/* Opens bytes that must be refused with this errno and a sentence with these
 * words. */
static void refuse(const void *bytes, gsize size, int code, const char *words)
{
	GError *error = NULL;
	SnapReader *r;

	assert_int_equal(open_bytes(bytes, size, &r, &error), -code);
	assert_non_null(error);
	assert_int_equal(error->code, code);
	if (!strstr(error->message, words))
		fail_msg("\"%s\" says not \"%s\"", error->message, words);
	g_error_free(error);
}

static void the_small_file_is_whole(void **state)
{
	struct small *s = *state;
	SnapReader *r;

	assert_int_equal(open_bytes(s->bytes, s->size, &r, NULL), 0);
	assert_int_equal(model_read(&s->model, r), 0);
	assert_int_equal(snap_verify(r, NULL, NULL, NULL, NULL), 0);
	snap_reader_free(r);
}

/* ---- bits ---- */

static void any_flipped_bit_is_found(void **state)
{
	struct small *s = *state;
	guint survived = 0;

	for (gsize bit = 0; bit < s->size * 8; bit++) {
		GError *error = NULL;
		SnapReader *r;

		s->bytes[bit / 8] ^= 1 << bit % 8;
		if (open_bytes(s->bytes, s->size, &r, &error) == 0) {
			/* model_read compares every byte that it gets. */
			survived += model_read(&s->model, r) == 0;
			assert_int_equal(
				snap_verify(r, NULL, NULL, NULL, &error),
				-EBADMSG);
			snap_reader_free(r);
		}
		assert_non_null(error);
		g_error_free(error);
		s->bytes[bit / 8] ^= 1 << bit % 8;
	}
	/* A reader does not read extents without references. */
	assert_true(survived > 0);
	assert_true(survived < s->size * 8 / 2);
}

static void verify_names_the_place(void **state)
{
	struct small *s = *state;
	GError *error = NULL;
	SnapReader *r;

	s->bytes[64 + 30] ^= 1;
	assert_int_equal(open_bytes(s->bytes, s->size, &r, NULL), 0);
	assert_int_equal(snap_verify(r, NULL, NULL, NULL, &error), -EBADMSG);
	assert_non_null(strstr(error->message, "at byte 64"));
	g_error_free(error);
	snap_reader_free(r);
	s->bytes[64 + 30] ^= 1;
}

/* ---- ends ---- */

static void any_cut_is_refused(void **state)
{
	struct small *s = *state;

	for (gsize size = 0; size < s->size; size++)
		refuse(s->bytes, size, ENODATA, "no valid end");
}

static void a_file_that_has_grown_is_refused(void **state)
{
	struct small *s = *state;
	g_autofree uint8_t *longer = g_malloc0(s->size + 200);

	memcpy(longer, s->bytes, s->size);
	for (gsize more = 1; more < 200; more++)
		refuse(longer, s->size + more, ENODATA, "no valid end");
	/* With a second trailer after the first. */
	memcpy(longer + s->size, s->bytes + s->size - 128, 128);
	refuse(longer, s->size + 128, EBADMSG, "was written with");
}

static void a_foreign_file_is_refused(void **state)
{
	g_autofree char *text = g_strnfill(5000, 'x');

	refuse(text, 5000, ENODATA, "no snapshot file");
}

/* ---- what a later program may have written ---- */

static struct snap_disk_superblock *superblock(struct small *s)
{
	return (struct snap_disk_superblock *)s->bytes;
}

static struct snap_disk_trailer *trailer(struct small *s)
{
	return (struct snap_disk_trailer *)(s->bytes + s->size -
					    sizeof(struct snap_disk_trailer));
}

/* The first entry of a node, or of the top. */
static struct snap_disk_entry *first_entry(struct small *s,
					   const struct snap_disk_entry *e)
{
	return (struct snap_disk_entry *)(s->bytes + snap_le64(e->where) +
					  sizeof(struct snap_disk_node));
}

static void refuses_an_unknown_feature_by_its_bits(void **state)
{
	struct small *s = *state;

	superblock(s)->incompat = snap_to_le64(0x8000000000000010);
	image_fixup(s->bytes, s->size);
	refuse(s->bytes, s->size, EOPNOTSUPP, "0x8000000000000010");
	superblock(s)->incompat = snap_to_le64(0);
	image_fixup(s->bytes, s->size);
	the_small_file_is_whole(state);
}

static void ignores_an_unknown_compatible_feature(void **state)
{
	struct small *s = *state;

	superblock(s)->compat = snap_to_le64(UINT64_MAX);
	image_fixup(s->bytes, s->size);
	the_small_file_is_whole(state);
	superblock(s)->compat = snap_to_le64(0);
	image_fixup(s->bytes, s->size);
}

static void refuses_a_later_version(void **state)
{
	struct small *s = *state;

	trailer(s)->version = snap_to_le32(2);
	image_fixup(s->bytes, s->size);
	refuse(s->bytes, s->size, EOPNOTSUPP, "version 2");
	trailer(s)->version = snap_to_le32(1);
	superblock(s)->version = snap_to_le32(7);
	image_fixup(s->bytes, s->size);
	refuse(s->bytes, s->size, EOPNOTSUPP, "version 7");
	superblock(s)->version = snap_to_le32(1);
	image_fixup(s->bytes, s->size);
}

/* Finds a record of the properties. */
static struct snap_disk_property *property(struct small *s, uint16_t key)
{
	uint8_t *frame = s->bytes + snap_le64(trailer(s)->properties.where);
	gsize at = sizeof(struct snap_disk_frame);

	for (;;) {
		struct snap_disk_property *p =
			(struct snap_disk_property *)(frame + at);

		if (snap_le16(p->key) == key)
			return p;
		at += sizeof(*p) + snap_le32(p->length);
		assert_true(at < snap_le32(trailer(s)->properties.length));
	}
}

static void refuses_an_unknown_property_but_an_ignorable_one(void **state)
{
	struct small *s = *state;
	struct snap_disk_property *p = property(s, SNAP_DISK_KEY_MACHINE);

	p->key = snap_to_le16(0x8777);
	image_fixup(s->bytes, s->size);
	the_small_file_is_whole(state);
	p->key = snap_to_le16(0x777);
	image_fixup(s->bytes, s->size);
	refuse(s->bytes, s->size, EOPNOTSUPP, "property 1911");
	p->key = snap_to_le16(SNAP_DISK_KEY_MACHINE);
	image_fixup(s->bytes, s->size);
}

static void refuses_parents_that_it_does_not_list(void **state)
{
	struct small *s = *state;
	struct snap_disk_property *p = property(s, SNAP_DISK_KEY_CREATED);
	struct snap_disk_entry *e;

	/* A file that may have parents need not have any. */
	superblock(s)->incompat = snap_to_le64(SNAP_INCOMPAT_LAYERS);
	image_fixup(s->bytes, s->size);
	the_small_file_is_whole(state);

	/* What stood for a parent before there were any. */
	p->key = snap_to_le16(4);
	image_fixup(s->bytes, s->size);
	refuse(s->bytes, s->size, EOPNOTSUPP, "property 4");
	p->key = snap_to_le16(SNAP_DISK_KEY_LAYER);
	image_fixup(s->bytes, s->size);
	refuse(s->bytes, s->size, EBADMSG, "a parent");
	p->key = snap_to_le16(SNAP_DISK_KEY_CREATED);

	/* The map never lies in a parent. */
	e = first_entry(s, &trailer(s)->top);
	e->where.b[6] = 1;
	image_fixup(s->bytes, s->size);
	refuse(s->bytes, s->size, EBADMSG, "top of the map");
	e->where.b[6] = 0;
	superblock(s)->incompat = snap_to_le64(0);
	image_fixup(s->bytes, s->size);
	the_small_file_is_whole(state);
}

/* ---- wrong structures under right checksums ---- */

/* True when opening or verifying finds a fault. */
static bool is_refused(struct small *s)
{
	GError *error = NULL;
	SnapReader *r;

	image_fixup(s->bytes, s->size);
	if (open_bytes(s->bytes, s->size, &r, &error) == 0) {
		snap_verify(r, NULL, NULL, NULL, &error);
		snap_reader_free(r);
	}
	if (!error)
		return false;
	g_error_free(error);
	return true;
}

/* Bytes of a frame whose change cannot be found: checksums, which are made
 * right again, and values that only the writer knows. */
typedef bool (*free_byte)(const uint8_t *frame, gsize at);

static bool free_in_node(const uint8_t *frame, gsize at)
{
	gsize in = at - sizeof(struct snap_disk_node);

	in %= sizeof(struct snap_disk_entry);
	return at >= sizeof(struct snap_disk_node) && in >= 12 && in < 16;
}

static bool free_in_leaf(const uint8_t *frame, gsize at)
{
	gsize in = at - sizeof(struct snap_disk_leaf);
	const struct snap_disk_segment *s;

	if (at < sizeof(struct snap_disk_leaf))
		return false;
	in %= sizeof(*s);
	s = (const struct snap_disk_segment *)(frame + at - in);
	return (in >= 12 && in < 16) ||
	       in == offsetof(struct snap_disk_segment, fill) ||
	       (s->kind == SNAP_DISK_SEGMENT_EXTENT &&
		in == offsetof(struct snap_disk_segment, first));
}

/* Flips every bit of a frame of the map; all checksums are right. */
static void try_frame(struct small *s, const struct snap_disk_entry *e,
		      free_byte is_free)
{
	gsize from = snap_le64(e->where), length = snap_le32(e->length);
	g_autofree uint8_t *saved = g_memdup2(s->bytes, s->size);

	for (gsize bit = 0; bit < length * 8; bit++) {
		if (is_free(s->bytes + from, bit / 8))
			continue;
		s->bytes[from + bit / 8] ^= 1 << bit % 8;
		if (!is_refused(s))
			fail_msg("bit %zu of byte %zu of the frame at %zu",
				 bit % 8, bit / 8, from);
		memcpy(s->bytes, saved, s->size);
	}
}

static void a_wrong_map_is_found_under_right_checksums(void **state)
{
	struct small *s = *state;
	struct snap_disk_entry *top = &trailer(s)->top;
	struct snap_disk_entry *node = first_entry(s, top);
	struct snap_disk_entry *leaf = first_entry(s, node);

	try_frame(s, top, free_in_node);
	try_frame(s, node, free_in_node);
	try_frame(s, leaf, free_in_leaf);
	the_small_file_is_whole(state);
}

static bool stop_at_once(uint64_t done, uint64_t all, void *data)
{
	*(uint64_t *)data = all;
	return false;
}

static bool count_up(uint64_t done, uint64_t all, void *data)
{
	assert_true(done <= all && done >= *(uint64_t *)data);
	*(uint64_t *)data = done;
	return true;
}

static void verify_reports_progress_and_can_be_stopped(void **state)
{
	struct small *s = *state;
	uint64_t told = 0;
	SnapReader *r;

	assert_int_equal(open_bytes(s->bytes, s->size, &r, NULL), 0);
	assert_int_equal(snap_verify(r, NULL, count_up, &told, NULL), 0);
	assert_int_equal(told, s->size);
	assert_int_equal(snap_verify(r, NULL, stop_at_once, &told, NULL),
			 -ECANCELED);
	assert_int_equal(told, s->size);
	snap_reader_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_small_file_is_whole),
		cmocka_unit_test(any_flipped_bit_is_found),
		cmocka_unit_test(verify_names_the_place),
		cmocka_unit_test(any_cut_is_refused),
		cmocka_unit_test(a_file_that_has_grown_is_refused),
		cmocka_unit_test(a_foreign_file_is_refused),
		cmocka_unit_test(refuses_an_unknown_feature_by_its_bits),
		cmocka_unit_test(ignores_an_unknown_compatible_feature),
		cmocka_unit_test(refuses_a_later_version),
		cmocka_unit_test(
			refuses_an_unknown_property_but_an_ignorable_one),
		cmocka_unit_test(refuses_parents_that_it_does_not_list),
		cmocka_unit_test(a_wrong_map_is_found_under_right_checksums),
		cmocka_unit_test(verify_reports_progress_and_can_be_stopped),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
