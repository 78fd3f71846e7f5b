/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A save is as fast as the slowest of three: who writes the stream, the
 * processors, the disk. Only the one that never rests can be it.
 *
 * The processors have too much to do when extents queue up for them. The more
 * wait, the lower the level, so the queue stays where compression is as fast as
 * the stream. While nothing waits, level 1 costs nobody time.
 *
 * The disk is known only by what has reached it: the kernel takes writes into
 * its page cache much faster, up to gigabytes, and the save then waits for all
 * of them at its end. format/store begins to write each 8 MiB to the disk when
 * they are there. So each time when 8 MiB more are there, the question is
 * whether the disk is still writing earlier ones. If so, it never rests, and
 * fewer bytes make the save faster; the level goes up by a step, to 1, and
 * higher while the processors have nothing else to do. If not, the disk rests,
 * and the level may go down by a step.
 *
 * A disk that has not rested yet counts as the slowest. So a small file, and
 * one on a store that cannot tell, is compressed at level 1.
 */
#include "fs/save/effort.h"

#include <string.h>

#include "fs/save/save.h"

/* From 1 to -5, each step takes about a tenth less time of the processors and
 * makes a tenth more bytes. Below -5 a save only gets larger: what it does
 * besides zstd then takes longer than zstd. */
static const int levels[] = { 1, -1, -3, -5 };
#define LAST ((int)G_N_ELEMENTS(levels) - 1)

/* While the disk is the slowest and the processors have nothing else to do. */
#define LEVEL_HARD 3

void snap_effort_init(struct snap_effort *e)
{
	*e = (struct snap_effort){ 0 };
}

void snap_effort_disk(struct snap_effort *e, uint64_t written, uint64_t on_disk)
{
	uint64_t left = written - MIN(on_disk, written);

	if (written / SNAP_EFFORT_WINDOW == e->windows)
		return;
	e->windows = written / SNAP_EFFORT_WINDOW;
	if (left >= 2 * SNAP_EFFORT_WINDOW)
		e->most = MAX(e->most - 1, -1);
	else if (left < SNAP_EFFORT_WINDOW + SNAP_EFFORT_WINDOW / 2 && on_disk)
		e->most = MIN(e->most + 1, LAST);
}

/* A step is taken when so many extents wait, and taken back at half of them. */
static guint entry(int step, guint room)
{
	guint n = (guint)step;

	return MAX(room * n / 16, 2 * n);
}

int snap_effort_level(struct snap_effort *e, guint queued, guint room)
{
	while (e->step < LAST && queued >= entry(e->step + 1, room))
		e->step++;
	while (e->step && queued < entry(e->step, room) / 2)
		e->step--;
	if (e->most < 0 && !e->step)
		return LEVEL_HARD;
	return levels[CLAMP(e->most, 0, e->step)];
}

bool snap_level_parse(const char *text, uint64_t *ret_level)
{
	guint64 level = SNAP_LEVEL_AUTO;

	if (strcmp(text, "auto") &&
	    !g_ascii_string_to_unsigned(text, 10, 1, SNAP_LEVEL_MAX, &level,
					NULL))
		return false;
	*ret_level = level;
	return true;
}
