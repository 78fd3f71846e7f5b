/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A few regions have an open job, with up to 16 pages that wait for neighbours.
 * A stream that runs through memory fills one job after the other. Pages that
 * come out of order (the guest's page faults during a background snapshot) open
 * more jobs beside it.
 *
 * The newest content of a page counts. Within a job, new content replaces the
 * older content of the same page. Between jobs their order decides: a page goes
 * into its region's open job, or into a job that is submitted later.
 */
#include "fs/save/gather.h"

#include <string.h>

#include "format/base/zero.h"

#define GATHER_OPEN 8

struct SnapGather {
	SnapPool *pool;
	SnapLane *lane;
	struct snap_job
		*open[GATHER_OPEN]; /* the most recently used one first */
	guint n_open;
	/* A bit per region: content that is not zero was submitted. In all
	 * other regions, zero pages need no job. */
	uint8_t *touched;
	uint64_t touched_size; /* bytes */
	bool touched_all;      /* there was no memory to tell them apart */
};

SnapGather *snap_gather_new(SnapPool *pool, SnapLane *lane)
{
	SnapGather *g = g_new0(SnapGather, 1);

	g->pool = pool;
	g->lane = lane;
	return g;
}

static bool region_touched(const SnapGather *g, uint64_t region)
{
	return g->touched_all || (region / 8 < g->touched_size &&
				  g->touched[region / 8] >> region % 8 & 1);
}

static void region_touch(SnapGather *g, uint64_t region)
{
	uint64_t old = g->touched_size;

	if (region / 8 >= old) {
		uint64_t n = (region / 8 + 1) * 2;
		uint8_t *more = g_try_realloc(g->touched, n);

		g->touched_all = g->touched_all || !more;
		if (!more)
			return;
		memset(more + old, 0, n - old);
		g->touched = more;
		g->touched_size = n;
	}
	g->touched[region / 8] |= (uint8_t)(1 << region % 8);
}

/* Submits the open job at index `i`. */
static void gather_submit(SnapGather *g, guint i)
{
	struct snap_job *job = g->open[i];

	g->n_open--;
	memmove(g->open + i, g->open + i + 1,
		(g->n_open - i) * sizeof(g->open[0]));
	snap_lane_submit(g->lane, job);
}

void snap_gather_flush(SnapGather *g)
{
	while (g->n_open)
		gather_submit(g, g->n_open - 1);
}

void snap_gather_free(SnapGather *g)
{
	if (!g)
		return;
	while (g->n_open)
		snap_pool_give(g->pool, g->open[--g->n_open]);
	g_free(g->touched);
	g_free(g);
}

/* Finds the open job of a region and moves it to the front; NULL if there is
 * none. */
static struct snap_job *gather_find(SnapGather *g, uint64_t region)
{
	for (guint i = 0; i < g->n_open; i++) {
		struct snap_job *job = g->open[i];

		if (job->region != region)
			continue;
		memmove(g->open + 1, g->open, i * sizeof(g->open[0]));
		g->open[0] = job;
		return job;
	}
	return NULL;
}

/* Opens a job for a region. When memory is short, this save's own jobs are
 * submitted first: no save may wait for memory that it holds itself. */
static struct snap_job *gather_open(SnapGather *g, uint64_t region)
{
	struct snap_job *job;

	if (g->n_open == GATHER_OPEN)
		gather_submit(g, g->n_open - 1);
	job = snap_pool_take(g->pool, region, false);
	if (!job) {
		snap_gather_flush(g);
		job = snap_pool_take(g->pool, region, true);
	}
	memmove(g->open + 1, g->open, g->n_open * sizeof(g->open[0]));
	g->open[0] = job;
	g->n_open++;
	return job;
}

/* Removes the pages [page, page + n) from the job. */
static void job_forget(struct snap_job *job, guint page, guint n)
{
	for (guint p = page; p < page + n && job->fills_any; p++)
		job->fills[p / 64] &= ~((uint64_t)1 << p % 64);
	for (guint i = 0; i < job->n;) {
		if (job->pages[i] < page || job->pages[i] >= page + n) {
			i++;
			continue;
		}
		job->n--;
		job->pages[i] = job->pages[job->n];
		if (i < job->n)
			memcpy(job->bytes + (size_t)i * SNAP_PAGE,
			       job->bytes + (size_t)job->n * SNAP_PAGE,
			       SNAP_PAGE);
	}
}

void snap_gather_fill(SnapGather *g, uint64_t offset, size_t size, uint8_t fill)
{
	uint64_t region = offset / SNAP_REGION;
	guint page = (guint)(offset % SNAP_REGION / SNAP_PAGE);
	guint n = (guint)(size / SNAP_PAGE);
	struct snap_job *job = gather_find(g, region);

	if (!job && !fill && !region_touched(g, region))
		return;
	if (job && job->fills_any && job->fill != fill) {
		gather_submit(g, 0);
		job = NULL;
	}
	if (!job)
		job = gather_open(g, region);
	job_forget(job, page, n);
	job->fill = fill;
	job->fills_any = true;
	for (guint p = page; p < page + n; p++)
		job->fills[p / 64] |= (uint64_t)1 << p % 64;
	region_touch(g, region);
}

void snap_gather_pages(SnapGather *g, uint64_t offset, const void *data,
		       size_t size)
{
	uint64_t region = offset / SNAP_REGION;
	guint page = (guint)(offset % SNAP_REGION / SNAP_PAGE);
	guint n = (guint)(size / SNAP_PAGE);
	struct snap_job *job;

	if (snap_is_fill(data, size)) {
		snap_gather_fill(g, offset, size, *(const uint8_t *)data);
		return;
	}
	job = gather_find(g, region);
	if (job)
		job_forget(job, page, n);
	if (job && job->n + n > SNAP_EXTENT_PAGES) {
		gather_submit(g, 0);
		job = NULL;
	}
	if (!job)
		job = gather_open(g, region);
	memcpy(job->bytes + (size_t)job->n * SNAP_PAGE, data, size);
	for (guint i = 0; i < n; i++)
		job->pages[job->n++] = (uint16_t)(page + i);
	region_touch(g, region);
	if (job->n == SNAP_EXTENT_PAGES)
		gather_submit(g, 0);
}
