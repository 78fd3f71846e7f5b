/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Prints what zstd alone makes of a guest's memory: the pages of a file that
 * are not zero, 16 at a time as snapfs has them in an extent, at one level.
 *
 *	BYTES of pages, BYTES compressed, SECONDS of a processor
 *
 * With several threads each compresses all of the file; the seconds are the
 * mean of a thread. Processors that share a core are slower together.
 *
 * usage: extents FILE [LEVEL [THREADS]]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "format/base/units.h"
#include "format/base/zero.h"

#define EXTENT ((size_t)16 * SNAP_PAGE)

/* What a thread works on, and what it finds. */
struct work {
	const uint8_t *data;
	size_t pages;
	int level;
	size_t in, out;
	double seconds;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "extents: %s: %s\n", what, why);
	exit(1);
}

static double thread_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Only zstd is timed: not the faults of the file's pages, nor the copy. */
static void compress_extent(struct work *w, ZSTD_CCtx *ctx, const void *data,
			    size_t size)
{
	static __thread uint8_t frame[EXTENT * 2];
	double start = thread_seconds();
	size_t n = ZSTD_compress2(ctx, frame, sizeof(frame), data, size);

	w->seconds += thread_seconds() - start;
	if (ZSTD_isError(n))
		die("zstd", ZSTD_getErrorName(n));
	w->in += size;
	w->out += n;
}

static gpointer compress_all(gpointer data)
{
	static __thread uint8_t extent[EXTENT];
	struct work *w = data;
	ZSTD_CCtx *ctx = ZSTD_createCCtx();
	size_t fill = 0;

	ZSTD_CCtx_setParameter(ctx, ZSTD_c_compressionLevel, w->level);
	ZSTD_CCtx_setParameter(ctx, ZSTD_c_checksumFlag, 1);
	for (size_t i = 0; i < w->pages; i++) {
		const uint8_t *page = w->data + i * SNAP_PAGE;

		if (snap_is_zero(page, SNAP_PAGE))
			continue;
		memcpy(extent + fill, page, SNAP_PAGE);
		fill += SNAP_PAGE;
		if (fill == EXTENT) {
			compress_extent(w, ctx, extent, fill);
			fill = 0;
		}
	}
	if (fill)
		compress_extent(w, ctx, extent, fill);
	ZSTD_freeCCtx(ctx);
	return NULL;
}

static void map(const char *path, struct work *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		die(path, strerror(errno));
	ret->pages = (size_t)st.st_size / SNAP_PAGE;
	if (!ret->pages)
		die(path, "not a page long");
	ret->data = mmap(NULL, ret->pages * SNAP_PAGE, PROT_READ, MAP_PRIVATE,
			 fd, 0);
	if (ret->data == MAP_FAILED)
		die(path, strerror(errno));
	close(fd);
}

int main(int argc, char **argv)
{
	guint threads = argc > 3 ? (guint)atoi(argv[3]) : 1;
	struct work common = { .level = argc > 2 ? atoi(argv[2]) : 1 };
	g_autofree struct work *works = NULL;
	g_autofree GThread **running = NULL;
	double seconds = 0;

	if (argc < 2 || argc > 4 || !threads) {
		fputs("usage: extents FILE [LEVEL [THREADS]]\n", stderr);
		return 2;
	}
	map(argv[1], &common);
	works = g_new(struct work, threads);
	running = g_new(GThread *, threads);
	for (guint i = 0; i < threads; i++) {
		works[i] = common;
		running[i] = g_thread_new("zstd", compress_all, &works[i]);
	}
	for (guint i = 0; i < threads; i++) {
		g_thread_join(running[i]);
		seconds += works[i].seconds / threads;
	}
	printf("%zu %zu %.3f\n", works[0].in, works[0].out, seconds);
	return 0;
}
