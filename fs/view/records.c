/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The page records of a classic stream, written again.
 *
 * The map finds the page whose record holds the first byte. From there records
 * are put together one by one; their pages are read many at a time.
 */
#include "fs/view/view-internal.h"

#include <string.h>

/* Pages are read into this buffer, which fits into the processor's second-level
 * cache, and copied from there. */
#define SCRATCH_PAGES 64u

static GPrivate scratch_key = G_PRIVATE_INIT(g_free);

static uint8_t *scratch(void)
{
	uint8_t *buf = g_private_get(&scratch_key);

	if (!buf) {
		buf = g_malloc((gsize)SCRATCH_PAGES * SNAP_PAGE);
		g_private_set(&scratch_key, buf);
	}
	return buf;
}

/* The destination of bytes; the first `skip` of them are dropped. */
struct sink {
	uint8_t *at;
	uint64_t left;
	uint64_t skip;
};

static void sink_put(struct sink *sink, const void *data, uint64_t size)
{
	uint64_t skip = MIN(sink->skip, size), n = MIN(size - skip, sink->left);

	sink->skip -= skip;
	if (!n)
		return;
	memcpy(sink->at, (const uint8_t *)data + skip, n);
	sink->at += n;
	sink->left -= n;
}

/* The records of a block that are being written. */
struct records {
	SnapSealed *sealed;
	guint block;
	struct snap_record_sizes sizes;
	struct snap_pages_records range;
	struct snap_pages_hint *hint;
	struct sink sink;
	uint64_t region; /* of `stored` */
	uint64_t stored[SNAP_REGION_PAGES / 64];
};

static bool is_stored(const struct records *rec, uint64_t page)
{
	guint p = (guint)(page % SNAP_REGION_PAGES);

	return rec->stored[p / 64] >> p % 64 & 1;
}

/* Fills `stored` for the region of `page`. */
static int see_region(struct records *rec, uint64_t page)
{
	uint64_t region = page / SNAP_REGION_PAGES;

	if (region == rec->region)
		return 0;
	rec->region = region;
	return snap_pages_stored(rec->sealed->pages, region, rec->stored);
}

/* The bytes of the record of a page. */
static uint64_t record_size(const struct records *rec, uint64_t page)
{
	return (is_stored(rec, page) ? rec->sizes.stored : rec->sizes.zero) +
	       (page == rec->range.first ? rec->sizes.first_extra : 0);
}

static void put_header(struct records *rec, uint64_t page)
{
	uint8_t header[SNAP_RECORD_HEADER_MAX];
	uint64_t offset = (page - rec->range.first) * SNAP_PAGE;
	size_t n = snap_record_header(&rec->sealed->info, rec->block, offset,
				      !is_stored(rec, page), header);

	sink_put(&rec->sink, header, n);
}

/* The number of pages from `page` on that are stored, lie in one region, are
 * needed, and fit into the scratch buffer. */
static guint wanted_run(const struct records *rec, uint64_t page)
{
	guint unit = rec->range.unit, n = unit;
	uint64_t end =
		MIN(rec->range.end, (rec->region + 1) * SNAP_REGION_PAGES);
	uint64_t records =
		snap_div_up(rec->sink.skip + rec->sink.left, rec->sizes.stored);
	uint64_t most = MIN(records * unit, SCRATCH_PAGES / unit * unit);

	while (n + unit <= most && page + n + unit <= end &&
	       is_stored(rec, page + n))
		n += unit;
	return n;
}

/* Puts the records of stored pages from *page on, and moves *page behind them.
 */
static int put_stored(struct records *rec, uint64_t *page)
{
	guint n = wanted_run(rec, *page), unit = rec->range.unit;
	uint8_t *buf = scratch();
	int r = snap_pages_read(rec->sealed->pages, buf, (size_t)n * SNAP_PAGE,
				*page * SNAP_PAGE, rec->hint);

	if (r < 0)
		return r;
	for (guint i = 0; i < n; i += unit) {
		put_header(rec, *page + i);
		sink_put(&rec->sink, buf + (size_t)i * SNAP_PAGE,
			 (uint64_t)unit * SNAP_PAGE);
	}
	*page += n;
	return 0;
}

/* Puts records from the record of `page` on until the sink is full. */
static int put_records(struct records *rec, uint64_t page)
{
	while (rec->sink.left && page < rec->range.end) {
		int r = see_region(rec, page);

		if (r < 0)
			return r;
		if (rec->sink.skip >= record_size(rec, page)) {
			rec->sink.skip -= record_size(rec, page);
			page += rec->range.unit;
		} else if (is_stored(rec, page)) {
			r = put_stored(rec, &page);
			if (r < 0)
				return r;
		} else {
			put_header(rec, page);
			page += rec->range.unit;
		}
	}
	/* The map and the sums of the blocks do not agree. */
	return rec->sink.left ? -EBADMSG : 0;
}

int snap_records_read(SnapSealed *s, const struct snap_run *run, void *buf,
		      size_t size, uint64_t offset,
		      struct snap_pages_hint *hint)
{
	const struct snap_ram_block *b = &s->info.ram.blocks[run->block];
	struct snap_record_sizes sizes =
		snap_record_sizes(&s->info, run->block);
	struct records rec = {
		.sealed = s,
		.block = run->block,
		.sizes = sizes,
		.hint = hint,
		.sink = { buf, size, 0 },
		.region = UINT64_MAX,
		.range = { .first = b->flat / SNAP_PAGE,
			   .end = (b->flat + b->length) / SNAP_PAGE,
			   .unit = s->info.target_page / SNAP_PAGE,
			   .stored = sizes.stored,
			   .zero = sizes.zero },
	};
	uint64_t page, begin;
	/* As if the first record were not longer than the others. */
	uint64_t plain = offset - MIN(offset, sizes.first_extra);
	int r = snap_pages_find(s->pages, &rec.range, plain, &page, &begin);

	if (r < 0)
		return r;
	if (page != rec.range.first)
		begin += sizes.first_extra;
	rec.sink.skip = offset - begin;
	return put_records(&rec, page);
}
