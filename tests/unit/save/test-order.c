/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file of a mapped-ram stream becomes the same snapshot, in whatever order
 * it is written and however it is cut. */
#include "tests/unit/save/mapped-file.h"

#include <errno.h>
#include <string.h>

#include "tests/lib/stream.h"

static void open_file(struct world *w, struct file *f, uint32_t page)
{
	world_open(w, SNAP_SAVER_BUFFER_MIN);
	file_fill_ram(w);
	*f = (struct file){ .page = page };
	if (page != SNAP_PAGE) {
		/* RAM is a whole number of target pages. */
		size_t size = RAM_SIZE / page * page;

		memset(w->ram + size, 0, RAM_SIZE - size);
	}
	file_make(w, f);
}

/* Checks that it was saved as mapped-ram and that its device state does not
 * show that. */
static void assert_mapped(struct world *w)
{
	const struct snap_block *state;
	g_autofree uint8_t *bytes = NULL;
	struct snap_meta meta;

	assert_saved(w);
	saved_meta(w, &meta);
	assert_int_equal(meta.form, SNAP_FORM_MAPPED);
	state = snap_meta_find(&meta, SNAP_BLOCK_STATE);
	bytes = saved_bytes(w, state->base, state->length);
	assert_null(memmem(bytes, state->length, "mapped-ram", 10));
	assert_non_null(memmem(bytes, state->length, "{\"devices\"", 10));
	snap_meta_clear(&meta);
}

static void a_file_is_saved_from_its_beginning_to_its_end(void **state)
{
	static const size_t steps[] = { 997, 4096, 131072, 1 << 20 };

	for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
		struct world w;
		struct file f;

		open_file(&w, &f, SNAP_PAGE);
		begin_save(&w);
		assert_int_equal(put_all(&w, w.stream->len, steps[i]), 0);
		assert_int_equal(snap_save_state(w.save, NULL), SNAP_SAVE_DONE);
		assert_mapped(&w);
		world_close(&w);
	}
}

static void a_file_is_saved_as_qemu_writes_it(void **state)
{
	static const uint32_t pages[] = { 4096, 16384, 65536 };

	for (guint i = 0; i < G_N_ELEMENTS(pages); i++) {
		g_autoptr(GArray) cuts = NULL;
		uint64_t bytes;
		struct world w;
		struct file f;

		open_file(&w, &f, pages[i]);
		cuts = cuts_of_qemu(&w, &f);
		begin_save(&w);
		assert_int_equal(put_cuts(&w, cuts), 0);
		assert_int_equal(snap_save_state(w.save, &bytes),
				 SNAP_SAVE_DONE);
		assert_int_equal(bytes, w.stream->len);
		assert_mapped(&w);
		world_close(&w);
	}
}

static int compare_rank(gconstpointer a, gconstpointer b)
{
	const struct cut *x = a, *y = b;

	return x->size < y->size ? -1 : x->size > y->size;
}

/* Cuts [from, to) at odd offsets, and shuffles neighbouring pieces. */
static void cuts_add_mixed(GArray *cuts, GRand *rand, uint64_t from,
			   uint64_t to)
{
	g_autoptr(GArray) pieces = cuts_new(); /* by offset */
	g_autoptr(GArray) order = cuts_new();  /* index and rank */
	uint64_t at = from;

	while (at < to) {
		uint64_t n = (uint64_t)g_rand_int_range(rand, 1, 20000);
		struct cut c = { at, MIN(n, to - at) };
		struct cut rank = { pieces->len,
				    pieces->len * 10 +
					    (uint64_t)g_rand_int_range(rand, 0,
								       150) };

		g_array_append_val(pieces, c);
		g_array_append_val(order, rank);
		at += c.size;
	}
	g_array_sort(order, compare_rank);
	for (guint i = 0; i < order->len; i++) {
		guint piece = (guint)g_array_index(order, struct cut, i).offset;
		struct cut c = g_array_index(pieces, struct cut, piece);

		g_array_append_val(cuts, c);
	}
}

static void pages_and_bitmaps_come_in_any_order_and_cut_anywhere(void **state)
{
	for (uint32_t seed = 1; seed < 5; seed++) {
		g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
		g_autoptr(GArray) cuts = cuts_new();
		struct world w;
		struct file f;

		open_file(&w, &f, seed == 4 ? 16384 : SNAP_PAGE);
		cuts_add_stream(cuts, &f);
		/* with the padding between them */
		cuts_add_mixed(cuts, rand, f.rom.bitmap,
			       f.rom.pages + f.rom.length);
		cuts_add_mixed(cuts, rand, f.ram.bitmap,
			       f.ram.pages + f.ram.length);
		cuts_add_devices(cuts, &w, &f);
		begin_save(&w);
		assert_int_equal(put_cuts(&w, cuts), 0);
		assert_mapped(&w);
		world_close(&w);
	}
}

/* A channel, which writes every second run of pages. */
struct channel {
	struct world *w;
	GArray *cuts;
	guint first;
};

static gpointer channel_run(gpointer data)
{
	const struct channel *ch = data;

	for (guint i = ch->first; i < ch->cuts->len; i += 2) {
		const struct cut *c = &g_array_index(ch->cuts, struct cut, i);

		assert_int_equal(put(ch->w, ch->w->stream->data + c->offset,
				     c->size, c->offset),
				 c->size);
	}
	return NULL;
}

static void channels_write_at_once(void **state)
{
	g_autoptr(GArray) before = cuts_new();
	g_autoptr(GArray) pages = cuts_new();
	g_autoptr(GArray) behind = cuts_new();
	struct channel one, two;
	GThread *thread;
	struct world w;
	struct file f;

	open_file(&w, &f, SNAP_PAGE);
	cuts_add_stream(before, &f);
	cuts_add_pages(pages, &w, &f, &f.ram, 128);
	cuts_add_pages(pages, &w, &f, &f.rom, 128);
	cuts_add_bitmaps(behind, &f);
	cuts_add_devices(behind, &w, &f);
	begin_save(&w);
	assert_int_equal(put_cuts(&w, before), 0);
	assert_true(snap_save_scattered(w.save));
	one = (struct channel){ &w, pages, 0 };
	two = (struct channel){ &w, pages, 1 };
	thread = g_thread_new("channel", channel_run, &one);
	channel_run(&two);
	g_thread_join(thread);
	assert_int_equal(put_cuts(&w, behind), 0);
	assert_mapped(&w);
	world_close(&w);
}

static void a_page_that_is_written_again_ends_as_written_last(void **state)
{
	g_autoptr(GArray) cuts = cuts_new();
	g_autofree uint8_t *old = g_malloc(SNAP_PAGE);
	struct world w;
	struct file f;

	open_file(&w, &f, SNAP_PAGE);
	stream_pattern(old, SNAP_PAGE, 1234);
	begin_save(&w);
	cuts_add_stream(cuts, &f);
	assert_int_equal(put_cuts(&w, cuts), 0);
	for (uint64_t at = 0; at < RAM_SIZE; at += SNAP_PAGE)
		assert_int_equal(put(&w, old, SNAP_PAGE, f.ram.pages + at),
				 SNAP_PAGE);
	g_array_set_size(cuts, 0);
	/* Zero pages are not written, but left out of the bitmap. */
	cuts_add_pages(cuts, &w, &f, &f.ram, 3);
	cuts_add_pages(cuts, &w, &f, &f.rom, 3);
	cuts_add_bitmaps(cuts, &f);
	cuts_add_devices(cuts, &w, &f);
	assert_int_equal(put_cuts(&w, cuts), 0);
	assert_mapped(&w);
	world_close(&w);
}

/* snapfs's own `mapped` of a classic snapshot: a copy of it is classic. */
static void without_ram_parts_it_is_classic(void **state)
{
	struct file f = { .page = SNAP_PAGE, .no_parts = true };
	struct snap_meta meta;
	struct world w;

	world_open(&w, SNAP_SAVER_BUFFER_MIN);
	file_fill_ram(&w);
	file_make(&w, &f);
	begin_save(&w);
	assert_int_equal(put_all(&w, w.stream->len, 1 << 20), 0);
	assert_saved(&w);
	saved_meta(&w, &meta);
	assert_int_equal(meta.form, SNAP_FORM_CLASSIC);
	assert_null(snap_meta_find(&meta, SNAP_BLOCK_PREAMBLE));
	snap_meta_clear(&meta);
	world_close(&w);
}

/* Apart from the RAM PARTs, which a classic stream cannot keep. */
static void the_device_state_is_that_of_a_classic_stream(void **state)
{
	uint8_t *bytes[2];
	struct snap_meta meta[2];

	for (guint i = 0; i < 2; i++) {
		struct file f = { .page = SNAP_PAGE, .no_parts = true };
		const struct snap_block *block;
		struct world w;

		world_open(&w, SNAP_SAVER_BUFFER_MIN);
		file_fill_ram(&w);
		w.stream = g_byte_array_new();
		if (i)
			file_make(&w, &f);
		else
			file_make_classic(&w);
		begin_save(&w);
		assert_int_equal(put_all(&w, w.stream->len, 1 << 20), 0);
		assert_saved(&w);
		saved_meta(&w, &meta[i]);
		block = snap_meta_find(&meta[i], SNAP_BLOCK_STATE);
		bytes[i] = saved_bytes(&w, block->base, block->length);
		world_close(&w);
	}
	assert_int_equal(meta[0].pages_at, meta[1].pages_at);
	assert_int_equal(meta[0].n_blocks, meta[1].n_blocks);
	for (guint i = 0; i < meta[0].n_blocks; i++) {
		assert_int_equal(meta[0].blocks[i].base,
				 meta[1].blocks[i].base);
		assert_int_equal(meta[0].blocks[i].length,
				 meta[1].blocks[i].length);
		assert_int_equal(meta[0].blocks[i].stored,
				 meta[1].blocks[i].stored);
	}
	assert_memory_equal(bytes[0], bytes[1], meta[0].blocks[2].length);
	for (guint i = 0; i < 2; i++) {
		g_free(bytes[i]);
		snap_meta_clear(&meta[i]);
	}
}

/* One write of the file: left out, repeated, moved, cut, or with a wrong
 * byte. */
static void put_wrong(struct world *w, GRand *rand, const struct cut *c)
{
	int how = g_rand_int_range(rand, 0, 1000);
	uint64_t size = c->size, offset = c->offset;
	g_autofree uint8_t *data = g_memdup2(w->stream->data + offset, size);

	if (how == 0)
		return;
	if (how == 1)
		put(w, data, size, offset);
	if (how == 2)
		offset += (uint64_t)g_rand_int_range(rand, 1, 9000);
	if (how == 3)
		size = (uint64_t)g_rand_int_range(rand, 1, (gint32)size + 1);
	if (how == 4)
		data[(uint64_t)g_rand_int_range(rand, 0, (gint32)size)] ^= 1;
	put(w, data, size, offset);
}

/* Any sequence of writes ends in a valid snapshot or in none. */
static void writes_that_went_wrong_do_no_harm(void **state)
{
	guint saved = 0;
	struct world w;
	struct file f;

	open_file(&w, &f, SNAP_PAGE);
	for (uint32_t seed = 0; seed < 40; seed++) {
		g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
		g_autoptr(GArray) cuts = cuts_of_qemu(&w, &f);
		g_autoptr(SnapReader) reader = NULL;

		begin_save(&w);
		for (guint i = 0; i < cuts->len; i++)
			put_wrong(&w, rand,
				  &g_array_index(cuts, struct cut, i));
		snap_save_end(w.save);
		if (snap_save_wait(w.save, NULL) < 0)
			continue;
		saved++;
		assert_int_equal(snap_catalog_find(w.folder_fd, &reader, NULL),
				 0);
		assert_int_equal(snap_verify(reader, NULL, NULL, NULL, NULL),
				 0);
	}
	assert_in_range(saved, 1, 39);
	world_close(&w);
}

/* Many small writes wait for the parser within the limit of the buffer. */
static void small_writes_stay_within_the_buffer(void **state)
{
	struct snap_saver_stats stats;
	g_autoptr(GArray) cuts = cuts_new();
	g_autofree uint8_t *page = g_malloc(SNAP_PAGE);
	struct world w;
	struct file f;

	open_file(&w, &f, SNAP_PAGE);
	begin_save(&w);
	cuts_add_stream(cuts, &f);
	assert_int_equal(put_cuts(&w, cuts), 0);
	for (uint32_t i = 0; i < 20000; i++) {
		uint64_t p = (uint64_t)i * 611 % RAM_PAGES;

		stream_pattern(page, SNAP_PAGE, i);
		assert_int_equal(
			put(&w, page, SNAP_PAGE, f.ram.pages + p * SNAP_PAGE),
			SNAP_PAGE);
		stats = snap_saver_stats(w.saver);
		assert_true(stats.buffered <= SNAP_SAVER_BUFFER_MIN);
	}
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_is_saved_from_its_beginning_to_its_end),
		cmocka_unit_test(a_file_is_saved_as_qemu_writes_it),
		cmocka_unit_test(
			pages_and_bitmaps_come_in_any_order_and_cut_anywhere),
		cmocka_unit_test(channels_write_at_once),
		cmocka_unit_test(
			a_page_that_is_written_again_ends_as_written_last),
		cmocka_unit_test(without_ram_parts_it_is_classic),
		cmocka_unit_test(the_device_state_is_that_of_a_classic_stream),
		cmocka_unit_test(writes_that_went_wrong_do_no_harm),
		cmocka_unit_test(small_writes_stay_within_the_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
