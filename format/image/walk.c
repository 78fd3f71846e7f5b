/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads the file once, from its beginning to the trailer, frame by frame.
 *
 * The buffer holds the bytes [base, base + have) of the file; those before `at`
 * are done. The checksum covers all bytes as they are read. Skippable frames
 * are stepped over, since verify.c reads the map by its tree; they may be
 * larger than the buffer. Extents are decompressed here, including those that
 * no run refers to any more.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "format/base/crc32c.h"
#include "format/base/error.h"
#include "format/image/frame-internal.h"
#include "format/image/walk-internal.h"

#define BUFFER_SIZE (SNAP_MIB + SNAP_DISK_EXTENT_MAX)

struct SnapWalk {
	SnapReader *reader;
	guint layer;
	SnapCodec *codec;
	uint64_t end; /* the offset of the trailer */
	uint64_t base;
	size_t have;
	size_t at;
	uint32_t crc32c;
	uint8_t *buffer; /* of `room` bytes */
	size_t room;
	uint8_t pages[SNAP_EXTENT_BYTES];
};

SnapWalk *snap_walk_new(SnapReader *r, guint layer)
{
	SnapWalk *w = g_new0(SnapWalk, 1);

	w->reader = r;
	w->layer = layer;
	w->codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	w->end = snap_reader_layer_size(r, layer) -
		 sizeof(struct snap_disk_trailer);
	w->room = MIN(BUFFER_SIZE, w->end);
	w->buffer = g_malloc(w->room);
	return w;
}

void snap_walk_free(SnapWalk *w)
{
	if (!w)
		return;
	snap_codec_free(w->codec);
	g_free(w->buffer);
	g_free(w);
}

uint32_t snap_walk_crc32c(const SnapWalk *w)
{
	return w->crc32c;
}

uint64_t snap_walk_position(const SnapWalk *w)
{
	return w->base + w->have;
}

/* ---- bytes ---- */

/* Fills the buffer as far as the file allows. */
static int refill(SnapWalk *w, GError **error)
{
	size_t n;
	int r;

	memmove(w->buffer, w->buffer + w->at, w->have - w->at);
	w->base += w->at;
	w->have -= w->at;
	w->at = 0;
	n = MIN(w->room - w->have, w->end - w->base - w->have);
	r = snap_reader_read(w->reader, w->layer, w->buffer + w->have, n,
			     w->base + w->have);
	if (r < 0)
		return snap_fail_errno(error, -r, "reading at byte %" PRIu64,
				       w->base + w->have);
	w->crc32c = snap_crc32c(w->crc32c, w->buffer + w->have, n);
	w->have += n;
	return 0;
}

/* Steps over bytes that may not be in the buffer yet. */
static int skip(SnapWalk *w, uint64_t size, GError **error)
{
	while (size > 0) {
		size_t n = MIN(size, w->have - w->at);

		w->at += n;
		size -= n;
		if (size > 0) {
			int r = refill(w, error);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* ---- frames ---- */

static const char kinds[][5] = {
	[SNAP_WALK_SUPERBLOCK] = SNAP_DISK_SUPERBLOCK,
	[SNAP_WALK_LEAF] = SNAP_DISK_LEAF,
	[SNAP_WALK_NODE] = SNAP_DISK_NODE,
	[SNAP_WALK_TOP] = SNAP_DISK_TOP,
	[SNAP_WALK_PROPERTIES] = SNAP_DISK_PROPERTIES,
};

static int damaged(const struct snap_walk_frame *f, const char *what,
		   GError **error)
{
	return snap_fail(error, EBADMSG, "%s at byte %" PRIu64 ": damaged",
			 what, f->offset);
}

static int next_ours(SnapWalk *w, const struct snap_disk_frame *head,
		     struct snap_walk_frame *f, GError **error)
{
	uint64_t size = (uint64_t)snap_le32(head->size) + 8;

	for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
		f->kind = (enum snap_walk_kind)i;
		if (memcmp(head->kind, kinds[i], sizeof(head->kind)) != 0)
			continue;
		if (size < sizeof(*head) || size > w->end - f->offset ||
		    (i == SNAP_WALK_SUPERBLOCK) != (f->offset == 0))
			break;
		f->length = (uint32_t)size;
		return skip(w, size, error);
	}
	return damaged(f, "frame", error);
}

static int next_extent(SnapWalk *w, struct snap_walk_frame *f, GError **error)
{
	const uint8_t *frame = w->buffer + w->at;
	size_t size;

	if (snap_codec_look(frame, w->have - w->at, &size, &f->pages) < 0 ||
	    snap_codec_decompress(w->codec, frame, size, w->pages, f->pages) <
		    0)
		return damaged(f, "extent", error);
	f->kind = SNAP_WALK_EXTENT;
	f->length = (uint32_t)size;
	f->crc32c = snap_crc32c(0, frame, size);
	w->at += size;
	return 0;
}

int snap_walk_next(SnapWalk *w, struct snap_walk_frame *ret_frame,
		   GError **error)
{
	struct snap_walk_frame f = { .offset = w->base + w->at };
	struct snap_disk_frame head;
	int r = 0;

	if (f.offset == w->end)
		return 0;
	if (w->have - w->at < SNAP_DISK_EXTENT_MAX &&
	    w->base + w->have < w->end)
		r = refill(w, error);
	if (r < 0)
		return r;
	if (w->have - w->at < sizeof(head))
		return damaged(&f, "frame", error);
	memcpy(&head, w->buffer + w->at, sizeof(head));
	if (snap_le32(head.skippable) == SNAP_DISK_SKIPPABLE)
		r = next_ours(w, &head, &f, error);
	else
		r = next_extent(w, &f, error);
	if (r < 0)
		return r;
	*ret_frame = f;
	return 1;
}
