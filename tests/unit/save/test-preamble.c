/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The preamble of a stream, and where a stream other than mapped-ram may be
 * written. */
#include "tests/unit/save/mapped-file.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "format/qemu/libvirt.h"
#include "tests/lib/stream.h"

#define XML_SIZE 66000u

/* Formats of libvirt's save image. */
#define RAW 0
#define GZIP 1
#define SPARSE 6

/* libvirt's header and XML, in the byte order of this machine. */
static void add_libvirt(struct world *w, const char *magic, uint32_t format)
{
	uint32_t fields[19] = { 2, XML_SIZE, 1, format, 500 };
	uint8_t xml[XML_SIZE] = "<domain>";

	memset(xml + 8, 'x', 700);
	w->stream = g_byte_array_new();
	stream_bytes(w->stream, magic, 16);
	stream_bytes(w->stream, fields, sizeof(fields));
	stream_bytes(w->stream, xml, sizeof(xml));
	assert_int_equal(w->stream->len, SNAP_LIBVIRT_HEADER + XML_SIZE);
}

static void open_world(struct world *w)
{
	world_open(w, SNAP_SAVER_BUFFER_DEFAULT);
	file_fill_ram(w);
}

/* Checks that the snapshot has a preamble of `size` bytes that begins with
 * `data`. */
static void assert_preamble(struct world *w, enum snap_form form,
			    const void *data, size_t data_size, uint64_t size)
{
	g_autofree uint8_t *zeros = g_malloc0(size - data_size);
	g_autofree uint8_t *bytes = NULL;
	const struct snap_block *block;
	struct snap_meta meta;

	saved_meta(w, &meta);
	assert_int_equal(meta.form, form);
	block = snap_meta_find(&meta, SNAP_BLOCK_PREAMBLE);
	assert_non_null(block);
	assert_int_equal(block->length, size);
	bytes = saved_bytes(w, block->base, size);
	assert_memory_equal(bytes, data, data_size);
	if (size > data_size)
		assert_memory_equal(bytes + data_size, zeros, size - data_size);
	snap_meta_clear(&meta);
}

/* ---- libvirt ---- */

static void libvirt_saves_raw_in_padded_blocks(void **state)
{
	static const size_t steps[] = { 1 << 20, 65536, 777 };
	static const uint8_t zeros[65536];

	for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
		struct world w;
		uint32_t begin;

		open_world(&w);
		add_libvirt(&w, "LibvirtQemudPart", RAW);
		begin = w.stream->len;
		file_make_classic(&w);
		if (steps[i] >= sizeof(zeros))
			stream_bytes(w.stream, zeros,
				     65536 - w.stream->len % 65536);
		begin_save_of(&w, begin);
		assert_int_equal(put_all(&w, w.stream->len, steps[i]), 0);
		assert_int_equal(snap_save_state(w.save, NULL), SNAP_SAVE_DONE);
		assert_saved(&w);
		assert_preamble(&w, SNAP_FORM_CLASSIC, w.stream->data, begin,
				begin);
		world_close(&w);
	}
}

static void libvirt_marks_its_header_when_all_is_written(void **state)
{
	struct world w;
	struct file f = { .page = SNAP_PAGE };

	open_world(&w);
	add_libvirt(&w, "LibvirtQemudPart", SPARSE);
	file_make(&w, &f);
	begin_save_of(&w, f.begin);
	assert_int_equal(put_all(&w, f.begin, 40000), 0);
	/* libvirt closes its own descriptor before the first byte of the
	 * stream. */
	assert_int_equal(check(&w), 0);
	assert_int_equal(put(&w, w.stream->data + f.begin,
			     f.ram.bitmap - f.begin, f.begin),
			 f.ram.bitmap - f.begin);
	memcpy(w.stream->data, "LibvirtQemudSave", 16);
	assert_int_equal(put(&w, w.stream->data, 92, 0), 92);
	assert_int_equal(put(&w, w.stream->data + f.ram.bitmap,
			     w.stream->len - f.ram.bitmap, f.ram.bitmap),
			 w.stream->len - f.ram.bitmap);
	assert_saved(&w);
	assert_preamble(&w, SNAP_FORM_MAPPED, w.stream->data, f.begin, f.begin);
	world_close(&w);
}

static void a_compressed_save_image_is_refused_at_once(void **state)
{
	g_autoptr(GError) error = NULL;
	struct world w;

	open_world(&w);
	add_libvirt(&w, "LibvirtQemudPart", GZIP);
	assert_int_equal(snap_save_check_header(w.stream->data, 91, &error), 0);
	assert_int_equal(snap_save_check_header(w.stream->data, 92, &error),
			 -EOPNOTSUPP);
	assert_non_null(strstr(error->message, "gzip"));
	w.stream->data[0] = 'x';
	assert_int_equal(snap_save_check_header(w.stream->data, 92, NULL), 0);
	world_close(&w);
}

/* A stream that cannot be split is kept verbatim, with its preamble. */
static void a_verbatim_stream_keeps_its_preamble(void **state)
{
	const struct snap_block *block;
	g_autofree uint8_t *bytes = NULL;
	struct snap_meta meta;
	struct world w;
	uint32_t begin;

	open_world(&w);
	add_libvirt(&w, "LibvirtQemudSave", RAW);
	begin = w.stream->len;
	stream_magic(w.stream);
	stream_configuration(w.stream, "pc-q35-test");
	stream_device(w.stream, 3, "early", "state", 5, true);
	stream_device(w.stream, 4, "cpu", "state", 5, true);
	stream_description(w.stream, "{\"devices\": []}");
	begin_save_of(&w, begin);
	assert_int_equal(put_all(&w, w.stream->len, 5000), 0);
	assert_preamble(&w, SNAP_FORM_VERBATIM, w.stream->data, begin, begin);
	saved_meta(&w, &meta);
	block = snap_meta_find(&meta, SNAP_BLOCK_STREAM);
	assert_int_equal(block->length, w.stream->len - begin);
	bytes = saved_bytes(&w, block->base, block->length);
	assert_memory_equal(bytes, w.stream->data + begin, block->length);
	snap_meta_clear(&meta);
	world_close(&w);
}

/* ---- zeros ---- */

static void a_stream_begins_after_a_hole(void **state)
{
	static const uint64_t holes[] = { 0x1234, 4096 };

	for (guint i = 0; i < G_N_ELEMENTS(holes); i++) {
		g_autoptr(GArray) cuts = NULL;
		struct file f = { .page = SNAP_PAGE };
		uint64_t bytes;
		struct world w;

		open_world(&w);
		w.stream = g_byte_array_new();
		g_byte_array_set_size(w.stream, (guint)holes[i]);
		memset(w.stream->data, 0, w.stream->len);
		file_make(&w, &f);
		begin_save_of(&w, holes[i]);
		snap_save_state(w.save, &bytes);
		assert_int_equal(bytes, holes[i]);
		assert_int_equal(check(&w), 0);
		cuts = cuts_of_qemu(&w, &f);
		assert_int_equal(put_cuts(&w, cuts), 0);
		assert_saved(&w);
		assert_preamble(&w, SNAP_FORM_MAPPED, NULL, 0, holes[i]);
		world_close(&w);
	}
}

/* A copy of such a file writes zeros, or leaves them out. */
static void zeros_before_a_stream_are_a_hole(void **state)
{
	for (uint64_t skip = 0; skip <= 8192; skip += 4096) {
		struct file f = { .page = SNAP_PAGE };
		struct world w;

		open_world(&w);
		w.stream = g_byte_array_new();
		g_byte_array_set_size(w.stream, 10000);
		memset(w.stream->data, 0, 10000);
		file_make(&w, &f);
		begin_save_of(&w, f.begin);
		for (uint64_t at = skip; at < w.stream->len; at += 4096) {
			size_t n = MIN(4096, w.stream->len - at);

			assert_int_equal(put(&w, w.stream->data + at, n, at),
					 n);
		}
		assert_saved(&w);
		assert_preamble(&w, SNAP_FORM_MAPPED, NULL, 0, 10000);
		world_close(&w);
	}
}

static void a_hole_in_the_preamble_is_zeros(void **state)
{
	struct world w;
	uint32_t begin;

	open_world(&w);
	add_libvirt(&w, "LibvirtQemudSave", RAW);
	begin = w.stream->len;
	file_make_classic(&w);
	begin_save_of(&w, begin);
	assert_int_equal(put_all(&w, 4096, 4096), 0);
	assert_int_equal(put(&w, w.stream->data + 61440, 4096, 61440), 4096);
	for (uint64_t at = 65536; at < w.stream->len; at += 65536) {
		size_t n = MIN(65536, w.stream->len - at);

		assert_int_equal(put(&w, w.stream->data + at, n, at), n);
	}
	assert_saved(&w);
	assert_preamble(&w, SNAP_FORM_CLASSIC, w.stream->data, begin, begin);
	world_close(&w);
}

/* ---- any bytes ---- */

static void a_stream_is_found_behind_any_bytes(void **state)
{
	static const char *const decoys[] = {
		"",
		"Q",
		"QEVM",
		"QEVM\0\0\0\3",
		"QEVM\0\0\0\3\7\0\0\0\1\n",
		"QEVM\0\0\0\2\7\0\0\0\1x",
	};
	static const size_t sizes[] = { 0, 1, 4, 8, 14, 14 };

	for (guint i = 0; i < G_N_ELEMENTS(decoys); i++) {
		g_autoptr(GByteArray) file = g_byte_array_new();
		size_t at, name;

		g_byte_array_append(file, (const uint8_t *)decoys[i],
				    (guint)sizes[i]);
		stream_magic(file);
		stream_configuration(file, "pc-q35-test");
		name = file->len;
		stream_start(file, 1, 2, "ram", 4);
		for (size_t n = 1; n <= file->len; n++) {
			/* Of its exact size: a read past its end shows. */
			g_autofree uint8_t *cut = g_malloc(n);

			memcpy(cut, file->data, n);
			assert_int_equal(snap_save_find(cut, n, &at),
					 n >= name);
			if (n >= name)
				assert_int_equal(at, sizes[i]);
		}
	}
}

static void an_old_stream_is_found_by_its_first_section(void **state)
{
	g_autoptr(GByteArray) file = g_byte_array_new();
	size_t at;

	stream_bytes(file, "header", 6);
	stream_magic(file);
	stream_start(file, 1, 2, "ram", 4);
	assert_true(snap_save_find(file->data, file->len, &at));
	assert_int_equal(at, 6);
}

/* What a program wrote before stands in a file; QEMU writes behind it. */
static void a_preamble_comes_from_a_file(void **state)
{
	struct snap_save_opts opts = { .path = "vm1",
				       .owner = { (uid_t)-1, (gid_t)-1, 0600 },
				       .begin = 3 * SNAP_MIB };
	struct file f = { .page = SNAP_PAGE };
	g_autoptr(GArray) cuts = NULL;
	struct world w;

	open_world(&w);
	w.stream = g_byte_array_new();
	g_byte_array_set_size(w.stream, 3 * SNAP_MIB);
	memset(w.stream->data, 0, w.stream->len);
	memset(w.stream->data, 'X', 5000);
	memset(w.stream->data + 2 * SNAP_MIB, 'Y', 100);
	file_make(&w, &f);
	opts.folder_fd = w.folder_fd;
	opts.preamble_fd = memfd_create("head", MFD_CLOEXEC);
	assert_int_equal(pwrite(opts.preamble_fd, w.stream->data, 5000, 0),
			 5000);
	assert_int_equal(pwrite(opts.preamble_fd, w.stream->data + 2 * SNAP_MIB,
				100, 2 * SNAP_MIB),
			 100);
	assert_int_equal(snap_save_new(w.saver, &opts, &w.save, NULL), 0);
	cuts = cuts_of_qemu(&w, &f);
	assert_int_equal(put_cuts(&w, cuts), 0);
	assert_saved(&w);
	assert_preamble(&w, SNAP_FORM_MAPPED, w.stream->data, f.begin, f.begin);
	world_close(&w);
}

static void a_preamble_is_bounded(void **state)
{
	static const struct {
		uint64_t buffer;
		int answer; /* to the write that goes too far */
		int code;   /* of the save */
	} worlds[] = { { 64 * SNAP_MIB, -EINVAL, -EPROTO },
		       { SNAP_SAVER_BUFFER_MIN, -ENOMEM, -ENOMEM } };

	for (guint i = 0; i < G_N_ELEMENTS(worlds); i++) {
		g_autofree uint8_t *bytes = g_malloc(SNAP_MIB);
		struct world w;
		ssize_t r = 0;

		memset(bytes, 'x', SNAP_MIB);
		world_open(&w, worlds[i].buffer);
		begin_save_of(&w, 20 * SNAP_MIB);
		for (uint64_t at = 0; r >= 0; at += SNAP_MIB)
			r = put(&w, bytes, SNAP_MIB, at);
		assert_int_equal(r, worlds[i].answer);
		snap_save_end(w.save);
		assert_failed(&w, worlds[i].code);
		world_close(&w);
	}
}

/* ---- a stream that is not mapped-ram ---- */

static void a_write_out_of_line_is_refused_by_itself(void **state)
{
	struct outcome *odd[3];
	struct world w;

	open_world(&w);
	w.stream = g_byte_array_new();
	file_make_classic(&w);
	begin_save(&w);
	assert_int_equal(put(&w, w.stream->data, 20, 0), 20);
	/* It is not known yet which stream this is. */
	odd[0] = put_later(&w, w.stream->data + 50, 10, 50);
	odd[1] = put_later(&w, w.stream->data, 20, 0);
	assert_int_equal(put(&w, w.stream->data + 20, 1000, 20), 1000);
	odd[2] = put_later(&w, w.stream->data, 200000, 1 << 20);
	for (uint64_t at = 1020; at < w.stream->len; at += 100000) {
		size_t n = MIN(100000, w.stream->len - at);

		assert_int_equal(put(&w, w.stream->data + at, n, at), n);
	}
	for (guint i = 0; i < G_N_ELEMENTS(odd); i++)
		assert_int_equal(outcome_wait(odd[i]), -EINVAL);
	assert_false(snap_save_scattered(w.save));
	assert_saved(&w);
	world_close(&w);
}

/* A page may come before it is known whether it may. */
static void a_doubtful_write_waits_for_the_decision(void **state)
{
	struct file f = { .page = SNAP_PAGE };
	g_autoptr(GArray) cuts = NULL;
	struct outcome *first, *page;
	struct world w;

	open_world(&w);
	file_make(&w, &f);
	begin_save(&w);
	first = put_later(&w, w.stream->data, f.ram.bitmap, 0);
	page = put_later(&w, w.stream->data + f.ram.pages, SNAP_PAGE,
			 f.ram.pages);
	assert_int_equal(outcome_wait(page), SNAP_PAGE);
	assert_int_equal(outcome_wait(first), f.ram.bitmap);
	assert_true(snap_save_scattered(w.save));
	cuts = cuts_of_qemu(&w, &f);
	g_array_remove_index(cuts, 0);
	assert_int_equal(put_cuts(&w, cuts), 0);
	assert_saved(&w);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(libvirt_saves_raw_in_padded_blocks),
		cmocka_unit_test(libvirt_marks_its_header_when_all_is_written),
		cmocka_unit_test(a_compressed_save_image_is_refused_at_once),
		cmocka_unit_test(a_verbatim_stream_keeps_its_preamble),
		cmocka_unit_test(a_stream_begins_after_a_hole),
		cmocka_unit_test(zeros_before_a_stream_are_a_hole),
		cmocka_unit_test(a_hole_in_the_preamble_is_zeros),
		cmocka_unit_test(a_stream_is_found_behind_any_bytes),
		cmocka_unit_test(an_old_stream_is_found_by_its_first_section),
		cmocka_unit_test(a_preamble_comes_from_a_file),
		cmocka_unit_test(a_preamble_is_bounded),
		cmocka_unit_test(a_write_out_of_line_is_refused_by_itself),
		cmocka_unit_test(a_doubtful_write_waits_for_the_decision),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
