/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `ram` and `devstate` become a snapshot: they are put together as a mapped-ram
 * stream and take the line that every stream takes. The bitmaps, which come
 * before the pages, name all pages. The snapshot has the form in which the
 * copied one was saved: devstate shows it (format/qemu/parse.h, ram_parts).
 */
#include "fs/save/parts.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/error.h"
#include "format/base/fileio.h"
#include "format/base/cleanup.h"
#include "format/base/zero.h"
#include "format/base/bytes.h"
#include "format/qemu/describe.h"
#include "format/qemu/parse.h"
#include "format/qemu/synth.h"

#define CHUNK (512 * SNAP_KIB)

struct SnapParts {
	struct snap_save_parts files;
	uint64_t state_size;
	uint64_t ram_size;
	uint64_t preamble_size;
	SnapParser *parser;
	SnapLayout *layout;
	uint8_t *buf; /* CHUNK bytes */
	size_t described_size;
	bool any;  /* a byte of memory that is not zero was fed */
	gint stop; /* atomic */
};

void snap_save_parts_close(struct snap_save_parts *parts)
{
	snap_close_fd(&parts->ram_fd);
	snap_close_fd(&parts->state_fd);
	snap_close_fd(&parts->preamble_fd);
	parts->ram_fd = parts->state_fd = parts->preamble_fd = -1;
}

/* Bytes of a part; 0 where it is missing. */
static uint64_t size_of(int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

SnapParts *snap_parts_new(const struct snap_save_parts *parts)
{
	SnapParts *p = g_new0(SnapParts, 1);

	p->files = *parts;
	p->state_size = size_of(parts->state_fd);
	p->ram_size = size_of(parts->ram_fd);
	p->preamble_size = size_of(parts->preamble_fd);
	p->parser = snap_parser_new();
	p->buf = g_malloc(CHUNK);
	return p;
}

void snap_parts_free(SnapParts *p)
{
	if (!p)
		return;
	snap_save_parts_close(&p->files);
	snap_parser_free(p->parser);
	g_clear_pointer(&p->layout, snap_layout_free);
	g_free(p->buf);
	g_free(p);
}

void snap_parts_stop(SnapParts *p)
{
	g_atomic_int_set(&p->stop, 1);
}

uint64_t snap_parts_hole(const SnapParts *p)
{
	return p->preamble_size;
}

/* Reads exactly `size` bytes of a part. */
static int read_part(SnapParts *p, int fd, void *buf, size_t size,
		     uint64_t offset, const char *name, GError **error)
{
	int r;

	if (g_atomic_int_get(&p->stop))
		return snap_fail(error, ECANCELED, "it was stopped");
	r = snap_pread_exact(fd, buf, size, offset);
	if (r == -ENODATA)
		return snap_fail(error, EPROTO, "%s has become shorter", name);
	return r < 0 ? snap_fail_errno(error, -r, "reading %s", name) : 0;
}

/* ---- are they whole? ---- */

/* Steps through what was fed: only device state may come out. */
static int parse_events(SnapParser *parser, GError **error)
{
	struct snap_event e;
	int r;

	while ((r = snap_parser_step(parser, &e, error)) > 0) {
		if (e.kind == SNAP_EVENT_OPAQUE)
			return snap_fail(error, EPROTO, "%s", e.why);
		if (e.kind != SNAP_EVENT_RAM && e.kind != SNAP_EVENT_STATE)
			return snap_fail(error, EPROTO,
					 "it has pages of memory, which no "
					 "devstate has");
	}
	return r;
}

static int check_state(SnapParts *p, GError **error)
{
	const struct snap_stream_info *info = snap_parser_info(p->parser);
	int r;

	snap_parser_expect_devstate(p->parser);
	for (uint64_t at = 0; at < p->state_size; at += CHUNK) {
		size_t n = MIN(p->state_size - at, CHUNK);

		r = read_part(p, p->files.state_fd, p->buf, n, at, "devstate",
			      error);
		if (r < 0)
			return r;
		snap_parser_feed(p->parser, p->buf, n);
		r = parse_events(p->parser, error);
		if (r < 0)
			return r;
	}
	r = snap_parser_end(p->parser, error);
	if (r == 0 && info->pages_at > SNAP_LAYOUT_HEAD_MAX)
		r = snap_fail(error, EPROTO,
			      "%" G_GUINT64_FORMAT
			      " bytes of device state come before the pages",
			      info->pages_at);
	return r;
}

static int check_ram(const SnapParts *p, GError **error)
{
	uint64_t want = snap_parser_info(p->parser)->ram.flat_size;

	if (p->ram_size == want)
		return 0;
	return snap_fail(error, EPROTO,
			 "ram is not whole: it has %" G_GUINT64_FORMAT
			 " bytes, but devstate lists %" G_GUINT64_FORMAT,
			 p->ram_size, want);
}

static int check_preamble(SnapParts *p, GError **error)
{
	size_t n = MIN(p->preamble_size, CHUNK);
	int r = n ? read_part(p, p->files.preamble_fd, p->buf, n, 0, "preamble",
			      error)
		  : 0;

	return r < 0 ? r
		     : snap_save_check_preamble(p->buf, n, p->preamble_size,
						error);
}

/* There is nothing to save, or nobody waits to hear why not. */
static int nothing(GError **error)
{
	g_clear_error(error);
	return snap_fail(error, -SNAP_SAVE_NOTHING, "nothing to save");
}

int snap_parts_check(SnapParts *p, GError **error)
{
	int r = check_state(p, error);

	if (r == -ECANCELED)
		return r;
	if (r < 0)
		return p->files.state_closed
			       ? snap_fail_prefix(error, r,
						  "devstate is not whole")
			       : nothing(error);
	if (p->files.ram_fd < 0)
		return nothing(error);
	r = check_ram(p, error);
	if (r == 0)
		r = check_preamble(p, error);
	return r < 0 && !p->files.any_closed ? nothing(error) : r;
}

/* ---- the stream ---- */

/* Feeds bytes of a part, which stand at `offset` of the stream. */
static int feed_part(SnapParts *p, SnapIngest *in, int fd, const char *name,
		     uint64_t from, uint64_t size, uint64_t offset,
		     GError **error)
{
	while (size) {
		size_t n = MIN(size, CHUNK);
		int r = read_part(p, fd, p->buf, n, from, name, error);

		if (r == 0)
			r = snap_ingest_write(in, p->buf, n, offset, error);
		if (r < 0)
			return r;
		if (!p->any && fd == p->files.ram_fd)
			p->any = !snap_is_zero(p->buf, n);
		from += n;
		offset += n;
		size -= n;
	}
	return 0;
}

/* Feeds the memory of a block but its holes, in whole pages of the guest. */
static int feed_pages(SnapParts *p, SnapIngest *in, const struct snap_run *run,
		      GError **error)
{
	const struct snap_stream_info *info = snap_parser_info(p->parser);
	const struct snap_ram_block *b = &info->ram.blocks[run->block];
	uint64_t end = b->flat + b->length, at = b->flat, from, to;
	uint32_t page = info->target_page;

	while (at < end) {
		int r;

		snap_next_data(p->files.ram_fd, at, end, &from, &to);
		from = b->flat + (from - b->flat) / page * page;
		to = MIN(end, b->flat + snap_round_up(to - b->flat, page));
		r = feed_part(p, in, p->files.ram_fd, "ram", from, to - from,
			      run->offset + (from - b->flat), error);
		if (r < 0)
			return r;
		at = to;
	}
	return 0;
}

/* Feeds the bitmap of a block: a bit for each page, all set. */
static int feed_bitmap(SnapParts *p, SnapIngest *in, const struct snap_run *run,
		       GError **error)
{
	const struct snap_stream_info *info = snap_parser_info(p->parser);
	uint64_t pages =
		info->ram.blocks[run->block].length / info->target_page;
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < run->length; at += CHUNK) {
		size_t n = MIN(run->length - at, CHUNK);
		uint64_t bits = MIN(pages - MIN(pages, at * 8), n * 8);

		memset(p->buf, 0, n);
		memset(p->buf, 0xff, bits / 8);
		if (bits % 8)
			p->buf[bits / 8] = (uint8_t)((1u << bits % 8) - 1);
		r = snap_ingest_write(in, p->buf, n, run->offset + at, error);
	}
	return r;
}

static int feed_run(SnapParts *p, SnapIngest *in, const struct snap_run *run,
		    GError **error)
{
	switch (run->kind) {
	case SNAP_RUN_LITERAL:
		return snap_ingest_write(in, run->data, run->length,
					 run->offset, error);
	case SNAP_RUN_STATE:
		return feed_part(p, in, p->files.state_fd, "devstate",
				 run->state, run->length, run->offset, error);
	case SNAP_RUN_BITMAP:
		return feed_bitmap(p, in, run, error);
	case SNAP_RUN_PAGES:
		return feed_pages(p, in, run, error);
	default:
		return 0;
	}
}

/* Feeds the preamble but its holes. */
static int feed_preamble(SnapParts *p, SnapIngest *in, GError **error)
{
	uint64_t at = 0, from, to;

	while (at < p->preamble_size) {
		int r;

		snap_next_data(p->files.preamble_fd, at, p->preamble_size,
			       &from, &to);
		r = feed_part(p, in, p->files.preamble_fd, "preamble", from,
			      to - from, from, error);
		if (r < 0)
			return r;
		at = to;
	}
	return 0;
}

/* Reads the beginning of the description into `buf`. A classic stream has the
 * mapped-ram form only on its way in, and keeps its description. */
static int read_description(SnapParts *p, GError **error)
{
	const struct snap_stream_info *info = snap_parser_info(p->parser);
	uint64_t at = info->description_at;

	p->described_size = 0;
	if (!at || !info->ram_parts)
		return 0;
	p->described_size =
		MIN(p->state_size - at, sizeof(be32) + SNAP_DESCRIPTION_HEAD);
	return read_part(p, p->files.state_fd, p->buf, p->described_size, at,
			 "devstate", error);
}

/* Lays the parts out as a stream. */
static int make_layout(SnapParts *p, GError **error)
{
	struct snap_stream_info info = *snap_parser_info(p->parser);
	g_autofree uint8_t *head = g_try_malloc(MAX(info.pages_at, 1));
	g_autoptr(GError) cause = NULL;
	int r;

	if (!head)
		return snap_fail_errno(error, ENOMEM, "reading devstate");
	r = read_part(p, p->files.state_fd, head, info.pages_at, 0, "devstate",
		      error);
	if (r < 0)
		return r;
	info.state_size = p->state_size;
	r = read_description(p, error);
	if (r < 0)
		return r;
	r = snap_layout_mapped(
		&info, head, info.pages_at, p->described_size ? p->buf : NULL,
		p->described_size, p->preamble_size, &p->layout, &cause);
	return r < 0 ? snap_fail(error, EPROTO, "%s", cause->message) : 0;
}

int snap_parts_feed(SnapParts *p, SnapIngest *in, GError **error)
{
	uint64_t size, at = 0;
	struct snap_run run;
	int r = make_layout(p, error);

	if (r == 0)
		r = feed_preamble(p, in, error);
	if (r < 0)
		return r;
	size = snap_layout_size(p->layout);
	while (r == 0 && at < size && snap_layout_find(p->layout, at, &run)) {
		r = feed_run(p, in, &run, error);
		at = run.offset + run.length;
	}
	if (r == 0 && p->ram_size && !p->any && !p->files.ram_zero)
		r = snap_fail(error, EPROTO,
			      "ram holds only zeros, which the memory of a "
			      "guest never does; if it is right, run: snapfs "
			      "import --parts FOLDER");
	return r < 0 ? r : snap_ingest_end(in, error);
}
