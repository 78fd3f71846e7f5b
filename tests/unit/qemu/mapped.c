/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mapped-ram streams: parsed, synthesized, and the same guest in every form.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "format/base/error.h"
#include "format/base/units.h"
#include "format/qemu/wire.h"
#include "tests/unit/qemu/forms.h"

#define PAGE 4096u
#define ROOM (70 * PAGE) /* of pc.ram: two words of bitmap */

/* A file as QEMU writes it, and the expected result. */
struct made {
	GByteArray *file;
	GByteArray *state;
	size_t caps_at;	  /* in devstate */
	size_t listed[3]; /* in devstate */
	size_t pages_at;
	uint8_t ram[ROOM];
	uint8_t vga[2 * PAGE];
};

struct how {
	size_t begin;
	uint64_t align;
	bool shared;	/* with x-ignore-shared */
	bool left_out;	/* and without vga */
	bool page_bits; /* with the target page's bits before the list */
	bool behind;	/* and the uuid after it */
	bool early;	/* with early state before and behind RAM's list */
	bool unknown;	/* with a section of unknown length behind it */
};

/* The early state of virtio-mem with 130 blocks. */
static void make_early(GByteArray *s, uint32_t id)
{
	static const uint8_t bits[3 * 8] = { 0x7e, 0, 0, 0, 9 };

	stream_start(s, WIRE_SECTION_FULL, id,
		     "0000:00:03.0/virtio-mem-device-early", 1);
	stream_be64(s, (uint64_t)1 << 32);
	stream_be64(s, 130 * SNAP_REGION);
	stream_be64(s, SNAP_REGION);
	stream_be32(s, 0);
	stream_be64(s, 3 * SNAP_REGION);
	stream_bytes(s, bits, sizeof(bits));
	stream_footer(s, id);
}

/* Counts the bytes since `from` as devstate too. */
static void keep(struct made *m, size_t from)
{
	stream_bytes(m->state, m->file->data + from, m->file->len - from);
}

static void make_caps(struct made *m, const struct how *how)
{
	GByteArray *file = m->file;

	m->caps_at = m->state->len;
	stream_subsection(file, WIRE_CONFIG_CAPS);
	stream_be32(file, how->shared ? 2 : 1);
	if (how->shared)
		stream_str8(file, WIRE_CAP_IGNORE_SHARED);
	stream_str8(file, WIRE_CAP_MAPPED_RAM);
	if (!how->shared)
		return;
	stream_subsection(m->state, WIRE_CONFIG_CAPS);
	stream_be32(m->state, 1);
	stream_str8(m->state, WIRE_CAP_IGNORE_SHARED);
}

static void make_head(struct made *m, const struct how *how)
{
	static const uint8_t uuid[WIRE_UUID_SIZE] = { 5, 6, 7 };
	size_t from = m->file->len;

	stream_magic(m->file);
	stream_configuration(m->file, "pc-q35-10.0");
	if (how->page_bits) {
		stream_subsection(m->file, WIRE_CONFIG_PAGE_BITS);
		stream_be32(m->file, 12);
	}
	keep(m, from);
	make_caps(m, how);
	from = m->file->len;
	if (how->behind) {
		stream_subsection(m->file, WIRE_CONFIG_UUID);
		stream_bytes(m->file, uuid, sizeof(uuid));
	}
	if (how->early)
		make_early(m->file, 41);
	stream_start(m->file, WIRE_SECTION_START, 2, WIRE_RAM,
		     WIRE_RAM_VERSION);
	stream_total(m->file, ROOM + sizeof(m->vga));
	keep(m, from);
}

static void make_block(struct made *m, const struct how *how, int i,
		       const char *name, const uint8_t *ram, size_t size)
{
	size_t from = m->file->len;

	stream_block(m->file, name, size);
	if (how->shared)
		stream_be64(m->file, 0x40000000);
	keep(m, from);
	m->listed[i] = m->state->len;
	if (how->left_out && ram == m->vga)
		stream_mapped_header(m->file, WIRE_MAPPED_VERSION, PAGE, 0, 0);
	else
		stream_mapped(m->file, ram, size, how->align);
}

static void make_section(GByteArray *s, uint8_t type)
{
	stream_more(s, type, 2);
	stream_eos(s);
	stream_footer(s, 2);
}

static void make_tail(struct made *m, const struct how *how)
{
	size_t from = m->file->len;

	stream_eos(m->file);
	stream_footer(m->file, 2);
	if (how->early) {
		make_early(m->file, 42);
		make_early(m->file, 43);
	}
	keep(m, from);
	m->pages_at = m->state->len;
	from = m->file->len;
	if (how->unknown) {
		stream_start(m->file, WIRE_SECTION_START, 9,
			     "0000:00:04.0/vfio", 1);
		stream_be64(m->file, 0xffffffffef100001);
		stream_footer(m->file, 9);
	}
	make_section(m->file, WIRE_SECTION_PART);
	make_section(m->file, WIRE_SECTION_PART);
	stream_command(m->file, WIRE_CMD_SWITCHOVER, NULL, 0);
	make_section(m->file, WIRE_SECTION_END);
	stream_device(m->file, 5, "cpu", "registers", 9, true);
	stream_description(m->file, FORM_DESCRIPTION);
	keep(m, from);
}

static struct made *make(struct how how)
{
	struct made *m = g_new0(struct made, 1);

	m->file = g_byte_array_new();
	m->state = g_byte_array_new();
	stream_pattern(m->ram + PAGE, PAGE, 1);
	stream_pattern(m->ram + 64 * PAGE, 3 * PAGE, 2);
	m->ram[69 * PAGE + 7] = 1;
	if (!how.left_out)
		stream_pattern(m->vga, PAGE, 3);
	for (size_t i = 0; i < how.begin; i++)
		stream_byte(m->file, 0);
	make_head(m, &how);
	make_block(m, &how, 0, "pc.ram", m->ram, ROOM);
	make_block(m, &how, 1, "none", NULL, 0);
	make_block(m, &how, 2, "vga.vram", m->vga, sizeof(m->vga));
	make_tail(m, &how);
	return m;
}

static void made_free(struct made *m)
{
	g_byte_array_unref(m->file);
	g_byte_array_unref(m->state);
	g_free(m);
}

static const struct how hows[] = {
	{ 0, PAGE, false, false, false, false },
	{ 4711, PAGE, false, false, true, true },
	{ 92, PAGE, true, false, false, true },
	{ 1, PAGE, true, true, true, false },
	{ 0, PAGE, false, true, false, false },
	{ 0, PAGE, .early = true },
	{ 92, PAGE, .unknown = true },
	{ 4711, PAGE, .page_bits = true, .early = true, .unknown = true },
};

static void assert_bytes(const GByteArray *found, const GByteArray *expected)
{
	assert_int_equal(found->len, expected->len);
	assert_memory_equal(found->data, expected->data, expected->len);
}

static void takes_out_headers_and_the_capability(void **state)
{
	for (size_t i = 0; i < G_N_ELEMENTS(hows); i++) {
		struct made *m = make(hows[i]);
		struct stream_split s;

		stream_split_at(&s, m->file->data, m->file->len, hows[i].begin,
				0, 0);
		assert_null(s.error);
		assert_int_equal(s.end, 0);
		assert_true(s.complete);
		assert_true(s.info->ram_parts);
		assert_int_equal(!s.info->unknown, !hows[i].unknown);
		assert_int_equal(s.jumps, hows[i].left_out ? 2 : 3);
		assert_bytes(s.state, m->state);
		assert_memory_equal(s.ram, m->ram, ROOM);
		assert_memory_equal(s.ram + SNAP_REGION, m->vga,
				    sizeof(m->vga));
		stream_split_clear(&s);
		made_free(m);
	}
}

static void reports_all_offsets(void **state)
{
	for (size_t i = 0; i < G_N_ELEMENTS(hows); i++) {
		struct made *m = make(hows[i]);
		const struct snap_stream_info *info;
		struct stream_split s;

		stream_split_at(&s, m->file->data, m->file->len, hows[i].begin,
				0, 0);
		info = s.info;
		assert_true(info->mapped);
		assert_int_equal(info->begin, hows[i].begin);
		assert_int_equal(info->size, m->file->len);
		assert_int_equal(info->caps_at, m->caps_at);
		assert_int_equal(info->pages_at, m->pages_at);
		for (guint b = 0; b < 3; b++)
			assert_int_equal(info->ram.blocks[b].listed,
					 m->listed[b]);
		assert_int_equal(info->ram.blocks[0].pages % PAGE, 0);
		assert_memory_equal(m->file->data + info->ram.blocks[0].pages,
				    m->ram, ROOM);
		assert_int_equal(info->ram.blocks[2].ignored, hows[i].left_out);
		assert_int_equal(info->ram.blocks[2].pages == 0,
				 hows[i].left_out);
		stream_split_clear(&s);
		made_free(m);
	}
}

/* Cuts everywhere except in the pages, which are jumped over. */
static void gives_the_same_at_any_cut(void **state)
{
	for (size_t i = 0; i < G_N_ELEMENTS(hows); i++) {
		struct made *m = make(hows[i]);
		size_t size = m->file->len - hows[i].begin;
		struct stream_split whole, cut;

		stream_split_at(&whole, m->file->data, m->file->len,
				hows[i].begin, 0, 0);
		for (size_t at = 1; at < size; at += at < 400 ? 1 : 4093) {
			stream_split_at(&cut, m->file->data, m->file->len,
					hows[i].begin, at, 0);
			assert_true(stream_split_equal(&whole, &cut));
			stream_split_clear(&cut);
		}
		for (size_t step = 1; step < 5000; step = step * 3 + 1) {
			stream_split_at(&cut, m->file->data, m->file->len,
					hows[i].begin, 0, step);
			assert_true(stream_split_equal(&whole, &cut));
			stream_split_clear(&cut);
		}
		stream_split_clear(&whole);
		made_free(m);
	}
}

static void refuses_a_stream_that_ends_early(void **state)
{
	struct made *m = make(hows[1]);
	size_t mark = m->file->len - strlen(FORM_DESCRIPTION) - 5;

	for (size_t size = hows[1].begin; size < m->file->len;
	     size += size < 6000 || size > m->file->len - 300 ? 1 : 4093) {
		struct stream_split s;

		stream_split_at(&s, m->file->data, size, hows[1].begin, 0, 0);
		assert_int_equal(s.r, 0);
		assert_false(s.complete);
		assert_int_equal(s.end, size == mark ? 0 : -EPROTO);
		stream_split_clear(&s);
	}
	made_free(m);
}

static void drops_bytes_fed_after_a_header(void **state)
{
	struct made *m = make(hows[0]);
	g_autoptr(SnapParser) p = snap_parser_new();
	const struct snap_stream_info *info = snap_parser_info(p);
	struct snap_event ev = { 0 };
	GByteArray *got = g_byte_array_new();
	int r;

	snap_parser_feed(p, m->file->data, m->file->len);
	while ((r = snap_parser_step(p, &ev, NULL)) > 0) {
		if (ev.kind == SNAP_EVENT_STATE)
			stream_bytes(got, ev.data, ev.size);
		if (ev.kind != SNAP_EVENT_JUMP)
			continue;
		assert_int_equal(info->size, ev.offset);
		assert_int_equal(ev.offset,
				 info->ram.blocks[ev.block].pages +
					 info->ram.blocks[ev.block].length);
		assert_int_equal(snap_parser_step(p, &ev, NULL), 0);
		snap_parser_feed(p, m->file->data + info->size,
				 m->file->len - info->size);
	}
	assert_int_equal(r, 0);
	assert_bytes(got, m->state);
	g_byte_array_unref(got);
	made_free(m);
}

/* Checks that its layout, read whole and in pieces, gives the bytes of QEMU. */
static void check_layout(const struct stream_split *s, uint64_t begin,
			 const GByteArray *expected)
{
	struct snap_stream_info info = stream_info(s);
	g_autoptr(SnapLayout) layout = NULL;
	g_autofree uint8_t *bytes = g_malloc(expected->len);
	g_autoptr(GError) error = NULL;

	stream_layout_mapped(s, &info, begin, &layout, &error);
	assert_null(error);
	assert_int_equal(snap_layout_size(layout), expected->len);
	assert_true(stream_read(s, &info, layout, 0, bytes, expected->len));
	assert_memory_equal(bytes, expected->data, expected->len);
	for (size_t at = 0; at < expected->len; at += at < 600 ? 1 : 4099) {
		size_t n = MIN(4111, expected->len - at);

		assert_true(stream_read(s, &info, layout, at, bytes, n));
		assert_memory_equal(bytes, expected->data + at, n);
	}
	snap_ramlist_clear(&info.ram);
}

static void rebuilds_the_file_that_qemu_wrote(void **state)
{
	for (size_t i = 0; i < G_N_ELEMENTS(hows); i++) {
		struct how how = hows[i];
		struct stream_split s;
		struct made *m;

		how.align = SNAP_MIB;
		m = make(how);
		stream_split_at(&s, m->file->data, m->file->len, how.begin, 0,
				0);
		check_layout(&s, how.begin, m->file);
		stream_split_clear(&s);
		made_free(m);
	}
}

/* A layout describes a block without holding its bytes. */
static void lays_out_the_largest_guest(void **state)
{
	struct snap_stream_info info;
	g_autoptr(SnapLayout) layout = NULL;
	GByteArray *s = g_byte_array_new();
	struct stream_split split;
	struct snap_run run;
	uint64_t pages;

	stream_magic(s);
	stream_configuration(s, "pc");
	stream_start(s, WIRE_SECTION_START, 2, WIRE_RAM, WIRE_RAM_VERSION);
	stream_total(s, SNAP_RAM_BYTES_MAX);
	stream_block(s, "m", SNAP_RAM_BYTES_MAX);
	stream_eos(s);
	stream_footer(s, 2);
	make_section(s, WIRE_SECTION_END);
	stream_split(&split, s->data, s->len, 0, 0);
	info = *split.info;
	info.ram.blocks[0].stored = SNAP_RAM_BYTES_MAX;
	info.ram.blocks[0].ignored = false;
	assert_int_equal(stream_layout_mapped(&split, &info, (uint64_t)1 << 46,
					      &layout, NULL),
			 0);
	/* After 2 GiB of bitmap. */
	pages = ((uint64_t)1 << 46) + (2 * SNAP_GIB) + SNAP_MIB;
	assert_true(snap_layout_find(layout, pages, &run));
	assert_int_equal(run.kind, SNAP_RUN_PAGES);
	assert_int_equal(run.offset, pages);
	assert_int_equal(run.length, SNAP_RAM_BYTES_MAX);
	assert_true(snap_layout_find(layout, pages - SNAP_MIB, &run));
	assert_int_equal(run.kind, SNAP_RUN_BITMAP);
	stream_split_clear(&split);
	g_byte_array_unref(s);
}

static void assert_same_guest(const struct stream_split *a,
			      const struct stream_split *b)
{
	assert_int_equal(b->end, 0);
	assert_bytes(b->state, a->state);
	assert_int_equal(b->info->pages_at, a->info->pages_at);
	assert_int_equal(b->info->caps_at, a->info->caps_at);
	assert_int_equal(b->info->ram.n, a->info->ram.n);
	for (guint i = 0; i < a->info->ram.n; i++) {
		const struct snap_ram_block *x = &a->info->ram.blocks[i];
		const struct snap_ram_block *y = &b->info->ram.blocks[i];

		assert_int_equal(y->listed, x->listed);
		assert_int_equal(y->ignored, x->ignored);
		assert_memory_equal(b->ram + y->flat, a->ram + x->flat,
				    x->length);
	}
}

/* A classic stream goes out as mapped-ram and comes in again. */
static void a_classic_stream_is_the_same_guest_as_mapped_ram(void **state)
{
	for (guint i = 0; i < n_forms; i++) {
		struct snap_stream_info info;
		struct stream_split classic, mapped, devstate;
		g_autoptr(SnapLayout) layout = NULL;
		g_autofree uint8_t *bytes = NULL;
		GByteArray *s;
		size_t size;

		if (forms[i].opaque || strcmp(forms[i].name, "old") == 0 ||
		    strcmp(forms[i].name, "configured") == 0)
			continue;
		s = forms[i].make();
		stream_split(&classic, s->data, s->len, 0, 0);
		info = stream_info(&classic);
		assert_int_equal(stream_layout_mapped(&classic, &info, 555,
						      &layout, NULL),
				 0);
		size = (size_t)snap_layout_size(layout);
		bytes = g_malloc(size);
		assert_true(
			stream_read(&classic, &info, layout, 0, bytes, size));
		stream_split_at(&mapped, bytes, size, 555, 0, 0);
		assert_true(mapped.info->mapped);
		assert_same_guest(&classic, &mapped);
		stream_split_devstate(&devstate, classic.state->data,
				      classic.state->len);
		assert_bytes(devstate.state, classic.state);
		assert_int_equal(devstate.info->pages_at,
				 classic.info->pages_at);
		stream_split_clear(&devstate);
		stream_split_clear(&mapped);
		snap_ramlist_clear(&info.ram);
		stream_split_clear(&classic);
		g_byte_array_unref(s);
	}
}

/* RAM's empty sections belong to the devstate that QEMU wrote. */
static void a_devstate_of_a_devstate_is_the_same(void **state)
{
	for (size_t i = 0; i < G_N_ELEMENTS(hows); i++) {
		struct made *m = make(hows[i]);
		struct stream_split s;

		stream_split_devstate(&s, m->state->data, m->state->len);
		assert_int_equal(s.end, 0);
		assert_bytes(s.state, m->state);
		assert_int_equal(s.info->pages_at, m->pages_at);
		assert_int_equal(s.info->caps_at, m->caps_at);
		assert_false(s.info->mapped);
		stream_split_clear(&s);
		made_free(m);
	}
}

static void the_place_of_pages_does_not_depend_on_the_form(void **state)
{
	/* A bitmap's section between RAM's list and its pages. */
	GByteArray *s = g_byte_array_new();
	struct stream_split classic, devstate;
	size_t place;

	stream_magic(s);
	stream_configuration(s, "pc");
	stream_start(s, WIRE_SECTION_START, 2, WIRE_RAM, WIRE_RAM_VERSION);
	stream_total(s, PAGE);
	stream_block(s, "m", PAGE);
	stream_eos(s);
	stream_footer(s, 2);
	stream_start(s, WIRE_SECTION_START, 3, WIRE_DIRTY, WIRE_DIRTY_VERSION);
	stream_byte(s, WIRE_DIRTY_EOS);
	stream_footer(s, 3);
	place = s->len;
	stream_more(s, WIRE_SECTION_PART, 3);
	stream_byte(s, WIRE_DIRTY_EOS);
	stream_footer(s, 3);
	stream_more(s, WIRE_SECTION_PART, 2);
	stream_fill(s, "m", 0, 0);
	stream_eos(s);
	stream_footer(s, 2);
	stream_device(s, 5, "cpu", "registers", 9, true);
	stream_description(s, FORM_DESCRIPTION);
	stream_split(&classic, s->data, s->len, 0, 0);
	stream_split_devstate(&devstate, classic.state->data,
			      classic.state->len);
	assert_int_equal(classic.info->pages_at, place);
	assert_int_equal(devstate.info->pages_at, place);
	stream_split_clear(&devstate);
	stream_split_clear(&classic);
	g_byte_array_unref(s);
}

/* A stream with `zeros` zeros and `more` after its description. */
static void check_padded(const char *form, size_t zeros, const char *more,
			 size_t step, bool complete)
{
	GByteArray *s = form_make(form);
	size_t size = s->len;
	struct stream_split whole, plain;

	stream_split(&plain, s->data, size, 0, 0);
	for (size_t i = 0; i < zeros; i++)
		stream_byte(s, 0);
	stream_bytes(s, more, strlen(more));
	stream_split(&whole, s->data, s->len, size, step);
	assert_int_equal(whole.r, 0);
	assert_int_equal(whole.complete, complete);
	assert_int_equal(whole.end, complete ? 0 : -EPROTO);
	if (complete) {
		assert_bytes(whole.state, plain.state);
	} else {
		assert_int_equal(whole.state->len,
				 plain.state->len + zeros + strlen(more));
		assert_memory_equal(whole.state->data + plain.state->len,
				    s->data + size, zeros + strlen(more));
	}
	stream_split_clear(&plain);
	stream_split_clear(&whole);
	g_byte_array_unref(s);
}

static void
zeros_after_the_description_do_not_belong_to_the_stream(void **state)
{
	static const size_t steps[] = { 0, 1000, 65536 };

	for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
		check_padded("precopy", 1, "", steps[i], true);
		check_padded("precopy", 65536, "", steps[i], true);
		check_padded("vfio", 65536, "", steps[i], true);
		check_padded("precopy", 65537, "", steps[i], false);
		check_padded("precopy", 140000, "", steps[i], false);
	}
	check_padded("precopy", 700, "", 1, true);
}

static void zeros_before_other_bytes_are_passed_on(void **state)
{
	static const size_t steps[] = { 0, 1, 699, 700, 701 };

	for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
		check_padded("precopy", 700, "x", steps[i], false);
		check_padded("vfio", 700, "more", steps[i], false);
	}
	check_padded("precopy", 65536, "x", 1000, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_out_headers_and_the_capability),
		cmocka_unit_test(reports_all_offsets),
		cmocka_unit_test(gives_the_same_at_any_cut),
		cmocka_unit_test(refuses_a_stream_that_ends_early),
		cmocka_unit_test(drops_bytes_fed_after_a_header),
		cmocka_unit_test(rebuilds_the_file_that_qemu_wrote),
		cmocka_unit_test(lays_out_the_largest_guest),
		cmocka_unit_test(
			a_classic_stream_is_the_same_guest_as_mapped_ram),
		cmocka_unit_test(a_devstate_of_a_devstate_is_the_same),
		cmocka_unit_test(
			the_place_of_pages_does_not_depend_on_the_form),
		cmocka_unit_test(
			zeros_after_the_description_do_not_belong_to_the_stream),
		cmocka_unit_test(zeros_before_other_bytes_are_passed_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
