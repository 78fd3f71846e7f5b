/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How bitmaps and pages are combined, and which bytes are refused at their
 * offset. */
#include "tests/unit/save/mapped-file.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "format/qemu/wire.h"
#include "tests/lib/stream.h"

static void open_file(struct world *w, struct file *f)
{
	world_open(w, SNAP_SAVER_BUFFER_DEFAULT);
	file_fill_ram(w);
	*f = (struct file){ .page = SNAP_PAGE };
	file_make(w, f);
}

/* Begins the save and writes the stream up to the devices. */
static void begin_file(struct world *w, struct file *f)
{
	g_autoptr(GArray) cuts = cuts_new();

	open_file(w, f);
	begin_save(w);
	cuts_add_stream(cuts, f);
	assert_int_equal(put_cuts(w, cuts), 0);
}

static ssize_t put_from_file(struct world *w, uint64_t from, uint64_t to)
{
	return put(w, w->stream->data + from, to - from, from);
}

static ssize_t put_pages(struct world *w, const struct file *f)
{
	g_autoptr(GArray) cuts = cuts_new();

	cuts_add_pages(cuts, w, f, &f->ram, 16);
	cuts_add_pages(cuts, w, f, &f->rom, 16);
	return put_cuts(w, cuts);
}

static ssize_t put_bitmaps(struct world *w, const struct file *f)
{
	g_autoptr(GArray) cuts = cuts_new();

	cuts_add_bitmaps(cuts, f);
	return put_cuts(w, cuts);
}

static ssize_t put_devices(struct world *w, const struct file *f)
{
	return put_from_file(w, f->devices, w->stream->len);
}

/* Checks that the save failed, for this reason. */
static void assert_failed_for(struct world *w, int code, const char *why)
{
	GError *error = NULL;

	assert_int_equal(snap_save_wait(w->save, &error), code);
	if (!strstr(error->message, why))
		fail_msg("\"%s\" does not say \"%s\"", error->message, why);
	g_error_free(error);
	assert_failed(w, code);
}

/* ---- bitmaps ---- */

/* QEMU's background snapshot is complete without its bitmaps. */
static void without_bitmaps_the_pages_that_were_written_count(void **state)
{
	struct world w;
	struct file f;

	begin_file(&w, &f);
	assert_int_equal(put_pages(&w, &f), 0);
	assert_int_equal(put_devices(&w, &f), w.stream->len - f.devices);
	assert_int_equal(snap_save_state(w.save, NULL), SNAP_SAVE_DONE);
	assert_saved(&w);
	world_close(&w);
}

static void a_page_that_is_not_in_its_bitmap_is_zero(void **state)
{
	struct world w;
	struct file f;
	uint8_t *bits;

	begin_file(&w, &f);
	assert_int_equal(put_pages(&w, &f), 0);
	/* These pages became zero after they were written. */
	bits = w.stream->data + f.ram.bitmap;
	for (uint32_t p = 100; p < 140; p++) {
		memset(w.ram + (size_t)p * SNAP_PAGE, 0, SNAP_PAGE);
		bits[p / 8] &= (uint8_t) ~(1u << p % 8);
	}
	assert_int_equal(put_bitmaps(&w, &f), 0);
	assert_int_equal(put_devices(&w, &f), w.stream->len - f.devices);
	assert_saved(&w);
	world_close(&w);
}

/* A page that QEMU names but that did not come is lost. */
static void a_page_in_a_late_bitmap_must_have_been_written(void **state)
{
	struct world w;
	struct file f;

	begin_file(&w, &f);
	assert_int_equal(put_pages(&w, &f), 0);
	w.stream->data[f.ram.bitmap + 700 / 8] |= 1u << 700 % 8;
	assert_int_equal(put_bitmaps(&w, &f), 0);
	assert_int_equal(put_devices(&w, &f), -EPROTO);
	assert_failed_for(&w, -EPROTO,
			  "RAM block pc.ram names page 700, which was never "
			  "written");
	assert_false(there_is_a_snapshot(&w));
	world_close(&w);

	/* A page of which only a part came did not come. */
	begin_file(&w, &f);
	assert_int_equal(put_pages(&w, &f), 0);
	assert_true(put_from_file(&w, f.ram.pages + 702 * SNAP_PAGE,
				  f.ram.pages + 702 * SNAP_PAGE + 512) > 0);
	w.stream->data[f.ram.bitmap + 702 / 8] |= 1u << 702 % 8;
	assert_int_equal(put_bitmaps(&w, &f), 0);
	assert_int_equal(put_devices(&w, &f), -EPROTO);
	assert_failed_for(&w, -EPROTO, "page 702");
	world_close(&w);
}

/* A copy comes front to back and leaves out holes. A missing page may be a
 * hole, or come later. */
static void a_page_that_a_copy_leaves_out_is_zero(void **state)
{
	struct world w;
	struct file f;

	open_file(&w, &f);
	/* zero pages that the bitmap names all the same */
	memset(w.stream->data + f.ram.bitmap, 0xff, RAM_PAGES / 8);
	begin_save(&w);
	assert_true(put_from_file(&w, 0, f.ram.pages + 600 * SNAP_PAGE) > 0);
	memset(w.ram + 620 * SNAP_PAGE, 0, 180 * SNAP_PAGE);
	/* and a page of which a part is left out */
	memset(w.ram + 800 * SNAP_PAGE, 0, SNAP_PAGE);
	memcpy(w.ram + 800 * SNAP_PAGE + 512, "in the middle", 13);
	assert_true(put(&w, "in the middle", 13,
			f.ram.pages + 800 * SNAP_PAGE + 512) > 0);
	assert_true(put_from_file(&w, f.ram.pages + 801 * SNAP_PAGE,
				  w.stream->len) > 0);
	assert_false(there_is_a_snapshot(&w));
	assert_int_equal(snap_save_state(w.save, NULL), SNAP_SAVE_RUNNING);
	assert_true(put_from_file(&w, f.ram.pages + 600 * SNAP_PAGE,
				  f.ram.pages + 620 * SNAP_PAGE) > 0);
	assert_int_equal(check(&w), 0);
	assert_saved(&w);
	world_close(&w);
}

static void a_copy_with_holes_is_saved_when_it_ends(void **state)
{
	struct world w;
	struct file f;

	open_file(&w, &f);
	memset(w.stream->data + f.ram.bitmap, 0xff, RAM_PAGES / 8);
	begin_save(&w);
	assert_true(put_from_file(&w, 0, f.ram.pages + 600 * SNAP_PAGE) > 0);
	assert_true(put_from_file(&w, f.ram.pages + 800 * SNAP_PAGE,
				  w.stream->len) > 0);
	snap_save_end(w.save);
	assert_int_equal(snap_save_wait(w.save, NULL), 0);
	memset(w.ram + 600 * SNAP_PAGE, 0, 200 * SNAP_PAGE);
	assert_saved(&w);
	world_close(&w);
}

/* A copy whose end comes before its middle: a bitmap that is incomplete decides
 * nothing. */
static void a_missing_bitmap_is_waited_for(void **state)
{
	struct world w;
	struct file f;

	begin_file(&w, &f);
	assert_int_equal(put_pages(&w, &f), 0);
	assert_true(put_from_file(&w, f.ram.bitmap,
				  f.ram.bitmap + f.ram.bytes) > 0);
	assert_int_equal(put_devices(&w, &f), w.stream->len - f.devices);
	assert_false(there_is_a_snapshot(&w));
	assert_int_equal(snap_save_state(w.save, NULL), SNAP_SAVE_RUNNING);
	assert_int_equal(
		put_from_file(&w, f.rom.bitmap, f.rom.bitmap + f.rom.bytes),
		f.rom.bytes);
	assert_int_equal(check(&w), 0);
	assert_saved(&w);
	world_close(&w);
}

static void a_bitmap_may_not_name_a_page_past_its_block(void **state)
{
	struct world w;
	struct file f;

	begin_file(&w, &f);
	assert_int_equal(put_pages(&w, &f), 0);
	w.stream->data[f.rom.bitmap + ROM_PAGES / 8] |= 1;
	assert_int_equal(put_bitmaps(&w, &f), 0);
	assert_int_equal(put_devices(&w, &f), -EPROTO);
	assert_failed_for(&w, -EPROTO, "RAM block pc.rom names page 16");
	world_close(&w);
}

/* ---- a snapshot is there already ---- */

/* An open file of these bytes. */
static int file_of(const void *data, size_t size)
{
	int fd = memfd_create("part", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	return fd;
}

/* Saves ram and devstate of w->ram: the outcome. */
static int save_parts(struct world *w, size_t ram_size, bool tell)
{
	struct snap_save_parts parts = { .preamble_fd = -1,
					 .state_closed = tell,
					 .any_closed = tell };
	struct snap_save_opts opts = { .folder_fd = w->folder_fd,
				       .path = "vm1",
				       .owner = { (uid_t)-1, (gid_t)-1, 0600 },
				       .parts = &parts };

	parts.ram_fd = file_of(w->ram, ram_size);
	parts.state_fd = file_of(w->stream->data, w->stream->len);
	snap_save_unref(w->save);
	assert_int_equal(snap_save_new(w->saver, &opts, &w->save, NULL), 0);
	return snap_save_wait(w->save, NULL);
}

static void open_parts(struct world *w)
{
	world_open(w, SNAP_SAVER_BUFFER_MIN);
	file_fill_ram(w);
	w->stream = g_byte_array_new();
	file_make_devstate(w);
}

static void ram_and_devstate_become_a_snapshot(void **state)
{
	struct snap_meta meta;
	struct world w;

	open_parts(&w);
	assert_int_equal(save_parts(&w, FLAT_SIZE, true), 0);
	assert_saved(&w);
	saved_meta(&w, &meta);
	assert_int_equal(meta.form, SNAP_FORM_CLASSIC);
	snap_meta_clear(&meta);
	world_close(&w);
}

static void parts_that_are_not_whole_are_no_snapshot(void **state)
{
	struct world w;
	struct stat st;

	open_parts(&w);
	assert_int_equal(save_parts(&w, FLAT_SIZE - SNAP_PAGE, false),
			 SNAP_SAVE_NOTHING);
	assert_int_not_equal(fstatat(w.folder_fd, SNAP_CATALOG_ERROR, &st, 0),
			     0);
	assert_int_equal(save_parts(&w, FLAT_SIZE - SNAP_PAGE, true), -EPROTO);
	assert_failed_for(&w, -EPROTO, "ram is not whole");
	g_byte_array_set_size(w.stream, w.stream->len - 1);
	assert_int_equal(save_parts(&w, FLAT_SIZE, false), SNAP_SAVE_NOTHING);
	assert_int_equal(save_parts(&w, FLAT_SIZE, true), -EPROTO);
	assert_failed_for(&w, -EPROTO, "devstate is not whole");
	world_close(&w);
}

static void parts_replace_no_snapshot(void **state)
{
	struct world w;
	struct stat st;

	open_parts(&w);
	assert_int_equal(save_parts(&w, FLAT_SIZE, true), 0);
	assert_int_equal(save_parts(&w, FLAT_SIZE, true), -EEXIST);
	assert_int_not_equal(fstatat(w.folder_fd, SNAP_CATALOG_ERROR, &st, 0),
			     0);
	world_close(&w);
}

/* ---- offsets ---- */

struct bad_place {
	const char *what;
	uint64_t offset;
	size_t size;
	const char *why;
};

static void bytes_outside_all_parts_fail_the_save(void **state)
{
	uint8_t noise[8192];
	struct world w;
	struct file f;

	memset(noise, 0x5a, sizeof(noise));
	open_file(&w, &f);
	world_close(&w);
	const struct bad_place places[] = {
		{ "padding", f.ram.pages - 4096, 4096, "expected zeros" },
		{ "padding's end", f.ram.pages - 1, 4096, "expected zeros" },
		{ "the stream again", 0, 50, "were written already" },
		{ "a header again", f.rom.bitmap - 40, 40,
		  "were written already" },
		{ "behind the stream", f.devices + 8192, 100,
		  "the stream continues elsewhere" },
		{ "far behind", (uint64_t)1 << 50, 4096,
		  "the stream continues elsewhere" },
		{ "into a header", f.ram.pages + RAM_SIZE - 4096, 8192,
		  "were written already" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(places); i++) {
		const struct bad_place *p = &places[i];

		begin_file(&w, &f);
		assert_int_equal(put_pages(&w, &f), 0);
		put(&w, noise, p->size, p->offset);
		/* After a failure, every write is answered with it. */
		put_bitmaps(&w, &f);
		if (put_devices(&w, &f) != -EPROTO)
			fail_msg("%s was taken", p->what);
		assert_failed_for(&w, -EPROTO, p->why);
		assert_false(there_is_a_snapshot(&w));
		world_close(&w);
	}
}

/* A block that is not listed yet has no offset in the file. */
static void pages_before_their_header_fail_the_save(void **state)
{
	struct world w;
	struct file f;

	open_file(&w, &f);
	begin_save(&w);
	assert_true(put_from_file(&w, 0, f.ram.bitmap) > 0);
	put_from_file(&w, f.rom.pages, f.rom.pages + SNAP_PAGE);
	snap_save_end(w.save);
	assert_failed_for(&w, -EPROTO, "the stream continues elsewhere");
	world_close(&w);
}

static void a_page_is_not_written_again_in_part(void **state)
{
	struct world w;
	struct file f;

	begin_file(&w, &f);
	assert_int_equal(put_pages(&w, &f), 0);
	put_from_file(&w, f.ram.pages + SNAP_PAGE + 7,
		      f.ram.pages + SNAP_PAGE + 70);
	snap_save_end(w.save);
	assert_failed_for(&w, -EPROTO, "page 1 of RAM block pc.ram");
	world_close(&w);
}

static void pages_in_pieces_are_bounded(void **state)
{
	struct world w;
	struct file f;

	begin_file(&w, &f);
	for (uint64_t p = 0; p < 100; p++)
		put_from_file(&w, f.ram.pages + p * SNAP_PAGE,
			      f.ram.pages + p * SNAP_PAGE + 100);
	snap_save_end(w.save);
	assert_failed_for(&w, -EPROTO, "more than 64 pages");
	world_close(&w);
}

/* ---- trouble ---- */

static void an_aborted_save_leaves_the_old_snapshot(void **state)
{
	struct stat before, after;
	struct world w;
	struct file f;

	begin_file(&w, &f);
	assert_int_equal(put_pages(&w, &f), 0);
	assert_int_equal(put_bitmaps(&w, &f), 0);
	assert_true(put_devices(&w, &f) > 0);
	fstatat(w.folder_fd, SNAP_CATALOG_SNAPSHOT, &before, 0);
	begin_save(&w);
	assert_true(put_from_file(&w, 0, f.ram.pages + 900 * SNAP_PAGE) > 0);
	snap_save_end(w.save);
	assert_failed(&w, -EPROTO);
	fstatat(w.folder_fd, SNAP_CATALOG_SNAPSHOT, &after, 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_saved(&w);
	world_close(&w);
}

/* A complete header with huge values. */
static ssize_t put_huge(struct world *w, uint64_t length)
{
	uint64_t bytes = length / SNAP_PAGE / 8;
	uint64_t bitmap;

	w->stream = g_byte_array_new();
	stream_magic(w->stream);
	stream_configuration(w->stream, "pc-q35-test");
	stream_subsection(w->stream, WIRE_CONFIG_CAPS);
	stream_be32(w->stream, 1);
	stream_str8(w->stream, WIRE_CAP_MAPPED_RAM);
	stream_start(w->stream, 1, 2, "ram", 4);
	stream_total(w->stream, length);
	stream_block(w->stream, "pc.ram", length);
	bitmap = w->stream->len + WIRE_MAPPED_HEADER;
	stream_mapped_header(w->stream, WIRE_MAPPED_VERSION, SNAP_PAGE, bitmap,
			     snap_round_up(bitmap + bytes, WIRE_MAPPED_ALIGN));
	return put(w, w->stream->data, w->stream->len, 0);
}

static void a_guest_too_large_for_the_buffer_is_refused(void **state)
{
	struct world w;

	world_open(&w, SNAP_SAVER_BUFFER_MIN);
	begin_save(&w);
	assert_true(put_huge(&w, 16 * SNAP_GIB) > 0);
	snap_save_end(w.save);
	assert_failed(&w, -EPROTO);
	g_byte_array_unref(w.stream);
	begin_save(&w);
	assert_int_equal(put_huge(&w, 1024 * SNAP_GIB), -ENOMEM);
	assert_failed_for(&w, -ENOMEM, "-o buffer=");
	world_close(&w);
}

static void a_sync_is_answered_when_the_snapshot_is_there(void **state)
{
	struct outcome *last;
	struct world w;
	struct file f;

	begin_file(&w, &f);
	assert_int_equal(put_pages(&w, &f), 0);
	assert_int_equal(put_bitmaps(&w, &f), 0);
	assert_int_equal(check(&w), -EPROTO);
	last = put_later(&w, w.stream->data + f.devices,
			 w.stream->len - f.devices, f.devices);
	assert_int_equal(check(&w), 0);
	assert_true(there_is_a_snapshot(&w));
	assert_int_equal(outcome_wait(last), w.stream->len - f.devices);
	assert_int_equal(check(&w), 0);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			without_bitmaps_the_pages_that_were_written_count),
		cmocka_unit_test(a_page_that_is_not_in_its_bitmap_is_zero),
		cmocka_unit_test(
			a_page_in_a_late_bitmap_must_have_been_written),
		cmocka_unit_test(a_page_that_a_copy_leaves_out_is_zero),
		cmocka_unit_test(a_copy_with_holes_is_saved_when_it_ends),
		cmocka_unit_test(a_missing_bitmap_is_waited_for),
		cmocka_unit_test(a_bitmap_may_not_name_a_page_past_its_block),
		cmocka_unit_test(ram_and_devstate_become_a_snapshot),
		cmocka_unit_test(parts_that_are_not_whole_are_no_snapshot),
		cmocka_unit_test(parts_replace_no_snapshot),
		cmocka_unit_test(bytes_outside_all_parts_fail_the_save),
		cmocka_unit_test(pages_before_their_header_fail_the_save),
		cmocka_unit_test(a_page_is_not_written_again_in_part),
		cmocka_unit_test(pages_in_pieces_are_bounded),
		cmocka_unit_test(an_aborted_save_leaves_the_old_snapshot),
		cmocka_unit_test(a_guest_too_large_for_the_buffer_is_refused),
		cmocka_unit_test(a_sync_is_answered_when_the_snapshot_is_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
