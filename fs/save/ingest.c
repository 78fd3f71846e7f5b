/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a stream's file to a page space.
 *
 * A write is cut where the file is: what stands before the stream (before.c),
 * the bitmaps and pages of mapped-ram (mapped.c), and the stream itself, which
 * the parser reads from its beginning to its end.
 *
 * Guest RAM comes first in the page space and devstate behind it, so where
 * devstate lies is known only when the list of RAM blocks is; and a stream that
 * turns out to be one that cannot be split begins at 0 instead. The parser
 * tells which before the first page, so until then the few bytes of state wait
 * in `head`. (Pages of mapped-ram need not wait: where a block lies is known
 * when it is listed.)
 *
 *	UNDECIDED --(first page, or the end)--> SPLIT     RAM blocks, devstate
 *	          --(OPAQUE)------------------> VERBATIM  the stream
 *
 * A stream that sends pages again leaves dead extents behind. When they
 * outweigh what is alive, or at the end when they are a good part of it,
 * the live ones are moved to a fresh file.
 */
#include "fs/save/ingest.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/qemu/parse.h"
#include "fs/save/before.h"
#include "fs/save/gather.h"
#include "fs/save/mapped.h"

/* State that may come before the first page; QEMU's is a few KiB. */
#define HEAD_MAX (4 * SNAP_MIB)
/* Dead bytes that are never worth a copy. */
#define DEAD_MIN (1 * SNAP_MIB)
/* Per cent of what is alive: while the stream comes, so that each byte is moved
 * once at most for each that came; at its end, when the guest may be waiting.
 */
#define DEAD_WHILE 100
#define DEAD_AT_END 15

enum space {
	SPACE_UNDECIDED,
	SPACE_SPLIT,
	SPACE_VERBATIM,
};

struct SnapIngest {
	SnapCatalog *catalog;
	char *path;
	struct snap_catalog_owner owner;
	int level;
	bool classic;
	SnapParser *parser;
	SnapPool *pool;
	SnapGather *gather;
	SnapLane *lane;
	SnapWriter *writer; /* whoever appends has it to himself */
	GMutex lock;
	struct snap_writer_stats stats; /* of it; protected by lock */
	struct snap_before before;
	uint64_t at;	    /* where in the file the parser stands */
	SnapMapped *mapped; /* NULL unless it is mapped-ram */
	enum space space;
	GByteArray *head;
	uint64_t state_base; /* where devstate, or the stream, begins */
	uint64_t state_size;
	uint8_t page[SNAP_PAGE]; /* its last page, not yet full */
	struct snap_ingest_result result;
};

/* ---- the end of the line: a lane's jobs go into the writer ---- */

static int append_fills(SnapWriter *w, const struct snap_job *job)
{
	for (guint p = 0; p < SNAP_REGION_PAGES;) {
		guint begin = p;
		int r;

		while (p < SNAP_REGION_PAGES &&
		       job->fills[p / 64] >> p % 64 & 1)
			p++;
		if (p == begin) {
			p++;
			continue;
		}
		r = snap_writer_fill(w, job->region * SNAP_REGION_PAGES + begin,
				     p - begin, job->fill);
		if (r < 0)
			return r;
	}
	return 0;
}

static int append_job(void *ctx, const struct snap_job *job)
{
	SnapIngest *in = ctx;
	int r = job->fills_any ? append_fills(in->writer, job) : 0;

	if (r == 0 && job->n)
		r = snap_writer_extent(in->writer, job->region, job->pages,
				       job->n, job->bytes, job->frame_size);
	g_mutex_lock(&in->lock);
	in->stats = snap_writer_stats(in->writer);
	g_mutex_unlock(&in->lock);
	return r;
}

static struct snap_writer_stats writer_stats(SnapIngest *in)
{
	SNAP_LOCKED(&in->lock);

	return in->stats;
}

/* ---- begin and end ---- */

/* It is known where in the file the stream begins. */
static void stream_begin(SnapIngest *in)
{
	in->at = in->before.begin;
	snap_parser_begin_at(in->parser, in->at);
}

int snap_ingest_new(const struct snap_ingest_opts *opts,
		    SnapIngest **ret_ingest, GError **error)
{
	g_autoptr(SnapIngest) in = g_new0(SnapIngest, 1);
	struct snap_writer_opts w = { .map_memory = opts->map_memory };
	int r;

	g_mutex_init(&in->lock);
	in->catalog = opts->catalog;
	in->path = g_strdup(opts->path);
	in->owner = opts->owner;
	in->level = opts->level;
	in->classic = opts->classic;
	in->pool = opts->pool;
	in->parser = snap_parser_new();
	snap_before_init(&in->before, opts->hole);
	if (in->before.known)
		stream_begin(in);
	in->head = g_byte_array_new();
	r = snap_catalog_create(in->catalog, in->path, &in->owner, &w.file,
				&w.scratch, error);
	if (r < 0)
		return r;
	r = snap_writer_new(&w, &in->writer, error);
	if (r < 0)
		return r;
	in->lane = snap_lane_new(opts->pool, append_job, in);
	in->gather = snap_gather_new(opts->pool, in->lane);
	*ret_ingest = g_steal_pointer(&in);
	return 0;
}

void snap_ingest_free(SnapIngest *in)
{
	if (!in)
		return;
	snap_mapped_free(in->mapped);
	snap_gather_free(in->gather);
	snap_lane_free(in->lane);
	snap_writer_free(in->writer);
	snap_parser_free(in->parser);
	snap_before_clear(&in->before);
	g_byte_array_unref(in->head);
	g_mutex_clear(&in->lock);
	g_free(in->path);
	g_free(in);
}

/* ---- the page space ---- */

/* Appends bytes to devstate, or to the stream kept verbatim. */
static void state_put(SnapIngest *in, const uint8_t *data, size_t size)
{
	while (size > 0) {
		size_t at = in->state_size % SNAP_PAGE;
		size_t n = MIN(size, SNAP_PAGE - at);
		uint64_t page = in->state_base + in->state_size - at;

		memcpy(in->page + at, data, n);
		in->state_size += n;
		data += n;
		size -= n;
		if (at + n == SNAP_PAGE)
			snap_gather_pages(in->gather, page, in->page,
					  SNAP_PAGE);
	}
}

/* The last page, filled up with zeros. */
static void state_flush(SnapIngest *in)
{
	size_t at = in->state_size % SNAP_PAGE;

	if (!at)
		return;
	memset(in->page + at, 0, SNAP_PAGE - at);
	snap_gather_pages(in->gather, in->state_base + in->state_size - at,
			  in->page, SNAP_PAGE);
}

static void space_decide(SnapIngest *in, enum space space)
{
	in->space = space;
	if (space == SPACE_SPLIT)
		in->state_base = snap_round_up(
			snap_parser_info(in->parser)->ram.flat_size,
			SNAP_REGION);
	state_put(in, in->head->data, in->head->len);
	g_byte_array_set_size(in->head, 0);
}

/* ---- events ---- */

static int take_state(SnapIngest *in, const struct snap_event *e,
		      GError **error)
{
	if (in->space != SPACE_UNDECIDED) {
		state_put(in, e->data, e->size);
		return 0;
	}
	if (in->head->len + e->size > HEAD_MAX &&
	    snap_parser_info(in->parser)->pages_at) {
		/* RAM is over, and had no page (x-ignore-shared). */
		space_decide(in, SPACE_SPLIT);
		state_put(in, e->data, e->size);
		return 0;
	}
	if (in->head->len + e->size > HEAD_MAX)
		return snap_fail(error, EPROTO,
				 "more than %u MiB of state before the first "
				 "page of RAM",
				 (unsigned)(HEAD_MAX / SNAP_MIB));
	g_byte_array_append(in->head, e->data, (guint)e->size);
	return 0;
}

/* A page, or a run of pages of one content; cut where regions end. */
static void take_pages(SnapIngest *in, const struct snap_event *e)
{
	const struct snap_ramlist *ram = &snap_parser_info(in->parser)->ram;
	uint64_t offset = ram->blocks[e->block].flat + e->offset;

	if (in->space == SPACE_UNDECIDED)
		space_decide(in, SPACE_SPLIT);
	for (uint64_t done = 0; done < e->size;) {
		uint64_t at = offset + done;
		uint64_t n =
			MIN(e->size - done, SNAP_REGION - at % SNAP_REGION);

		if (e->kind == SNAP_EVENT_PAGE)
			snap_gather_pages(in->gather, at, e->data + done, n);
		else
			snap_gather_fill(in->gather, at, n, e->fill);
		done += n;
	}
}

static int take_opaque(SnapIngest *in, const char *why, GError **error)
{
	if (snap_parser_info(in->parser)->mapped)
		return snap_fail(error, EOPNOTSUPP,
				 "a mapped-ram stream that cannot be split: %s",
				 why);
	g_strlcpy(in->result.why, why, sizeof(in->result.why));
	space_decide(in, SPACE_VERBATIM);
	return 0;
}

/* A block of mapped-ram; behind its parts the stream goes on. */
static int take_jump(SnapIngest *in, uint64_t to, GError **error)
{
	const struct snap_stream_info *info = snap_parser_info(in->parser);
	int r;

	if (!in->mapped)
		in->mapped =
			snap_mapped_new(in->pool, in->gather, in->before.begin,
					info->target_page);
	r = snap_mapped_add(in->mapped, &info->ram.blocks[info->ram.n - 1],
			    in->at, error);
	if (r == 0)
		in->at = to;
	return r;
}

static int take_event(SnapIngest *in, const struct snap_event *e,
		      GError **error)
{
	switch (e->kind) {
	case SNAP_EVENT_RAM:
		if (snap_parser_info(in->parser)->mapped)
			space_decide(in, SPACE_SPLIT);
		return 0;
	case SNAP_EVENT_PAGE:
	case SNAP_EVENT_FILL:
		take_pages(in, e);
		return 0;
	case SNAP_EVENT_STATE:
		return take_state(in, e, error);
	case SNAP_EVENT_JUMP:
		return take_jump(in, e->offset, error);
	case SNAP_EVENT_OPAQUE:
		return take_opaque(in, e->why, error);
	}
	g_assert_not_reached();
}

/* ---- dead extents ---- */

static int compact(SnapIngest *in, GError **error)
{
	g_autoptr(SnapCodec) codec = snap_codec_new(in->level);
	SnapFile *fresh;
	int r;

	snap_gather_flush(in->gather);
	r = snap_lane_wait(in->lane);
	if (r < 0)
		return snap_fail_errno(error, -r, "writing the snapshot");
	r = snap_catalog_create(in->catalog, in->path, &in->owner, &fresh, NULL,
				error);
	if (r < 0)
		return r;
	in->result.compactions++;
	r = snap_writer_compact(in->writer, fresh, codec, error);
	g_mutex_lock(&in->lock);
	in->stats = snap_writer_stats(in->writer);
	g_mutex_unlock(&in->lock);
	return r;
}

/* Compacts when dead bytes are more than `percent` of what is alive. */
static int compact_if(SnapIngest *in, unsigned percent, GError **error)
{
	struct snap_writer_stats s = writer_stats(in);

	if (s.dead < DEAD_MIN || s.dead * 100 <= (s.written - s.dead) * percent)
		return 0;
	return compact(in, error);
}

/* ---- the line ---- */

static int refuse_place(const SnapIngest *in, uint64_t offset, GError **error)
{
	if (offset < in->at)
		return snap_fail(error, EPROTO,
				 "offset %" PRIu64
				 ": the stream was written here already, and "
				 "stands at %" PRIu64,
				 offset, in->at);
	return snap_fail(error, EPROTO,
			 "offset %" PRIu64
			 ": nothing can lie here while the stream stands at "
			 "%" PRIu64,
			 offset, in->at);
}

/* Feeds bytes of the stream: as many as are of it, their count. */
static ssize_t take_stream(SnapIngest *in, const void *data, size_t size,
			   uint64_t offset, GError **error)
{
	const struct snap_ramlist *ram = &snap_parser_info(in->parser)->ram;
	struct snap_event e;
	bool jumped = false;
	int r;

	if (offset != in->at)
		return refuse_place(in, offset, error);
	snap_parser_feed(in->parser, data, size);
	while ((r = snap_parser_step(in->parser, &e, error)) > 0) {
		jumped = jumped || e.kind == SNAP_EVENT_JUMP;
		r = take_event(in, &e, error);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	if (jumped)
		return (ssize_t)MIN(size,
				    ram->blocks[ram->n - 1].bitmap - offset);
	in->at += size;
	return (ssize_t)size;
}

/* Takes as many bytes as are of one part of the file: their count. */
static ssize_t take_part(SnapIngest *in, const void *data, size_t size,
			 uint64_t offset, GError **error)
{
	ssize_t n;

	if (!in->before.known || offset < in->before.begin)
		return snap_before_write(&in->before, data, size, offset,
					 error);
	n = in->mapped
		    ? snap_mapped_write(in->mapped, data, size, offset, error)
		    : 0;
	return n ? n : take_stream(in, data, size, offset, error);
}

int snap_ingest_write(SnapIngest *in, const void *data, size_t size,
		      uint64_t offset, GError **error)
{
	const uint8_t *from = data;
	int r = snap_lane_error(in->lane);

	if (r < 0)
		return snap_fail_errno(error, -r, "writing the snapshot");
	for (size_t done = 0; done < size;) {
		bool known = in->before.known;
		ssize_t n = take_part(in, from + done, size - done,
				      offset + done, error);

		if (n < 0)
			return (int)n;
		if (!known && in->before.known)
			stream_begin(in);
		done += (size_t)n;
	}
	return compact_if(in, DEAD_WHILE, error);
}

bool snap_ingest_scattered(const SnapIngest *in)
{
	return snap_parser_info(in->parser)->mapped;
}

bool snap_ingest_takes(const SnapIngest *in, const void *data, size_t size,
		       uint64_t offset)
{
	bool begun = in->before.known && in->at > in->before.begin;

	if (snap_ingest_scattered(in))
		return true;
	return offset == (in->before.known
				  ? in->at
				  : snap_before_position(&in->before)) ||
	       snap_before_takes(&in->before, data, size, offset, begun);
}

void snap_ingest_idle(SnapIngest *in)
{
	snap_gather_flush(in->gather);
}

bool snap_ingest_complete(const SnapIngest *in)
{
	return snap_parser_complete(in->parser);
}

bool snap_ingest_waits(const SnapIngest *in)
{
	return in->mapped && snap_mapped_waits(in->mapped);
}

int snap_ingest_end(const SnapIngest *in, GError **error)
{
	int r = snap_parser_end(in->parser, error);

	return r == 0 && in->mapped ? snap_mapped_check(in->mapped, error) : r;
}

/* ---- commit ---- */

/* What stands before the stream lies behind all else; one that is shown as
 * another than it was saved as has nothing before it. */
static uint64_t before_size(const SnapIngest *in)
{
	return in->classic ? 0 : in->before.begin;
}

static void before_list(const SnapIngest *in, struct snap_meta *meta)
{
	if (before_size(in))
		snap_meta_add_block(meta, SNAP_BLOCK_BEFORE, "before",
				    before_size(in));
}

static void before_put(SnapIngest *in)
{
	const GByteArray *bytes = in->before.bytes;
	uint64_t base =
		snap_round_up(in->state_base + in->state_size, SNAP_REGION);

	for (guint at = 0; before_size(in) && at < bytes->len;
	     at += SNAP_PAGE) {
		guint n = MIN(bytes->len - at, SNAP_PAGE);

		memset(in->page, 0, SNAP_PAGE);
		memcpy(in->page, bytes->data + at, n);
		snap_gather_pages(in->gather, base + at, in->page, SNAP_PAGE);
	}
}

static void meta_fill(const SnapIngest *in, struct snap_meta *meta)
{
	const struct snap_stream_info *info = snap_parser_info(in->parser);

	meta->created = (uint64_t)g_get_real_time() * 1000;
	g_strlcpy(meta->machine, info->machine, sizeof(meta->machine));
	if (in->space == SPACE_VERBATIM) {
		meta->form = SNAP_FORM_VERBATIM;
		g_strlcpy(meta->why, in->result.why, sizeof(meta->why));
		snap_meta_add_block(meta, SNAP_BLOCK_STREAM, "stream",
				    in->state_size);
		before_list(in, meta);
		return;
	}
	meta->form = info->mapped && !in->classic ? SNAP_FORM_MAPPED
						  : SNAP_FORM_CLASSIC;
	meta->pages_at = info->pages_at;
	meta->ram_section = info->ram_section;
	meta->target_page = info->target_page;
	meta->footers = info->footers;
	for (guint i = 0; i < info->ram.n; i++) {
		const struct snap_ram_block *from = &info->ram.blocks[i];
		struct snap_block *to = snap_meta_add_block(
			meta, SNAP_BLOCK_RAM, from->name, from->length);

		to->page_size = from->page_size;
		to->gpa = from->gpa;
		to->ignored = from->ignored;
		g_assert(to->base == from->flat);
	}
	snap_meta_add_block(meta, SNAP_BLOCK_STATE, "devstate", in->state_size);
	before_list(in, meta);
}

static void result_fill(SnapIngest *in, const struct snap_meta *meta)
{
	struct snap_ingest_result *res = &in->result;

	for (guint i = 0; i < meta->n_blocks; i++)
		if (meta->blocks[i].kind == SNAP_BLOCK_RAM) {
			res->ram += meta->blocks[i].length;
			res->stored += meta->blocks[i].stored;
		}
	res->file = snap_writer_stats(in->writer).written;
}

int snap_ingest_commit(SnapIngest *in, int folder_fd,
		       struct snap_ingest_result *ret_result, GError **error)
{
	struct snap_meta meta = { 0 };
	int r = in->mapped ? snap_mapped_check(in->mapped, error) : 0;

	if (r < 0)
		return r;
	if (in->space == SPACE_UNDECIDED)
		space_decide(in, SPACE_SPLIT);
	in->result.repaired = in->mapped && snap_mapped_settle(in->mapped);
	state_flush(in);
	before_put(in);
	snap_gather_flush(in->gather);
	r = snap_lane_wait(in->lane);
	if (r < 0)
		return snap_fail_errno(error, -r, "writing the snapshot");
	r = compact_if(in, DEAD_AT_END, error);
	if (r < 0)
		return r;
	meta_fill(in, &meta);
	r = snap_writer_commit(in->writer, &meta, folder_fd,
			       SNAP_CATALOG_SNAPSHOT, error);
	if (r == 0) {
		result_fill(in, &meta);
		*ret_result = in->result;
	}
	snap_meta_clear(&meta);
	return r;
}
