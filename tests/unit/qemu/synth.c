/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "format/base/error.h"
#include "format/qemu/wire.h"
#include "tests/unit/qemu/forms.h"

#define PAGE 4096u

/* A form, parsed and laid out. */
struct laid {
	struct stream_split split;
	struct snap_stream_info info;
	SnapLayout *layout;
	GByteArray *reference;
};

static void lay(struct laid *ret, const void *data, size_t size)
{
	g_autoptr(GError) error = NULL;

	stream_split(&ret->split, data, size, 0, 0);
	assert_int_equal(ret->split.end, 0);
	ret->info = stream_info(&ret->split);
	assert_int_equal(snap_layout_classic(&ret->info, &ret->layout, &error),
			 0);
	ret->reference = stream_canonical(&ret->split);
}

static void lay_clear(struct laid *laid)
{
	g_byte_array_unref(laid->reference);
	snap_layout_free(laid->layout);
	snap_ramlist_clear(&laid->info.ram);
	stream_split_clear(&laid->split);
}

/* Calls `check` with each form that can be split. */
static void for_each_form(void (*check)(const struct form *form,
					const GByteArray *s, struct laid *laid))
{
	for (guint i = 0; i < n_forms; i++) {
		GByteArray *s;
		struct laid laid;

		if (forms[i].opaque)
			continue;
		s = forms[i].make();
		lay(&laid, s->data, s->len);
		check(&forms[i], s, &laid);
		lay_clear(&laid);
		g_byte_array_unref(s);
	}
}

static void check_reads(const struct form *form, const GByteArray *s,
			struct laid *laid)
{
	const GByteArray *reference = laid->reference;
	g_autofree uint8_t *bytes = g_malloc(reference->len);

	assert_int_equal(snap_layout_size(laid->layout), reference->len);
	assert_true(stream_read(&laid->split, &laid->info, laid->layout, 0,
				bytes, reference->len));
	assert_memory_equal(bytes, reference->data, reference->len);
	for (size_t at = 0; at < reference->len; at++) {
		size_t n = MIN(11, reference->len - at);

		assert_true(stream_read(&laid->split, &laid->info, laid->layout,
					at, bytes, n));
		assert_memory_equal(bytes, reference->data + at, n);
	}
}

static void reads_the_same_at_any_offset(void **state)
{
	for_each_form(check_reads);
}

static void check_runs(const struct form *form, const GByteArray *s,
		       struct laid *laid)
{
	uint64_t size = snap_layout_size(laid->layout), at = 0;
	struct snap_run run, last;

	while (at < size) {
		assert_true(snap_layout_find(laid->layout, at, &run));
		assert_int_equal(run.offset, at);
		assert_true(run.length > 0);
		assert_true(snap_layout_find(laid->layout, at + run.length - 1,
					     &last));
		assert_int_equal(last.offset, at);
		at += run.length;
	}
	assert_int_equal(at, size);
	assert_false(snap_layout_find(laid->layout, size, &run));
	assert_false(snap_layout_find(laid->layout, UINT64_MAX, &run));
}

static void runs_follow_one_another_without_gaps(void **state)
{
	for_each_form(check_runs);
}

static void check_round_trip(const struct form *form, const GByteArray *s,
			     struct laid *laid)
{
	struct laid again;

	lay(&again, laid->reference->data, laid->reference->len);
	assert_int_equal(again.split.info->pages_at,
			 laid->split.info->pages_at);
	assert_int_equal(again.split.state->len, laid->split.state->len);
	assert_memory_equal(again.split.state->data, laid->split.state->data,
			    laid->split.state->len);
	assert_int_equal(again.info.ram.n, laid->info.ram.n);
	for (guint i = 0; i < laid->info.ram.n; i++) {
		const struct snap_ram_block *block = &laid->info.ram.blocks[i];

		assert_memory_equal(block, &again.info.ram.blocks[i],
				    sizeof(*block));
		assert_memory_equal(laid->split.ram + block->flat,
				    again.split.ram + block->flat,
				    block->length);
	}
	assert_int_equal(again.reference->len, laid->reference->len);
	assert_memory_equal(again.reference->data, laid->reference->data,
			    laid->reference->len);
	lay_clear(&again);
}

static void a_synthesized_stream_parses_to_the_same(void **state)
{
	for_each_form(check_round_trip);
}

static void check_canonical(const struct form *form, const GByteArray *s,
			    struct laid *laid)
{
	if (!form->canonical)
		return;
	assert_int_equal(laid->reference->len, s->len);
	assert_memory_equal(laid->reference->data, s->data, s->len);
}

static void a_canonical_stream_comes_back_byte_for_byte(void **state)
{
	for_each_form(check_canonical);
}

static void sends_no_page_of_a_block_that_was_left_out(void **state)
{
	GByteArray *s = form_make("configured");
	struct laid laid;

	lay(&laid, s->data, s->len);
	assert_true(laid.info.ram.blocks[0].ignored);
	/* one PART: header, flash's zero and stored page, EOS, footer */
	assert_int_equal(snap_layout_size(laid.layout),
			 laid.info.state_size + 5 + 9 + 12 + 8 + 16384 + 8 + 5);
	lay_clear(&laid);
	g_byte_array_unref(s);
}

static void record_sizes_are_those_of_the_headers(void **state)
{
	GByteArray *s = form_make("precopy");
	uint8_t header[SNAP_RECORD_HEADER_MAX];
	struct laid laid;

	lay(&laid, s->data, s->len);
	for (guint i = 0; i < laid.info.ram.n; i++) {
		struct snap_record_sizes sizes =
			snap_record_sizes(&laid.info, i);

		assert_int_equal(
			snap_record_header(&laid.info, i, PAGE, true, header),
			sizes.zero);
		assert_int_equal(
			snap_record_header(&laid.info, i, PAGE, false, header) +
				PAGE,
			sizes.stored);
		assert_int_equal(
			snap_record_header(&laid.info, i, 0, true, header),
			sizes.zero + sizes.first_extra);
		assert_int_equal(
			snap_record_header(&laid.info, i, 0, false, header) +
				PAGE,
			sizes.stored + sizes.first_extra);
	}
	lay_clear(&laid);
	g_byte_array_unref(s);
}

/* Describes a block of the largest size without holding it. */
static void lays_out_the_largest_guest(void **state)
{
	struct snap_stream_info info = { .target_page = PAGE,
					 .footers = true,
					 .pages_at = 100,
					 .state_size = 1000 };
	g_autoptr(SnapLayout) layout = NULL;
	uint64_t pages = SNAP_RAM_BYTES_MAX / PAGE;
	struct snap_run run;

	snap_ramlist_add(&info.ram, "m", SNAP_RAM_BYTES_MAX, 0, 0, PAGE, NULL);
	info.ram.blocks[0].stored = SNAP_RAM_BYTES_MAX;
	assert_int_equal(snap_layout_classic(&info, &layout, NULL), 0);
	assert_int_equal(snap_layout_size(layout),
			 1000 + 5 + 2 + pages * (8 + PAGE) + 8 + 5);
	assert_true(snap_layout_find(layout, (uint64_t)1 << 45, &run));
	assert_int_equal(run.kind, SNAP_RUN_RECORDS);
	assert_int_equal(run.offset, 105);
	snap_ramlist_clear(&info.ram);
}

static void refuses_a_description_that_contradicts_itself(void **state)
{
	struct snap_stream_info good = { .target_page = PAGE,
					 .pages_at = 10,
					 .state_size = 20 };
	struct snap_ram_block *block;
	struct snap_stream_info bad;
	SnapLayout *layout = NULL;

	snap_ramlist_add(&good.ram, "a", 2 * PAGE, 0, 0, PAGE, NULL);
	block = &good.ram.blocks[0];
#define REFUSES(change)                                                        \
	do {                                                                   \
		struct snap_ram_block kept = *block;                           \
		g_autoptr(GError) error = NULL;                                \
		bad = good;                                                    \
		change;                                                        \
		assert_int_equal(snap_layout_classic(&bad, &layout, &error),   \
				 -EBADMSG);                                    \
		assert_non_null(error);                                        \
		assert_null(layout);                                           \
		*block = kept;                                                 \
	} while (0)
	REFUSES(bad.target_page = 0);
	REFUSES(bad.target_page = 2048);
	REFUSES(bad.target_page = 12288);
	REFUSES(bad.target_page = 1 << 17);
	REFUSES(bad.pages_at = 21);
	REFUSES(bad.state_size = UINT64_MAX);
	REFUSES(bad.ram.n = SNAP_RAM_BLOCKS_MAX + 1);
	REFUSES(block->length++);
	REFUSES(block->length = UINT64_MAX & ~(uint64_t)4095);
	REFUSES(block->stored = 1);
	REFUSES(block->stored = 3 * PAGE);
	REFUSES(block->stored = PAGE; block->ignored = true);
	REFUSES(block->name[0] = '\0');
	REFUSES(memset(block->name, 'x', sizeof(block->name)));
#undef REFUSES
	assert_int_equal(snap_layout_classic(&good, &layout, NULL), 0);
	snap_layout_free(layout);
	snap_ramlist_clear(&good.ram);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_same_at_any_offset),
		cmocka_unit_test(runs_follow_one_another_without_gaps),
		cmocka_unit_test(a_synthesized_stream_parses_to_the_same),
		cmocka_unit_test(a_canonical_stream_comes_back_byte_for_byte),
		cmocka_unit_test(sends_no_page_of_a_block_that_was_left_out),
		cmocka_unit_test(record_sizes_are_those_of_the_headers),
		cmocka_unit_test(lays_out_the_largest_guest),
		cmocka_unit_test(refuses_a_description_that_contradicts_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
