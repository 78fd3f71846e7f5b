/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a stream's file to a page space.
 *
 * A write is cut at the borders in the file: the preamble (preamble.c), the
 * bitmaps and pages of mapped-ram (mapped.c), and the stream itself, which the
 * parser reads from its beginning to its end.
 *
 * In the page space, guest RAM comes first and devstate follows, so the place
 * of devstate is known only after the list of RAM blocks. A stream that cannot
 * be split begins at 0 instead. The parser says which it is before the first
 * page; until then the few bytes of state wait in `early`. (Pages of mapped-ram
 * need not wait: the place of a block is known when it is listed.)
 *
 *	UNDECIDED --(first page, or the end)--> SPLIT     RAM blocks, devstate
 *	          --(OPAQUE)------------------> VERBATIM  the stream
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "format/base/error.h"
#include "fs/calls/call.h"
#include "fs/save/ingest-internal.h"

/* The largest state before the first page. QEMU's is a few KiB. */
#define EARLY_MAX (4 * SNAP_MIB)

/* The largest hole that a copy may leave in the device state. */
#define HOLE_MAX (64 * SNAP_MIB)

/* ---- a lane's jobs go into the writer ---- */

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
	struct snap_call call = { .what = "write", .path = in->path };
	int r;

	snap_call_begin(&call);
	r = job->fills_any ? append_fills(in->writer, job) : 0;
	if (r == 0 && job->n)
		r = snap_writer_extent(in->writer, job->region, job->pages,
				       job->n, job->bytes, job->frame_size);
	if (r == 0 && job->n_shared)
		r = snap_parent_append(in->parent, in->writer, job);
	snap_call_end(&call);
	snap_ingest_note_stats(in);
	return r;
}

/* ---- begin and end ---- */

int snap_ingest_new(const struct snap_ingest_opts *opts,
		    SnapIngest **ret_ingest, GError **error)
{
	g_autoptr(SnapIngest) in = g_new0(SnapIngest, 1);
	struct snap_call call = { .what = "creation", .path = opts->path };
	struct snap_writer_opts w = { .map_memory = opts->map_memory,
				      .may_publish = opts->may_publish,
				      .data = opts->data,
				      .step = snap_call_go_on };
	int r;

	g_mutex_init(&in->lock);
	in->catalog = opts->catalog;
	in->path = g_strdup(opts->path);
	in->owner = opts->owner;
	in->first = opts->first;
	in->increments = opts->increments;
	in->folder_fd = opts->folder_fd;
	in->parent_path = opts->parent;
	in->pool = opts->pool;
	in->parser = snap_parser_new();
	in->at = opts->begin;
	snap_parser_begin_at(in->parser, in->at);
	snap_preamble_init(&in->preamble, opts->pool, opts->begin);
	r = opts->preamble_fd < 0
		    ? 0
		    : snap_preamble_load(&in->preamble, opts->preamble_fd,
					 error);
	if (r < 0)
		return r;
	snap_call_begin(&call);
	r = snap_catalog_create(in->catalog, in->path, &in->owner, &w.file,
				&w.scratch, error);
	snap_call_end(&call);
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
	snap_parent_free(in->parent);
	snap_parser_free(in->parser);
	snap_preamble_clear(&in->preamble);
	g_free(in->early);
	snap_state_clear(in);
	g_mutex_clear(&in->lock);
	g_free(in->path);
	g_free(in);
}

/* ---- the page space ---- */

static void compare_job(void *ctx, SnapCompare *compare, struct snap_job *job)
{
	SnapIngest *in = ctx;
	struct snap_call call = { .what = "comparison", .path = in->path };

	snap_call_begin(&call);
	snap_parent_compare(in->parent, compare, job);
	snap_call_end(&call);
}

/* Looks for a parent, once RAM blocks are known. No page has been submitted
 * yet, so the thread that appends does not use the writer. */
static void find_parent(SnapIngest *in)
{
	struct snap_parent_opts opts = {
		.is_begun = in->space == SPACE_UNDECIDED,
		.catalog = in->catalog,
		.folder_fd = in->folder_fd,
		.parent = in->parent_path,
		.name = in->path,
		.uid = in->owner.uid == (uid_t)-1 ? geteuid() : in->owner.uid,
	};
	struct snap_call call = { .what = "search for the parent",
				  .path = in->path };

	if (!in->increments || in->has_looked)
		return;
	in->has_looked = true;
	snap_call_begin(&call);
	in->parent =
		snap_parent_find(&opts, &snap_parser_info(in->parser)->ram);
	snap_call_end(&call);
	if (!in->parent)
		return;
	snap_writer_expect_parents(in->writer);
	snap_lane_set_compare(in->lane, compare_job, in);
}

static void space_decide(SnapIngest *in, enum space space)
{
	in->space = space;
	if (space == SPACE_SPLIT)
		in->state_base = snap_round_up(
			snap_parser_info(in->parser)->ram.flat_size,
			SNAP_REGION);
	if (space == SPACE_SPLIT)
		find_parent(in);
	snap_state_put(in, in->early, in->early_size);
	g_clear_pointer(&in->early, g_free);
	in->early_size = in->early_room = 0;
}

void snap_ingest_finish(SnapIngest *in)
{
	if (in->space == SPACE_UNDECIDED)
		space_decide(in, SPACE_SPLIT);
	in->result.repaired = in->mapped && snap_mapped_finish(in->mapped);
	snap_state_finish(in);
}

/* ---- events ---- */

static int keep_early(SnapIngest *in, const void *data, size_t size,
		      GError **error)
{
	size_t need = in->early_size + size;

	if (need > in->early_room) {
		uint8_t *more = g_try_realloc(in->early, 2 * need);

		if (!more)
			return snap_fail_errno(error, ENOMEM,
					       "the state before the first "
					       "page of RAM");
		in->early = more;
		in->early_room = 2 * need;
	}
	memcpy(in->early + in->early_size, data, size);
	in->early_size = need;
	return 0;
}

static int take_state(SnapIngest *in, const struct snap_event *e,
		      GError **error)
{
	if (in->space != SPACE_UNDECIDED) {
		snap_state_put(in, e->data, e->size);
		return 0;
	}
	if (in->early_size + e->size > EARLY_MAX &&
	    snap_parser_info(in->parser)->pages_at) {
		/* RAM has ended without a page (QEMU left all blocks out). */
		space_decide(in, SPACE_SPLIT);
		snap_state_put(in, e->data, e->size);
		return 0;
	}
	if (in->early_size + e->size > EARLY_MAX)
		return snap_fail(error, EPROTO,
				 "more than %u MiB of state before the first "
				 "page of RAM",
				 (unsigned)(EARLY_MAX / SNAP_MIB));
	return keep_early(in, e->data, e->size, error);
}

/* Takes a page, or a run of pages with one content, and cuts it at the borders
 * of regions. */
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

/* Takes a block of mapped-ram; the stream goes on after its pages. */
static int take_jump(SnapIngest *in, const struct snap_event *e, GError **error)
{
	const struct snap_stream_info *info = snap_parser_info(in->parser);
	int r;

	if (!in->mapped)
		in->mapped =
			snap_mapped_new(in->pool, in->gather,
					in->preamble.begin, info->target_page);
	r = snap_mapped_add(in->mapped, &info->ram.blocks[e->block], in->at,
			    error);
	if (r == 0)
		in->at = e->offset;
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
		return take_jump(in, e, error);
	case SNAP_EVENT_OPAQUE:
		return take_opaque(in, e->why, error);
	}
	g_assert_not_reached();
}

/* ---- the line ---- */

static int refuse_place(const SnapIngest *in, uint64_t offset, GError **error)
{
	if (offset < in->at)
		return snap_fail(error, EPROTO,
				 "offset %" PRIu64
				 ": these bytes of the stream were written "
				 "already; it goes on at %" PRIu64,
				 offset, in->at);
	return snap_fail(error, EPROTO,
			 "offset %" PRIu64
			 ": the stream continues elsewhere, at offset "
			 "%" PRIu64,
			 offset, in->at);
}

/* True when a copy left out a hole and goes on at `offset`. Only the device
 * state has holes. */
static bool is_hole(const SnapIngest *in, uint64_t offset)
{
	return snap_parser_info(in->parser)->tail && offset > in->at &&
	       offset - in->at <= HOLE_MAX && in->at % SNAP_PAGE == 0 &&
	       offset % SNAP_PAGE == 0;
}

/* Feeds bytes of the stream to the parser. Returns the number of bytes that
 * belong to the stream, or -errno. */
static ssize_t take_stream(SnapIngest *in, const void *data, size_t size,
			   uint64_t offset, GError **error)
{
	static const uint8_t zeros[SNAP_PAGE];
	const struct snap_ramlist *ram = &snap_parser_info(in->parser)->ram;
	struct snap_event e;
	bool jumped = false;
	int r;

	while (is_hole(in, offset)) {
		ssize_t n =
			take_stream(in, zeros, sizeof(zeros), in->at, error);

		if (n < 0)
			return n;
	}
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
				    ram->blocks[ram->n - 1].behind - offset);
	in->at += size;
	return (ssize_t)size;
}

/* Takes the bytes that belong to one part of the file. Returns their number, or
 * -errno. */
static ssize_t take_part(SnapIngest *in, const void *data, size_t size,
			 uint64_t offset, GError **error)
{
	ssize_t n;

	if (offset < in->preamble.begin)
		return snap_preamble_write(&in->preamble, data, size, offset,
					   error);
	/* In a mapped-ram file that is copied from front to back, the pages of
	 * a block come before the next block is listed. */
	if (in->mapped && offset != in->at)
		find_parent(in);
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
		ssize_t n = take_part(in, from + done, size - done,
				      offset + done, error);

		if (n < 0)
			return (int)n;
		done += (size_t)n;
	}
	return 0;
}

bool snap_ingest_scattered(const SnapIngest *in)
{
	return snap_parser_info(in->parser)->mapped;
}

bool snap_ingest_looks(const SnapIngest *in)
{
	return in->increments && in->space == SPACE_UNDECIDED;
}

bool snap_ingest_begun(const SnapIngest *in)
{
	return in->at > in->preamble.begin;
}

bool snap_ingest_takes(const SnapIngest *in, size_t size, uint64_t offset)
{
	return snap_ingest_scattered(in) || offset == in->at ||
	       is_hole(in, offset) ||
	       snap_preamble_takes(&in->preamble, size, offset,
				   snap_ingest_begun(in));
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
