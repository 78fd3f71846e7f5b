/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The page space of a snapshot, read at random.
 *
 * A read walks its regions. The leaf of a region says where its pages are, and
 * the cache has the extents. The bytes of an answer stay in the cache's frames,
 * and those of zero pages in zeros that all answers share.
 */
#include <string.h>

#include "format/base/cleanup.h"
#include "fs/load/load-internal.h"

/* Where the bytes of a read go: into a vector, or into a buffer, which moves
 * on. One extent may have several runs; it is held from the first to the last.
 */
struct sink {
	SnapPages *pages;
	SnapVec *vec; /* or NULL */
	uint8_t *buf;
	bool once; /* no other reader needs the extents */
	bool held; /* `frame` is held here, not by `vec` */
	const struct snap_cached *frame;   /* of the last extent, or NULL */
	const struct snap_segment *extent; /* that one */
};

/* Room for the next bytes; NULL where there is no memory. */
static uint8_t *sink_room(struct sink *to, size_t size)
{
	uint8_t *room = to->buf;

	if (to->vec)
		return snap_vec_room(to->vec, size);
	to->buf += size;
	return room;
}

static int sink_fill(struct sink *to, uint8_t byte, size_t size)
{
	uint8_t *room;

	if (to->vec && !byte)
		return snap_vec_zero(to->vec, size);
	room = sink_room(to, size);
	if (!room)
		return -ENOMEM;
	memset(room, byte, size);
	return 0;
}

/* Gives bytes of the frame. */
static int sink_bytes(struct sink *to, uint64_t skip, size_t size)
{
	const uint8_t *bytes = (const uint8_t *)to->frame->data + skip;

	g_assert(skip + size <= to->frame->size);
	if (to->vec)
		return to->held ? snap_vec_copy_in(to->vec, bytes, size)
				: snap_vec_point(to->vec, bytes, size);
	memcpy(sink_room(to, size), bytes, size);
	return 0;
}

/* Ends the hold of the last extent. */
static void sink_let_go(struct sink *to)
{
	if (to->held)
		snap_cache_put(to->pages->loader->cache, to->frame);
	to->held = false;
	to->frame = NULL;
	to->extent = NULL;
}

static void put_frame(void *cache, const void *frame)
{
	snap_cache_put(cache, frame);
}

/* The extent of a run is held from now on. */
static void sink_take(struct sink *to, const struct snap_segment *s,
		      const struct snap_cached *frame)
{
	to->frame = frame;
	to->extent = s;
	to->held = !to->vec || !snap_vec_hold(to->vec, frame->size, put_frame,
					      to->pages->loader->cache, frame);
}

/* Decompresses a whole extent to where it is wanted. */
static int fetch(struct sink *to, const struct snap_segment *s)
{
	uint8_t *room = sink_room(to, (size_t)s->pages * SNAP_PAGE);
	int r = room ? snap_pages_fetch_extent(to->pages, s, room) : -ENOMEM;

	SNAP_LOADER_COUNT(to->pages->loader, errors, r < 0);
	return r;
}

static bool same_extent(const struct snap_segment *a,
			const struct snap_segment *b)
{
	return a && a->layer == b->layer && a->offset == b->offset &&
	       a->length == b->length && a->crc32c == b->crc32c &&
	       a->pages == b->pages;
}

/* Gives the bytes [from, to) of a region, all in one run. A whole extent that
 * no other reader needs is not added to the cache. */
static int read_segment(struct sink *sink, const struct snap_segment *s,
			uint64_t from, uint64_t to)
{
	bool once = sink->once && to - from == (uint64_t)s->pages * SNAP_PAGE;
	const struct snap_cached *frame;
	int r;

	if (s->kind != SNAP_SEGMENT_EXTENT)
		return sink_fill(sink,
				 s->kind == SNAP_SEGMENT_FILL ? s->fill : 0,
				 to - from);
	if (!same_extent(sink->extent, s)) {
		sink_let_go(sink);
		r = once ? snap_pages_find_extent(sink->pages, s, &frame)
			 : snap_pages_get_extent(sink->pages, s, &frame);
		if (r < 0)
			return r;
		if (!frame)
			return fetch(sink, s);
		sink_take(sink, s, frame);
	}
	return sink_bytes(sink,
			  from - (uint64_t)s->page * SNAP_PAGE +
				  (uint64_t)s->first * SNAP_PAGE,
			  to - from);
}

/* Gives the bytes [from, to) of a region. */
static int read_region(struct sink *sink, uint64_t region, uint64_t from,
		       uint64_t to)
{
	struct snap_held_leaf held;
	int r = snap_pages_get_leaf(sink->pages, region, &held);

	if (r < 0)
		return r;
	if (!held.leaf)
		r = sink_fill(sink, 0, to - from);
	else if (to - from > SNAP_EXTENT_BYTES)
		snap_pages_extents_soon(sink->pages, held.leaf, from, to);
	for (guint i = 0; r == 0 && held.leaf && i < held.leaf->n; i++) {
		const struct snap_segment *s = &held.leaf->segments[i];
		uint64_t begin = (uint64_t)s->page * SNAP_PAGE;
		uint64_t end = begin + (uint64_t)s->count * SNAP_PAGE;

		if (end <= from)
			continue;
		if (begin >= to)
			break;
		r = read_segment(sink, s, MAX(begin, from), MIN(end, to));
	}
	sink_let_go(sink);
	snap_pages_put_leaf(sink->pages, &held);
	return r;
}

static int read_all(struct sink *to, size_t size, uint64_t offset,
		    struct snap_pages_hint *hint)
{
	to->once = !hint;
	if (hint)
		snap_pages_ahead(to->pages, offset, size, hint);
	SNAP_LOADER_COUNT(to->pages->loader, bytes_out, size);
	while (size > 0) {
		uint64_t from = offset % SNAP_REGION;
		size_t n = MIN(size, SNAP_REGION - from);
		int r = read_region(to, offset / SNAP_REGION, from, from + n);

		if (r < 0)
			return r;
		offset += n;
		size -= n;
	}
	return 0;
}

int snap_pages_read(SnapPages *pages, void *buf, size_t size, uint64_t offset,
		    struct snap_pages_hint *hint)
{
	struct sink to = { .pages = pages, .buf = buf };

	return read_all(&to, size, offset, hint);
}

int snap_pages_give(SnapPages *pages, SnapVec *vec, size_t size,
		    uint64_t offset, struct snap_pages_hint *hint)
{
	struct sink to = { .pages = pages, .vec = vec };

	snap_pages_expect(pages);
	return read_all(&to, size, offset, hint);
}
