/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

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

static bool read_header(const struct header *h, size_t size,
			struct snap_libvirt *ret)
{
	/* Allocated in its exact size, so that a read past its end shows. */
	g_autofree uint8_t *bytes = g_malloc(SNAP_LIBVIRT_HEADER);
	g_autofree uint8_t *cut = NULL;

	memset(bytes, 0xee, SNAP_LIBVIRT_HEADER);
	memcpy(bytes, h->magic, 16);
	for (int i = 0; i < FIELDS; i++) {
		uint32_t n = h->foreign ? GUINT32_SWAP_LE_BE(h->fields[i])
					: h->fields[i];

		memcpy(bytes + 16 + i * 4, &n, 4);
	}
	cut = g_memdup2(bytes, size);
	return snap_libvirt_read(cut, size, ret);
}

static void says_where_the_stream_begins(void **state)
{
	struct header h = good;

	for (int foreign = 0; foreign < 2; foreign++) {
		struct snap_libvirt l;

		h = good;
		h.foreign = foreign;
		assert_true(read_header(&h, SNAP_LIBVIRT_HEADER, &l));
		assert_int_equal(l.stream, 70092);
		assert_int_equal(l.format, 0);
		assert_true(l.complete);

		h.magic = PART;
		h.fields[VERSION] = 1;
		h.fields[DATA_LEN] = UINT32_MAX;
		assert_true(read_header(&h, SNAP_LIBVIRT_HEADER, &l));
		assert_int_equal(l.stream, 92 + (uint64_t)UINT32_MAX);
		assert_false(l.complete);
	}
}

static void knows_no_other_header(void **state)
{
	static const uint32_t versions[] = { 0, 3, 0x01020304, UINT32_MAX };
	struct snap_libvirt kept = { .stream = 77 };
	struct header h = good;

	for (size_t size = 1; size < SNAP_LIBVIRT_HEADER; size++)
		assert_false(read_header(&h, size, &kept));
	h.magic = "LibvirtQemudBusy";
	assert_false(read_header(&h, SNAP_LIBVIRT_HEADER, &kept));
	for (size_t i = 0; i < G_N_ELEMENTS(versions); i++) {
		h = good;
		h.fields[VERSION] = versions[i];
		assert_false(read_header(&h, SNAP_LIBVIRT_HEADER, &kept));
	}
	assert_int_equal(kept.stream, 77);
}

static void names_the_program_that_compresses(void **state)
{
	static const char *const names[] = { NULL,   "gzip", "bzip2", "xz",
					     "lzop", "zstd", NULL,    NULL };

	for (uint32_t i = 0; i < G_N_ELEMENTS(names); i++) {
		struct header h = good;
		struct snap_libvirt l;
		const char *name;

		h.fields[FORMAT] = i;
		assert_true(read_header(&h, SNAP_LIBVIRT_HEADER, &l));
		name = snap_libvirt_compressor(&l);
		if (names[i])
			assert_string_equal(name, names[i]);
		else
			assert_null(name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_where_the_stream_begins),
		cmocka_unit_test(knows_no_other_header),
		cmocka_unit_test(names_the_program_that_compresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
