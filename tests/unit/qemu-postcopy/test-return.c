/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages on the return path are understood at any cut, and wrong ones are
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "format/qemu/postcopy-return.h"
#include "tests/lib/stream.h"

#define PAGE 4096u
#define MARK 0x0123456789abcdefull

static struct snap_ramlist ram;

static int make_ram(void **state)
{
	ram = (struct snap_ramlist){ 0 };
	snap_ramlist_add(&ram, "pc.ram", 100 * PAGE, 0, 0, PAGE, NULL);
	snap_ramlist_add(&ram, "pc.rom", 2 * PAGE, 0, 0, PAGE, NULL);
	return 0;
}

static int free_ram(void **state)
{
	snap_ramlist_clear(&ram);
	return 0;
}

static void put_message(GByteArray *s, uint16_t type, uint16_t length)
{
	stream_be16(s, type);
	stream_be16(s, length);
}

static void put_request(GByteArray *s, uint64_t start, uint32_t length,
			const char *name)
{
	put_message(s, name ? 3 : 4, name ? 13 + strlen(name) : 12);
	stream_be64(s, start);
	stream_be32(s, length);
	if (name)
		stream_str8(s, name);
}

static void put_number(GByteArray *s, uint16_t type, uint32_t value)
{
	put_message(s, type, 4);
	stream_be32(s, value);
}

/* A bitmap of pc.ram, in which pages 0 and 99 are there. */
static void put_bitmap(GByteArray *s, uint64_t size, uint64_t mark)
{
	uint8_t bits[16] = { 1 };

	bits[99 / 8] = 1 << 99 % 8;
	put_message(s, 5, 7);
	stream_str8(s, "pc.ram");
	stream_be64(s, size);
	stream_bytes(s, bits, sizeof(bits));
	stream_be64(s, mark);
}

/* Events in words. */
static void tell(GString *out, const struct snap_return_event *ev)
{
	static const char *const names[] = { "?",	"shut",	  "pong",
					     "request", "bitmap", "resumed" };

	g_string_append_printf(out, "%s ", names[ev->kind]);
	if (ev->kind == SNAP_RETURN_REQUEST)
		g_string_append_printf(out, "%u %u+%u\n", ev->block,
				       (unsigned)ev->offset / PAGE,
				       (unsigned)ev->length / PAGE);
	else if (ev->kind == SNAP_RETURN_BITMAP)
		g_string_append_printf(out, "%u %u bytes %02x %02x\n",
				       ev->block, (unsigned)ev->length,
				       ev->bitmap[0], ev->bitmap[12]);
	else
		g_string_append_printf(out, "%u\n", ev->value);
}

/* Returns the events of `s`, fed in steps; NULL when it is refused. */
static char *understand(const GByteArray *s, size_t cut, size_t step)
{
	g_autoptr(SnapReturn) r = snap_return_new(&ram, PAGE);
	GString *out = g_string_new(NULL);
	size_t at = 0;

	while (at < s->len) {
		size_t now = at ? step : cut;
		g_autoptr(GError) error = NULL;
		g_autofree uint8_t *copy = NULL;
		struct snap_return_event ev;
		int n;

		now = MIN(MAX(now, 1), s->len - at);
		copy = g_memdup2(s->data + at, now);
		snap_return_feed(r, copy, now);
		while ((n = snap_return_step(r, &ev, &error)) > 0)
			tell(out, &ev);
		at += now;
		if (n == 0)
			continue;
		assert_int_equal(n, -EPROTO);
		assert_non_null(error);
		assert_int_equal(snap_return_step(r, &ev, NULL), -EPROTO);
		g_string_free(out, TRUE);
		return NULL;
	}
	return g_string_free(out, FALSE);
}

static void understands_every_message_at_any_cut(void **state)
{
	static const char expected[] = "pong 3\n"
				       "request 0 5+1\n"
				       "request 0 99+1\n"
				       "request 1 0+2\n"
				       "bitmap 0 16 bytes 01 08\n"
				       "resumed 1\n"
				       "shut 0\n";
	g_autoptr(GByteArray) s = g_byte_array_new();

	put_number(s, 2, 3);
	put_request(s, 5 * PAGE, PAGE, "pc.ram");
	put_request(s, 99 * PAGE, PAGE, NULL);
	put_request(s, 0, 2 * PAGE, "pc.rom");
	put_message(s, 7, 0);
	put_bitmap(s, 16, MARK);
	put_number(s, 6, 1);
	put_number(s, 1, 0);
	for (size_t cut = 0; cut <= s->len; cut++) {
		g_autofree char *rest = understand(s, cut, s->len);
		g_autofree char *bytes = understand(s, cut, 1);

		assert_string_equal(rest, expected);
		assert_string_equal(bytes, expected);
	}
}

static void refuse(const GByteArray *s)
{
	for (size_t step = 1; step <= s->len; step++) {
		g_autofree char *said = understand(s, step, step);

		assert_null(said);
	}
}

static void refuse_request(uint64_t start, uint32_t length, const char *name)
{
	g_autoptr(GByteArray) s = g_byte_array_new();

	put_request(s, start, length, name);
	refuse(s);
}

static void refuses_pages_outside_of_any_block(void **state)
{
	refuse_request(100 * PAGE, PAGE, "pc.ram");
	refuse_request(99 * PAGE, 2 * PAGE, "pc.ram");
	refuse_request(UINT64_MAX - PAGE + 1, PAGE, "pc.ram");
	refuse_request(0, 0, "pc.ram");
	refuse_request(0, 3 * PAGE, "pc.rom");
	refuse_request(1, PAGE, "pc.ram");
	refuse_request(0, PAGE - 1, "pc.ram");
	refuse_request(0, PAGE, "pc.ra");
	refuse_request(0, PAGE, "pc.ram\n");
	refuse_request(0, PAGE, "");
	refuse_request(0, PAGE, NULL);
}

static void refuses_lengths_that_do_not_fit(void **state)
{
	static const uint16_t wrong[][2] = {
		{ 0, 0 },  { 1, 3 },  { 2, 5 },	    { 3, 12 },	  { 3, 269 },
		{ 4, 13 }, { 5, 0 },  { 5, 257 },   { 6, 0 },	  { 7, 1 },
		{ 8, 0 },  { 99, 4 }, { 3, 65535 }, { 65535, 4 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
		g_autoptr(GByteArray) s = g_byte_array_new();

		put_message(s, wrong[i][0], wrong[i][1]);
		refuse(s);
	}
}

static void refuses_names_longer_or_shorter_than_their_message(void **state)
{
	for (uint8_t length = 0; length < 10; length++) {
		g_autoptr(GByteArray) s = g_byte_array_new();

		if (length == 6)
			continue;
		put_message(s, 3, 13 + 6);
		stream_be64(s, 0);
		stream_be32(s, PAGE);
		stream_byte(s, length);
		stream_bytes(s, "pc.ram", 6);
		refuse(s);
	}
}

static void refuses_bitmaps_of_another_size_or_without_end(void **state)
{
	static const uint64_t sizes[] = { 0, 8, 13, 24, UINT64_MAX };

	for (size_t i = 0; i <= G_N_ELEMENTS(sizes); i++) {
		g_autoptr(GByteArray) s = g_byte_array_new();
		bool last = i == G_N_ELEMENTS(sizes);

		put_bitmap(s, last ? 16 : sizes[i], last ? MARK + 1 : MARK);
		refuse(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(understands_every_message_at_any_cut),
		cmocka_unit_test(refuses_pages_outside_of_any_block),
		cmocka_unit_test(refuses_lengths_that_do_not_fit),
		cmocka_unit_test(
			refuses_names_longer_or_shorter_than_their_message),
		cmocka_unit_test(
			refuses_bitmaps_of_another_size_or_without_end),
	};

	return cmocka_run_group_tests(tests, make_ram, free_ram);
}
