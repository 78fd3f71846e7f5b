/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes a snapshot of the bytes that an ingest took. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/error.h"
#include "fs/calls/call.h"
#include "fs/save/ingest-internal.h"

/* The preamble follows all other blocks. */
static uint64_t preamble_size(const SnapIngest *in)
{
	return in->preamble.begin;
}

static void preamble_list(const SnapIngest *in, struct snap_meta *meta)
{
	if (preamble_size(in))
		snap_meta_add_block(meta, SNAP_BLOCK_PREAMBLE, "before",
				    preamble_size(in));
}

static void preamble_put(SnapIngest *in)
{
	const GByteArray *bytes = in->preamble.bytes;
	uint64_t base =
		snap_round_up(in->state_base + in->state_size, SNAP_REGION);

	for (guint at = 0; preamble_size(in) && at < bytes->len;
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
		preamble_list(in, meta);
		return;
	}
	/* QEMU's mapped-ram streams have RAM PARTs. Our own `mapped` of a
	 * classic snapshot has none, so a copy of it is classic again. */
	meta->form = info->ram_parts ? SNAP_FORM_MAPPED : SNAP_FORM_CLASSIC;
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
	preamble_list(in, meta);
}

static void result_fill(SnapIngest *in, const struct snap_meta *meta)
{
	struct snap_ingest_result *res = &in->result;

	for (guint i = 0; i < meta->n_blocks; i++)
		if (meta->blocks[i].kind == SNAP_BLOCK_RAM) {
			res->ram += meta->blocks[i].length;
			res->stored += meta->blocks[i].stored;
		}
	res->increment = meta->n_layers > 0;
	res->file = snap_writer_stats(in->writer).written;
}

/* A save that may not replace a snapshot fails if one was published
 * meanwhile. */
static int check_first(const SnapIngest *in, int folder_fd, GError **error)
{
	struct stat st;

	if (!in->first || fstatat(folder_fd, SNAP_CATALOG_SNAPSHOT, &st,
				  AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return snap_fail(error, EEXIST, "another snapshot was saved meanwhile");
}

/* True when two snapshots seem to have the same memory: the same blocks with
 * the same number of stored pages. That is enough for a hint. */
static bool same_memory(const struct snap_meta *a, const struct snap_meta *b)
{
	if (a->n_blocks != b->n_blocks)
		return false;
	for (guint i = 0; i < a->n_blocks; i++) {
		const struct snap_block *x = &a->blocks[i], *y = &b->blocks[i];

		if (strcmp(x->name, y->name) || x->length != y->length ||
		    x->stored != y->stored)
			return false;
	}
	return true;
}

/* Removes the list of hot pages of the old snapshot, unless the new snapshot is
 * a copy of it. Where there was no old snapshot, the list was copied in for the
 * new one. */
static void drop_stale_hot(int folder_fd, const SnapReader *former,
			   const struct snap_meta *meta)
{
	if (former && !same_memory(snap_reader_meta(former), meta))
		unlinkat(folder_fd, SNAP_CATALOG_HOT, 0);
}

/* Makes the snapshot of what is in the file. */
static int publish(SnapIngest *in, int folder_fd, GError **error)
{
	g_autoptr(SnapReader) former = NULL;
	struct snap_meta meta = { 0 };
	int r = check_first(in, folder_fd, error);

	if (r == 0)
		r = snap_catalog_check_lock(in->catalog, error);
	if (r < 0)
		return r;
	r = in->parent ? snap_parent_sync(in->parent) : 0;
	if (r < 0)
		return snap_fail_errno(error, -r,
				       "syncing the links to "
				       "the files of its parents");
	meta_fill(in, &meta);
	if (faccessat(folder_fd, SNAP_CATALOG_HOT, F_OK, AT_SYMLINK_NOFOLLOW) ==
	    0)
		(void)snap_catalog_find(folder_fd, &former, NULL);
	r = snap_writer_commit(in->writer, &meta, folder_fd,
			       SNAP_CATALOG_SNAPSHOT, error);
	if (r == 0) {
		drop_stale_hot(folder_fd, former, &meta);
		result_fill(in, &meta);
	}
	snap_meta_clear(&meta);
	return r;
}

int snap_ingest_commit(SnapIngest *in, int folder_fd,
		       struct snap_ingest_result *ret_result, GError **error)
{
	struct snap_call call = { .what = "commit", .path = in->path };
	int r = in->mapped ? snap_mapped_check(in->mapped, error) : 0;

	if (r < 0)
		return r;
	snap_ingest_finish(in);
	preamble_put(in);
	snap_gather_flush(in->gather);
	r = snap_lane_wait(in->lane);
	if (r < 0)
		return snap_fail_errno(error, -r, "writing the snapshot");
	r = snap_ingest_compact(in, SNAP_DEAD_AT_END, error);
	if (r < 0)
		return r;
	snap_call_begin(&call);
	r = publish(in, folder_fd, error);
	snap_call_end(&call);
	if (r == 0)
		*ret_result = in->result;
	return r;
}
