/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "format/base/error.h"
#include "format/qemu/libvirt.h"

#define SAVE "LibvirtQemudSave"
#define PART "LibvirtQemudPart"

/* The fields after the magic. */
enum { VERSION, DATA_LEN, RUNNING, FORMAT, COOKIE, FIELDS };

struct header {
	const char *magic;
	uint32_t fields[FIELDS];
	bool foreign; /* in the other byte order */
};

static const struct header good = { SAVE, { 2, 70000, 1, 0, 4000 }, false };

static int read_header(const struct header *h, struct snap_libvirt *ret,
		       GError **error)
{
	/* Allocated in its exact size, so that a read past its end shows. */
	g_autofree uint8_t *bytes = g_malloc(SNAP_LIBVIRT_HEADER);

	memset(bytes, 0xee, SNAP_LIBVIRT_HEADER);
	memcpy(bytes, h->magic, SNAP_LIBVIRT_MAGIC);
	for (int i = 0; i < FIELDS; i++) {
		uint32_t n = h->foreign ? GUINT32_SWAP_LE_BE(h->fields[i])
					: h->fields[i];

		memcpy(bytes + SNAP_LIBVIRT_MAGIC + i * 4, &n, 4);
	}
	return snap_libvirt_read(bytes, ret, error);
}

static void refuses(struct header h, int code, const char *sentence)
{
	for (int foreign = 0; foreign < 2; foreign++) {
		struct snap_libvirt kept = { .stream = 77 };
		g_autoptr(GError) error = NULL;

		h.foreign = foreign;
		assert_int_equal(read_header(&h, &kept, &error), -code);
		assert_string_equal(error->message, sentence);
		assert_int_equal(kept.stream, 77);
	}
}

static void knows_its_magic_from_the_first_bytes_on(void **state)
{
	for (size_t n = 0; n <= 20; n++) {
		assert_true(snap_libvirt_is(SAVE "more", n));
		assert_true(snap_libvirt_is(PART "more", n));
	}
	assert_false(snap_libvirt_is("QEVM", 1));
	assert_false(snap_libvirt_is("LibvirtQemudSavf", 16));
	assert_false(snap_libvirt_is("LibvirtQemudParu", 16));
	assert_false(snap_libvirt_is("LibvirtQemudX", 13));
}

static void says_where_the_stream_begins(void **state)
{
	struct header h = good;

	for (int foreign = 0; foreign < 2; foreign++) {
		struct snap_libvirt l;

		h = good;
		h.foreign = foreign;
		assert_int_equal(read_header(&h, &l, NULL), 0);
		assert_int_equal(l.stream, 70092);
		assert_int_equal(l.format, SNAP_LIBVIRT_RAW);
		assert_true(l.complete);

		h.magic = PART;
		h.fields[VERSION] = 1;
		h.fields[FORMAT] = SNAP_LIBVIRT_SPARSE;
		h.fields[COOKIE] = 0;
		assert_int_equal(read_header(&h, &l, NULL), 0);
		assert_int_equal(l.format, SNAP_LIBVIRT_SPARSE);
		assert_false(l.complete);
	}
}

static void refuses_another_magic(void **state)
{
	struct header h = good;

	h.magic = "LibvirtQemudBusy";
	refuses(h, EPROTO, "expected the magic of libvirt's save image");
}

static void refuses_another_version(void **state)
{
	static const uint32_t versions[] = { 0, 3, 0x01020304, UINT32_MAX };

	for (size_t i = 0; i < G_N_ELEMENTS(versions); i++) {
		struct header h = good;
		struct snap_libvirt l;
		g_autoptr(GError) error = NULL;

		h.fields[VERSION] = versions[i];
		assert_int_equal(read_header(&h, &l, &error), -EOPNOTSUPP);
		assert_non_null(strstr(error->message, "version"));
	}
}

static void refuses_an_impossible_length(void **state)
{
	struct header h = good;

	h.fields[DATA_LEN] = 0;
	refuses(h, EPROTO,
		"libvirt's save image has 0 bytes before the stream; 1 to "
		"4194212 are possible");
	h.fields[DATA_LEN] = SNAP_LIBVIRT_MAX - SNAP_LIBVIRT_HEADER + 1;
	refuses(h, EPROTO,
		"libvirt's save image has 4194213 bytes before the stream; 1 "
		"to 4194212 are possible");
	h.fields[DATA_LEN] = UINT32_MAX;
	refuses(h, EPROTO,
		"libvirt's save image has 4294967295 bytes before the stream; "
		"1 to 4194212 are possible");
}

static void takes_the_longest_preamble(void **state)
{
	struct header h = good;
	struct snap_libvirt l;

	h.fields[DATA_LEN] = SNAP_LIBVIRT_MAX - SNAP_LIBVIRT_HEADER;
	h.fields[COOKIE] = h.fields[DATA_LEN];
	assert_int_equal(read_header(&h, &l, NULL), 0);
	assert_int_equal(l.stream, SNAP_LIBVIRT_MAX);
}

static void refuses_a_cookie_after_the_preamble(void **state)
{
	struct header h = good;

	h.fields[COOKIE] = 70001;
	refuses(h, EPROTO,
		"libvirt's save image has its cookie at 70001 of 70000 bytes");
	h.fields[COOKIE] = UINT32_MAX;
	refuses(h, EPROTO,
		"libvirt's save image has its cookie at 4294967295 of 70000 "
		"bytes");
}

static void names_the_format_it_cannot_read(void **state)
{
	static const char *const names[] = { "gzip", "bzip2", "xz", "lzop",
					     "zstd" };

	for (uint32_t i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *sentence = g_strdup_printf(
			"libvirt's save image is compressed by %s; set "
			"save_image_format to raw or sparse in qemu.conf",
			names[i]);
		struct header h = good;

		h.fields[FORMAT] = i + 1;
		refuses(h, EOPNOTSUPP, sentence);
	}
}

static void refuses_an_unknown_format(void **state)
{
	struct header h = good;

	h.fields[FORMAT] = 7;
	refuses(h, EOPNOTSUPP,
		"libvirt's save image is of format 7, which is not known; set "
		"save_image_format to raw or sparse in qemu.conf");
	h.fields[FORMAT] = UINT32_MAX;
	refuses(h, EOPNOTSUPP,
		"libvirt's save image is of format 4294967295, which is not "
		"known; set save_image_format to raw or sparse in qemu.conf");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_its_magic_from_the_first_bytes_on),
		cmocka_unit_test(says_where_the_stream_begins),
		cmocka_unit_test(refuses_another_magic),
		cmocka_unit_test(refuses_another_version),
		cmocka_unit_test(refuses_an_impossible_length),
		cmocka_unit_test(takes_the_longest_preamble),
		cmocka_unit_test(refuses_a_cookie_after_the_preamble),
		cmocka_unit_test(names_the_format_it_cannot_read),
		cmocka_unit_test(refuses_an_unknown_format),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
