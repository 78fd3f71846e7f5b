/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A snapshot reads as it was written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "format/base/error.h"
#include "tests/unit/image/model.h"

/* Opens, verifies and reads the file on the disk. */
static void check(const struct model *m, const struct crash_disk *disk)
{
	g_autoptr(GByteArray) bytes = NULL;
	SnapReader *r = model_open(disk, &bytes);
	GError *error = NULL;

	if (snap_verify(r, NULL, NULL, NULL, &error) < 0)
		fail_msg("%s", error->message);
	assert_int_equal(model_read(m, r), 0);
	snap_reader_free(r);
}

static void pages_read_as_they_were_written_last(void **state)
{
	for (guint32 seed = 0; seed < 20; seed++) {
		struct crash_disk disk;
		struct model m;
		SnapWriter *w;

		crash_disk_init(&disk);
		model_init(&m, 1 + seed * 173, seed);
		w = model_writer(&disk, 0);
		assert_int_equal(model_play(&m, w, 20 * seed), 0);
		assert_int_equal(model_commit(&m, w, -1, "x", NULL), 0);
		snap_writer_free(w);
		check(&m, &disk);
		model_clear(&m);
		crash_disk_clear(&disk);
	}
}

static void a_map_that_spills_gives_the_same_file(void **state)
{
	struct crash_disk disks[2];

	for (int i = 0; i < 2; i++) {
		struct model m;
		SnapWriter *w;

		crash_disk_init(&disks[i]);
		model_init(&m, 5000, 42);
		w = model_writer(&disks[i], i ? 1 : SNAP_GIB);
		assert_int_equal(model_play(&m, w, 1500), 0);
		assert_int_equal(model_commit(&m, w, -1, "x", NULL), 0);
		snap_writer_free(w);
		check(&m, &disks[i]);
		model_clear(&m);
	}
	assert_int_equal(disks[0].all->len, disks[1].all->len);
	assert_memory_equal(disks[0].all->data, disks[1].all->data,
			    disks[0].all->len);
	crash_disk_clear(&disks[0]);
	crash_disk_clear(&disks[1]);
}

static void check_compacted(guint32 seed, uint64_t map_memory)
{
	struct crash_disk first, second;
	struct snap_writer_stats before, after;
	struct model m;
	SnapWriter *w;

	crash_disk_init(&first);
	crash_disk_init(&second);
	model_init(&m, 3000, seed);
	w = model_writer(&first, map_memory);
	assert_int_equal(model_play(&m, w, 1000), 0);
	before = snap_writer_stats(w);
	assert_true(before.dead > before.written / 4);
	assert_true(before.dead < before.written);
	assert_int_equal(
		snap_writer_compact(w, crash_file_new(&second), m.codec, NULL),
		0);
	assert_true(first.is_closed);
	after = snap_writer_stats(w);
	assert_int_equal(after.dead, 0);
	assert_int_equal(after.stored, before.stored);
	assert_int_equal(after.written, second.all->len);
	/* About the size of the live pages: pages were gathered anew. */
	assert_in_range(after.written, 1, before.written - before.dead / 2);
	/* Later pages find their place. */
	assert_int_equal(model_play(&m, w, 100), 0);
	assert_int_equal(model_commit(&m, w, -1, "x", NULL), 0);
	snap_writer_free(w);
	check(&m, &second);
	model_clear(&m);
	crash_disk_clear(&first);
	crash_disk_clear(&second);
}

static void compaction_keeps_the_pages_and_drops_the_dead(void **state)
{
	for (guint32 seed = 0; seed < 5; seed++) {
		check_compacted(seed, 0);
		check_compacted(seed, 1);
	}
}

static void compaction_does_not_copy_damage(void **state)
{
	static const uint16_t pages[2] = { 3, 4 };
	struct crash_disk first, second;
	GError *error = NULL;
	struct model m;
	SnapWriter *w;

	crash_disk_init(&first);
	crash_disk_init(&second);
	model_init(&m, 512, 1);
	w = model_writer(&first, 0);
	assert_int_equal(model_put(&m, w, 0, pages, 2), 0);
	first.all->data[70] ^= 1;
	assert_int_equal(snap_writer_compact(w, crash_file_new(&second),
					     m.codec, &error),
			 -EBADMSG);
	assert_non_null(error);
	assert_int_equal(model_put(&m, w, 0, pages, 2), -EBADMSG);
	assert_int_equal(model_commit(&m, w, -1, "x", NULL), -EBADMSG);
	assert_false(second.is_published);
	g_error_free(error);
	snap_writer_free(w);
	model_clear(&m);
	crash_disk_clear(&first);
	crash_disk_clear(&second);
}

static void dead_bytes_are_counted_exactly(void **state)
{
	uint16_t pages[16];
	struct crash_disk disk;
	struct model m;
	SnapWriter *w;
	uint64_t first;

	for (uint16_t i = 0; i < 16; i++)
		pages[i] = i;
	crash_disk_init(&disk);
	model_init(&m, 512, 1);
	w = model_writer(&disk, 0);
	model_put(&m, w, 0, pages, 16);
	first = m.extents;
	assert_int_equal(snap_writer_stats(w).stored, 16);
	model_put(&m, w, 0, pages, 8);
	assert_int_equal(snap_writer_stats(w).dead, first / 2);
	assert_int_equal(snap_writer_stats(w).stored, 16);
	model_fill(&m, w, 8, 8, 7);
	assert_int_equal(snap_writer_stats(w).dead, first);
	assert_int_equal(snap_writer_stats(w).stored, 8);
	model_fill(&m, w, 0, 512, 0);
	assert_int_equal(snap_writer_stats(w).dead, m.extents);
	assert_int_equal(snap_writer_stats(w).stored, 0);
	snap_writer_free(w);
	model_clear(&m);
	crash_disk_clear(&disk);
}

/* ---- properties ---- */

static struct snap_meta many_blocks(void)
{
	struct snap_meta meta = { .form = SNAP_FORM_CLASSIC,
				  .created = 1700000000123456789,
				  .machine = "pc-i440fx-9.2",
				  .pages_at = 4711,
				  .ram_section = 3,
				  .target_page = 16384 };
	struct snap_block *b;

	b = snap_meta_add_block(&meta, SNAP_BLOCK_RAM, "pc.ram", 3 * SNAP_MIB);
	b->page_size = 2 * SNAP_MIB;
	b->gpa = 4 * SNAP_GIB;
	b = snap_meta_add_block(&meta, SNAP_BLOCK_RAM, "\xff/\n name", 4096);
	b->ignored = true;
	snap_meta_add_block(&meta, SNAP_BLOCK_STATE, "devstate", 5000);
	return meta;
}

static void check_same(const struct snap_meta *a, const struct snap_meta *b)
{
	assert_int_equal(a->form, b->form);
	assert_memory_equal(a->uuid, b->uuid, 16);
	assert_int_equal(a->created, b->created);
	assert_string_equal(a->machine, b->machine);
	assert_string_equal(a->why, b->why);
	assert_int_equal(a->pages_at, b->pages_at);
	assert_int_equal(a->ram_section, b->ram_section);
	assert_int_equal(a->target_page, b->target_page);
	assert_int_equal(a->footers, b->footers);
	assert_int_equal(a->n_blocks, b->n_blocks);
	for (guint i = 0; i < a->n_blocks; i++) {
		const struct snap_block *c = &a->blocks[i];
		const struct snap_block *d = &b->blocks[i];

		assert_int_equal(c->kind, d->kind);
		assert_string_equal(c->name, d->name);
		assert_int_equal(c->base, d->base);
		assert_int_equal(c->length, d->length);
		assert_int_equal(c->stored, d->stored);
		assert_int_equal(c->page_size, d->page_size);
		assert_int_equal(c->gpa, d->gpa);
		assert_int_equal(c->ignored, d->ignored);
	}
}

static void properties_read_as_they_were_written(void **state)
{
	struct snap_meta meta = many_blocks();
	g_autoptr(GByteArray) bytes = NULL;
	struct crash_disk disk;
	SnapReader *r;
	SnapWriter *w;

	crash_disk_init(&disk);
	w = model_writer(&disk, 0);
	/* Blocks: regions 0 and 1, region 2, region 3. */
	assert_int_equal(snap_writer_fill(w, 0, 3, 1), 0);
	assert_int_equal(snap_writer_fill(w, 512, 5, 1), 0);
	assert_int_equal(snap_writer_fill(w, 1536, 2, 1), 0);
	assert_int_equal(snap_writer_commit(w, &meta, -1, "x", NULL), 0);
	assert_int_equal(meta.blocks[0].stored, 8 * SNAP_PAGE);
	assert_int_equal(meta.blocks[1].stored, 0);
	assert_int_equal(meta.blocks[2].stored, 2 * SNAP_PAGE);
	assert_memory_equal(meta.uuid, "0123456789abcdef", 16);
	r = model_open(&disk, &bytes);
	check_same(snap_reader_meta(r), &meta);
	assert_int_equal(snap_verify(r, NULL, NULL, NULL, NULL), 0);
	assert_int_equal(snap_meta_end(&meta, SNAP_BLOCK_RAM),
			 4 * SNAP_MIB + 4096);
	assert_int_equal(snap_meta_regions(&meta), 4);
	snap_reader_free(r);
	snap_writer_free(w);
	snap_meta_clear(&meta);
	crash_disk_clear(&disk);
}

static void a_verbatim_stream_has_one_block(void **state)
{
	struct snap_meta meta = { .form = SNAP_FORM_VERBATIM,
				  .why = "section vfio is of unknown size" };
	g_autoptr(GByteArray) bytes = NULL;
	struct crash_disk disk;
	SnapReader *r;
	SnapWriter *w;

	snap_meta_add_block(&meta, SNAP_BLOCK_STREAM, "stream", 10000);
	crash_disk_init(&disk);
	w = model_writer(&disk, 0);
	assert_int_equal(snap_writer_commit(w, &meta, -1, "x", NULL), 0);
	r = model_open(&disk, &bytes);
	check_same(snap_reader_meta(r), &meta);
	snap_reader_free(r);
	snap_writer_free(w);
	snap_meta_clear(&meta);
	crash_disk_clear(&disk);
}

/* Commits `meta`, and expects to read the same. */
static void check_written(struct snap_meta *meta)
{
	g_autoptr(GByteArray) bytes = NULL;
	struct crash_disk disk;
	SnapReader *r;
	SnapWriter *w;

	crash_disk_init(&disk);
	w = model_writer(&disk, 0);
	assert_int_equal(snap_writer_commit(w, meta, -1, "x", NULL), 0);
	r = model_open(&disk, &bytes);
	check_same(snap_reader_meta(r), meta);
	assert_int_equal(snap_verify(r, NULL, NULL, NULL, NULL), 0);
	snap_reader_free(r);
	snap_writer_free(w);
	crash_disk_clear(&disk);
}

static void a_stream_may_have_a_preamble(void **state)
{
	struct snap_meta meta = many_blocks();
	struct snap_meta verbatim = { .form = SNAP_FORM_VERBATIM };

	meta.form = SNAP_FORM_MAPPED;
	check_written(&meta);
	snap_meta_add_block(&meta, SNAP_BLOCK_PREAMBLE, "before", 70001);
	check_written(&meta);
	meta.form = SNAP_FORM_CLASSIC;
	check_written(&meta);
	snap_meta_clear(&meta);
	snap_meta_add_block(&verbatim, SNAP_BLOCK_STREAM, "stream", 10000);
	snap_meta_add_block(&verbatim, SNAP_BLOCK_PREAMBLE, "before", 92);
	check_written(&verbatim);
	snap_meta_clear(&verbatim);
}

/* Commits a wrong snapshot; the error must have a sentence. */
static void refuse(struct snap_meta *meta, uint64_t filled)
{
	GError *error = NULL;
	struct crash_disk disk;
	SnapWriter *w;

	crash_disk_init(&disk);
	w = model_writer(&disk, 0);
	assert_int_equal(snap_writer_fill(w, filled, 1, 1), 0);
	assert_int_equal(snap_writer_commit(w, meta, -1, "x", &error), -EINVAL);
	assert_non_null(error);
	assert_false(disk.is_published);
	g_error_free(error);
	snap_writer_free(w);
	crash_disk_clear(&disk);
}

static void never_writes_what_it_would_refuse_to_read(void **state)
{
	struct snap_meta meta = many_blocks();

	refuse(&meta, 4 * SNAP_REGION_PAGES);	  /* past the last block */
	refuse(&meta, 2 * SNAP_REGION_PAGES + 1); /* past its block's end */
	refuse(&meta, 2 * SNAP_REGION_PAGES); /* of a block that is ignored */
	meta.target_page = 12345;
	refuse(&meta, 0);
	meta.target_page = 4096;
	meta.pages_at = 5001;
	refuse(&meta, 0);
	meta.pages_at = 0;
	meta.blocks[1].base += 4096;
	refuse(&meta, 0);
	meta.blocks[1].base -= 4096;
	meta.blocks[1].kind = SNAP_BLOCK_STATE;
	refuse(&meta, 0);
	meta.form = SNAP_FORM_VERBATIM;
	refuse(&meta, 0);
	meta.form = (enum snap_form)4;
	refuse(&meta, 0);
	snap_meta_clear(&meta);
	meta = (struct snap_meta){ .form = SNAP_FORM_VERBATIM };
	snap_meta_add_block(&meta, SNAP_BLOCK_PREAMBLE, "before", 92);
	refuse(&meta, 0); /* nothing but that */
	snap_meta_add_block(&meta, SNAP_BLOCK_STREAM, "stream", 1000);
	refuse(&meta, 0); /* not last */
	snap_meta_clear(&meta);
}

static void refuses_arguments_that_make_no_sense(void **state)
{
	static const uint16_t twice[2] = { 4, 4 }, far[1] = { 512 };
	struct crash_disk disk;
	SnapWriter *w;

	crash_disk_init(&disk);
	w = model_writer(&disk, 0);
	assert_int_equal(snap_writer_extent(w, 0, twice, 2, "x", 1), -EINVAL);
	assert_int_equal(snap_writer_extent(w, 0, far, 1, "x", 1), -EINVAL);
	assert_int_equal(snap_writer_extent(w, 0, far, 0, "x", 1), -EINVAL);
	assert_int_equal(snap_writer_extent(w, 1 << 25, twice, 1, "x", 1),
			 -EINVAL);
	assert_int_equal(snap_writer_fill(w, UINT64_MAX, 2, 1), -EINVAL);
	assert_int_equal(snap_writer_stats(w).written, 0);
	snap_writer_free(w);
	crash_disk_clear(&disk);
}

/* ---- frames ---- */

static void a_frame_holds_exactly_its_pages(void **state)
{
	g_autoptr(SnapCodec) codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	uint8_t data[2 * SNAP_PAGE] = "pages", back[3 * SNAP_PAGE];
	uint8_t frame[SNAP_EXTENT_BOUND + 1] = { 0 };
	ssize_t size = snap_codec_compress(codec, data, 2, frame);

	assert_true(size > 0);
	assert_int_equal(
		snap_codec_decompress(codec, frame, (size_t)size, back, 2), 0);
	assert_memory_equal(data, back, sizeof(data));
	assert_int_equal(
		snap_codec_decompress(codec, frame, (size_t)size, back, 1),
		-EBADMSG);
	assert_int_equal(
		snap_codec_decompress(codec, frame, (size_t)size, back, 3),
		-EBADMSG);
	assert_int_equal(
		snap_codec_decompress(codec, frame, (size_t)size + 1, back, 2),
		-EBADMSG);
	assert_int_equal(
		snap_codec_decompress(codec, frame, (size_t)size - 1, back, 2),
		-EBADMSG);
	frame[size - 1] ^= 0x80; /* zstd's own checksum */
	assert_int_equal(
		snap_codec_decompress(codec, frame, (size_t)size, back, 2),
		-EBADMSG);
}

/* Compresses an extent, and checks that it comes back. Returns its size. */
static size_t pack(SnapCodec *codec, int level, const void *data)
{
	g_autofree void *frame = g_malloc(SNAP_EXTENT_BOUND);
	g_autofree void *back = g_malloc(SNAP_EXTENT_BYTES);
	ssize_t size;

	snap_codec_set_level(codec, level);
	size = snap_codec_compress(codec, data, 16, frame);
	assert_in_range(size, 1, SNAP_EXTENT_BOUND);
	assert_int_equal(
		snap_codec_decompress(codec, frame, (size_t)size, back, 16), 0);
	assert_memory_equal(data, back, SNAP_EXTENT_BYTES);
	return (size_t)size;
}

/* An extent of QEMU's stream has a header of 8 bytes for each page. */
static void
pages_that_do_not_compress_take_no_more_than_in_the_stream(void **state)
{
	g_autoptr(SnapCodec) codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	g_autofree uint32_t *data = g_malloc(SNAP_EXTENT_BYTES);
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);

	for (guint i = 0; i < SNAP_EXTENT_BYTES / 4; i++)
		data[i] = g_rand_int(rand);
	for (int level = SNAP_LEVEL_MIN; level <= SNAP_LEVEL_MAX; level++)
		assert_in_range(pack(codec, level, data), SNAP_EXTENT_BYTES,
				SNAP_EXTENT_BYTES + 16 * 8);
}

/* Lines of text, each with a number of its own. */
static void each_extent_has_its_level(void **state)
{
	g_autoptr(SnapCodec) codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	g_autoptr(GString) text = g_string_new(NULL);
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);
	size_t fast, one, high;

	while (text->len < SNAP_EXTENT_BYTES)
		g_string_append_printf(text, "%u: the page of %u\n",
				       g_rand_int(rand) % 1000,
				       g_rand_int(rand) % 100000);
	one = pack(codec, 1, text->str);
	fast = pack(codec, SNAP_LEVEL_MIN, text->str);
	high = pack(codec, SNAP_LEVEL_MAX, text->str);
	assert_true(fast > one && one > high);
	assert_int_equal(pack(codec, 1, text->str), one);
	assert_int_equal(pack(codec, SNAP_LEVEL_MIN, text->str), fast);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_read_as_they_were_written_last),
		cmocka_unit_test(a_map_that_spills_gives_the_same_file),
		cmocka_unit_test(compaction_keeps_the_pages_and_drops_the_dead),
		cmocka_unit_test(compaction_does_not_copy_damage),
		cmocka_unit_test(dead_bytes_are_counted_exactly),
		cmocka_unit_test(properties_read_as_they_were_written),
		cmocka_unit_test(a_verbatim_stream_has_one_block),
		cmocka_unit_test(a_stream_may_have_a_preamble),
		cmocka_unit_test(never_writes_what_it_would_refuse_to_read),
		cmocka_unit_test(refuses_arguments_that_make_no_sense),
		cmocka_unit_test(a_frame_holds_exactly_its_pages),
		cmocka_unit_test(
			pages_that_do_not_compress_take_no_more_than_in_the_stream),
		cmocka_unit_test(each_extent_has_its_level),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
