/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dead extents: room in the new file that no page uses.
 *
 * A stream that sends a page again leaves the page's older extent dead. When
 * too many bytes are dead, the live extents are copied to a new file, which
 * replaces the old one.
 */
#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "fs/calls/call.h"
#include "fs/save/ingest-internal.h"

/* With fewer dead bytes than this, a copy is never worth its cost. */
#define DEAD_MIN (1 * SNAP_MIB)

static bool is_crowded(const struct snap_writer_stats *s, unsigned percent)
{
	return s->dead >= DEAD_MIN &&
	       s->dead * 100 > (s->written - s->dead) * percent;
}

static struct snap_writer_stats writer_stats(SnapIngest *in)
{
	SNAP_LOCKED(&in->lock);

	return in->stats;
}

void snap_ingest_note_stats(SnapIngest *in)
{
	struct snap_writer_stats s = snap_writer_stats(in->writer);

	snap_lane_disk(in->lane, s.written, s.on_disk);
	g_mutex_lock(&in->lock);
	in->stats = s;
	g_mutex_unlock(&in->lock);
	__atomic_store_n(&in->crowded, is_crowded(&s, SNAP_DEAD_WHILE),
			 __ATOMIC_RELAXED);
}

bool snap_ingest_crowded(const SnapIngest *in)
{
	return __atomic_load_n(&in->crowded, __ATOMIC_RELAXED);
}

/* Copies what is alive into a new file. */
static int copy(SnapIngest *in, GError **error)
{
	g_autoptr(SnapCodec) codec = snap_codec_new(snap_lane_level(in->lane));
	SnapFile *fresh;
	int r = snap_catalog_create(in->catalog, in->path, &in->owner, &fresh,
				    NULL, error);

	if (r < 0)
		return r;
	in->result.compactions++;
	return snap_writer_compact(in->writer, fresh, codec, error);
}

static int compact(SnapIngest *in, GError **error)
{
	struct snap_call call = { .what = "compaction", .path = in->path };
	int r;

	snap_gather_flush(in->gather);
	r = snap_lane_wait(in->lane);
	if (r < 0)
		return snap_fail_errno(error, -r, "writing the snapshot");
	snap_call_begin(&call);
	r = copy(in, error);
	snap_call_end(&call);
	snap_ingest_note_stats(in);
	return r;
}

int snap_ingest_compact(SnapIngest *in, unsigned percent, GError **error)
{
	struct snap_writer_stats s = writer_stats(in);

	return is_crowded(&s, percent) ? compact(in, error) : 0;
}
