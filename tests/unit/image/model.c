/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>

#include "tests/unit/image/model.h"

#define STATE_SIZE 100u

void model_init(struct model *m, uint64_t pages, guint32 seed)
{
	memset(m, 0, sizeof(*m));
	m->pages = pages;
	m->bytes = g_malloc0(pages * SNAP_PAGE);
	m->rand = g_rand_new_with_seed(seed);
	m->codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
}

void model_clear(struct model *m)
{
	g_free(m->bytes);
	g_rand_free(m->rand);
	snap_codec_free(m->codec);
}

/* Pages that compress well and differ from each other. */
static void invent(struct model *m, uint8_t *page)
{
	guint32 word = g_rand_int(m->rand);

	for (guint i = 0; i < SNAP_PAGE; i += sizeof(word))
		memcpy(page + i, &word, sizeof(word));
	page[g_rand_int_range(m->rand, 0, SNAP_PAGE)] ^= 1;
}

int model_put(struct model *m, SnapWriter *w, uint64_t region,
	      const uint16_t *pages, guint n)
{
	uint8_t data[SNAP_EXTENT_BYTES];
	g_autofree void *frame = g_malloc(SNAP_EXTENT_BOUND);
	ssize_t size;

	for (guint i = 0; i < n; i++) {
		uint64_t page = region * SNAP_REGION_PAGES + pages[i];
		uint8_t *to = m->bytes + page * SNAP_PAGE;

		assert_true(page < m->pages);
		invent(m, to);
		memcpy(data + (size_t)i * SNAP_PAGE, to, SNAP_PAGE);
	}
	size = snap_codec_compress(m->codec, data, n, frame);
	assert_true(size > 0);
	m->extents += (uint64_t)size;
	if (m->log)
		g_byte_array_append(m->log, data, n * SNAP_PAGE);
	return snap_writer_extent(w, region, pages, n, frame, (size_t)size);
}

int model_fill(struct model *m, SnapWriter *w, uint64_t page, uint64_t count,
	       uint8_t fill)
{
	memset(m->bytes + page * SNAP_PAGE, fill, count * SNAP_PAGE);
	return snap_writer_fill(w, page, count, fill);
}

/* An extent of a few pages with gaps between some of them. */
static int play_put(struct model *m, SnapWriter *w)
{
	uint64_t first = (uint64_t)g_rand_int_range(m->rand, 0, (int)m->pages);
	uint64_t region = first / SNAP_REGION_PAGES;
	guint wanted = (guint)g_rand_int_range(m->rand, 1, 17);
	uint16_t pages[SNAP_EXTENT_PAGES];
	guint page = first % SNAP_REGION_PAGES, n = 0;

	while (n < wanted && page < SNAP_REGION_PAGES &&
	       region * SNAP_REGION_PAGES + page < m->pages) {
		pages[n++] = (uint16_t)page;
		page += g_rand_int_range(m->rand, 0, 4)
				? 1
				: (guint)g_rand_int_range(m->rand, 1, 9);
	}
	return model_put(m, w, region, pages, n);
}

int model_play(struct model *m, SnapWriter *w, guint steps)
{
	int r = 0;

	for (guint i = 0; r == 0 && i < steps; i++) {
		int what = g_rand_int_range(m->rand, 0, 20);
		uint64_t page, count;

		if (what > 3) {
			r = play_put(m, w);
			continue;
		}
		page = (uint64_t)g_rand_int_range(m->rand, 0, (int)m->pages);
		count = (uint64_t)g_rand_int_range(m->rand, 1, what ? 20 : 700);
		r = model_fill(m, w, page, MIN(count, m->pages - page),
			       what > 1 ? 0 : 0x5a);
	}
	return r;
}

int model_commit(struct model *m, SnapWriter *w, int dirfd, const char *name,
		 GError **error)
{
	struct snap_meta meta = { .form = SNAP_FORM_CLASSIC,
				  .created = 1000000007,
				  .machine = "pc-q35-7.2",
				  .pages_at = 50,
				  .ram_section = 2,
				  .target_page = SNAP_PAGE,
				  .footers = true };
	int r;

	snap_meta_add_block(&meta, SNAP_BLOCK_RAM, "pc.ram",
			    m->pages * SNAP_PAGE);
	snap_meta_add_block(&meta, SNAP_BLOCK_STATE, "devstate", STATE_SIZE);
	r = snap_writer_commit(w, &meta, dirfd, name, error);
	snap_meta_clear(&meta);
	return r;
}

/* ---- reading ---- */

/* Compares a run with the array. */
static int read_run(const struct model *m, SnapReader *r, uint64_t region,
		    const struct snap_segment *s)
{
	uint8_t data[SNAP_EXTENT_BYTES];
	uint64_t first = region * SNAP_REGION_PAGES + s->page;
	int ret = 0;

	if (s->kind == SNAP_SEGMENT_EXTENT)
		ret = snap_reader_extent(r, s, m->codec, data);
	for (guint i = 0; ret == 0 && i < s->count; i++) {
		const uint8_t *is = data + (size_t)(s->first + i) * SNAP_PAGE;
		uint8_t fill[SNAP_PAGE];

		if (first + i >= m->pages)
			break;
		if (s->kind != SNAP_SEGMENT_EXTENT) {
			memset(fill, s->fill, sizeof(fill));
			is = fill;
		}
		assert_memory_equal(is, m->bytes + (first + i) * SNAP_PAGE,
				    SNAP_PAGE);
	}
	return ret;
}

static int read_region(const struct model *m, SnapReader *r, uint64_t region,
		       const struct snap_entry *e)
{
	struct snap_leaf leaf;
	int ret = snap_reader_leaf(r, region, e, &leaf);

	for (guint i = 0; ret == 0 && i < leaf.n; i++)
		ret = read_run(m, r, region, &leaf.segments[i]);
	return ret;
}

int model_read(const struct model *m, SnapReader *r)
{
	struct snap_node node;
	int ret = 0;
	guint n;

	snap_reader_top(r, &n);
	for (guint i = 0; ret == 0 && i < n; i++) {
		ret = snap_reader_node(r, i, &node);
		for (guint j = 0; ret == 0 && j < node.n; j++)
			ret = read_region(m, r,
					  (uint64_t)i * SNAP_NODE_ENTRIES + j,
					  &node.entries[j]);
	}
	return ret;
}

/* ---- files ---- */

SnapWriter *model_writer(struct crash_disk *disk, uint64_t map_memory)
{
	struct snap_writer_opts opts = {
		.file = crash_file_new(disk),
		.map_memory = map_memory,
		.uuid = (const uint8_t *)"0123456789abcdef",
	};
	SnapWriter *w;

	assert_int_equal(snap_file_scratch(AT_FDCWD, &opts.scratch), 0);
	return snap_writer_new(&opts, &w, NULL) == 0 ? w : NULL;
}

SnapReader *model_open(const struct crash_disk *disk, GByteArray **ret_bytes)
{
	GByteArray *bytes = crash_disk_after(disk, disk->events->len, NULL);
	GError *error = NULL;
	SnapReader *r;

	if (snap_reader_open(memory_file_new(bytes->data, bytes->len), &r,
			     &error) < 0)
		fail_msg("%s", error->message);
	*ret_bytes = bytes;
	return r;
}
