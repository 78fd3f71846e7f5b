/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the bridge reads, as any bytes: the return path, a hot list, a devstate.
 *
 * Input: a byte, which of the three (modulo 3); a byte, how many bytes of a
 * return path are fed at a time; the bytes.
 */
#include <glib.h>
#include <string.h>

#include "format/base/units.h"
#include "format/qemu/hot.h"
#include "format/qemu/postcopy-return.h"
#include "format/qemu/postcopy.h"
#include "tests/fuzz/fuzz.h"

#define SUM 0x100000001b3u

static void make_ram(struct snap_ramlist *ram)
{
	snap_ramlist_add(ram, "pc.ram", 100 * SNAP_PAGE, 0, 0, SNAP_PAGE, NULL);
	snap_ramlist_add(ram, "a", 3 * SNAP_PAGE, 0, 0, SNAP_PAGE, NULL);
}

static uint64_t see(uint64_t sum, const struct snap_ramlist *ram,
		    const struct snap_return_event *ev)
{
	g_assert(ev->kind >= SNAP_RETURN_SHUT &&
		 ev->kind <= SNAP_RETURN_RESUMED);
	g_assert(ev->block < ram->n);
	if (ev->kind == SNAP_RETURN_REQUEST) {
		g_assert(ev->length > 0 && ev->length % SNAP_PAGE == 0);
		g_assert(ev->offset % SNAP_PAGE == 0);
		g_assert(ev->offset + ev->length <=
			 ram->blocks[ev->block].length);
	}
	sum = (sum ^ ev->kind ^ ev->value ^ ev->block) * SUM;
	sum = (sum ^ ev->offset ^ ev->length) * SUM;
	if (ev->kind == SNAP_RETURN_BITMAP)
		for (uint64_t i = 0; i < ev->length; i++)
			sum = (sum ^ ev->bitmap[i]) * SUM;
	return sum;
}

/* A sum of all events and of the position of the end. */
static uint64_t run_return(const struct snap_ramlist *ram, const uint8_t *data,
			   size_t size, size_t step)
{
	g_autoptr(SnapReturn) r = snap_return_new(ram, SNAP_PAGE);
	struct snap_return_event ev;
	uint64_t sum = 0;
	int n = 0;

	for (size_t at = 0; at < size && n == 0; at += MIN(step, size - at)) {
		size_t now = MIN(step, size - at);
		g_autofree uint8_t *copy = g_memdup2(data + at, now);
		g_autoptr(GError) error = NULL;

		snap_return_feed(r, copy, now);
		while ((n = snap_return_step(r, &ev, &error)) > 0)
			sum = see(sum, ram, &ev);
		g_assert((n < 0) == (error != NULL));
	}
	return sum * SUM ^ (n < 0);
}

static void try_return(const uint8_t *data, size_t size, size_t step)
{
	struct snap_ramlist ram = { 0 };

	make_ram(&ram);
	g_assert(run_return(&ram, data, size, MAX(size, 1)) ==
		 run_return(&ram, data, size, step));
	snap_ramlist_clear(&ram);
}

/* A list stays within RAM, and reads the same after it was written. */
static void try_hot(const uint8_t *data, size_t size)
{
	g_autofree char *copy = g_memdup2(data, size);
	g_autoptr(GArray) runs = NULL, again = NULL, merged = NULL;
	g_autofree char *text = NULL, *text_again = NULL;
	struct snap_ramlist ram = { 0 };

	make_ram(&ram);
	runs = snap_hot_parse(copy, size, &ram);
	g_assert(snap_hot_pages(runs) <= SNAP_HOT_PAGES_MAX);
	for (guint i = 0; i < runs->len; i++) {
		struct snap_hot_run run =
			g_array_index(runs, struct snap_hot_run, i);

		g_assert(run.block < ram.n && run.offset % SNAP_PAGE == 0);
		g_assert(run.pages > 0 && run.offset + run.pages * SNAP_PAGE <=
						  ram.blocks[run.block].length);
	}
	text = snap_hot_format(runs, &ram);
	again = snap_hot_parse(text, strlen(text), &ram);
	text_again = snap_hot_format(again, &ram);
	g_assert_cmpstr(text, ==, text_again);
	merged = snap_hot_merge(runs, again, &ram);
	g_assert(snap_hot_pages(merged) <= 103);
	snap_ramlist_clear(&ram);
}

static void try_devstate(const uint8_t *data, size_t size)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(SnapPostcopy) post = NULL;
	g_autoptr(GError) error = NULL;
	uint8_t *copy = g_memdup2(data, size);
	int r = snap_postcopy_new(copy, size, SNAP_PAGE, &post, &error);

	g_assert((r == 0) == (post != NULL) && (r == 0) == (error == NULL));
	if (r < 0)
		return;
	snap_postcopy_put_head(post, out);
	snap_postcopy_put_package(post, out);
	snap_postcopy_put_plain_head(post, out);
	snap_postcopy_put_plain_tail(post, out);
	snap_postcopy_put_end(post, out);
	/* The messages repeat little of the devstate more than once. */
	g_assert(out->len <= 4 * size + 4096 * 300);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	switch (data[0] % 3) {
	case 0:
		try_return(data + 2, size - 2, data[1] + 1u);
		break;
	case 1:
		try_hot(data + 2, size - 2);
		break;
	default:
		try_devstate(data + 2, size - 2);
		break;
	}
	return 0;
}
