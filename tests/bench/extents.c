/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Prints what zstd alone makes of a guest's memory.
 *
 *   extents FILE [LEVEL [THREADS]]
 *	compresses the pages of a file that are not zero, 16 at a time as snapfs
 *	has them in an extent, at one level, and prints
 *		BYTES of pages, BYTES compressed, SECONDS of a processor
 *   extents -d SNAPSHOT [THREADS]
 *	decompresses the frames of a snapshot's file, as they lie there
 *
 * With several threads each takes all of the file; the seconds are the mean of
 * a thread. Processors that share a core are slower together.
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

/* What a thread works on, and what it finds: bytes of pages, and compressed. */
struct work {
	const uint8_t *data;
	size_t size;
	int level;
	size_t pages, packed;
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
	w->pages += size;
	w->packed += n;
}

static gpointer compress_all(gpointer data)
{
	static __thread uint8_t extent[EXTENT];
	struct work *w = data;
	ZSTD_CCtx *ctx = ZSTD_createCCtx();
	size_t fill = 0;

	ZSTD_CCtx_setParameter(ctx, ZSTD_c_compressionLevel, w->level);
	ZSTD_CCtx_setParameter(ctx, ZSTD_c_checksumFlag, 1);
	for (size_t i = 0; i + SNAP_PAGE <= w->size; i += SNAP_PAGE) {
		const uint8_t *page = w->data + i;

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

static void decompress_frame(struct work *w, ZSTD_DCtx *ctx, const void *frame,
			     size_t size)
{
	static __thread uint8_t copy[EXTENT * 2], extent[EXTENT];
	unsigned long long content = ZSTD_getFrameContentSize(frame, size);
	double start;
	size_t n;

	/* No extent: it holds nothing for zstd, or it is too large. */
	if (!content || content > sizeof(extent) || size > sizeof(copy))
		return;
	memcpy(copy, frame, size);
	start = thread_seconds();
	n = ZSTD_decompressDCtx(ctx, extent, sizeof(extent), copy, size);
	w->seconds += thread_seconds() - start;
	if (ZSTD_isError(n))
		die("zstd", ZSTD_getErrorName(n));
	w->pages += n;
	w->packed += size;
}

static gpointer decompress_all(gpointer data)
{
	struct work *w = data;
	ZSTD_DCtx *ctx = ZSTD_createDCtx();

	for (size_t at = 0, size; at < w->size; at += size) {
		const uint8_t *frame = w->data + at;

		size = ZSTD_findFrameCompressedSize(frame, w->size - at);
		if (ZSTD_isError(size))
			die("a frame", ZSTD_getErrorName(size));
		decompress_frame(w, ctx, frame, size);
	}
	ZSTD_freeDCtx(ctx);
	return NULL;
}

static void map(const char *path, struct work *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		die(path, strerror(errno));
	ret->size = (size_t)st.st_size;
	if (ret->size < SNAP_PAGE)
		die(path, "not a page long");
	ret->data = mmap(NULL, ret->size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (ret->data == MAP_FAILED)
		die(path, strerror(errno));
	close(fd);
}

/* Each thread does all of the work; prints what they found. */
static void run(const struct work *common, GThreadFunc function, guint threads)
{
	g_autofree struct work *works = g_new(struct work, threads);
	g_autofree GThread **running = g_new(GThread *, threads);
	double seconds = 0;

	for (guint i = 0; i < threads; i++) {
		works[i] = *common;
		running[i] = g_thread_new("zstd", function, &works[i]);
	}
	for (guint i = 0; i < threads; i++) {
		g_thread_join(running[i]);
		seconds += works[i].seconds / threads;
	}
	printf("%zu %zu %.3f\n", works[0].pages, works[0].packed, seconds);
}

int main(int argc, char **argv)
{
	bool unpack = argc > 1 && strcmp(argv[1], "-d") == 0;
	int last = unpack ? 4 : 5; /* words, with the program */
	struct work common = { .level = 1 };
	guint threads = 1;

	if (argc == last)
		threads = (guint)atoi(argv[--argc]);
	if (argc < (unpack ? 3 : 2) || argc >= last || !threads) {
		fputs("usage: extents FILE [LEVEL [THREADS]]\n"
		      "       extents -d SNAPSHOT [THREADS]\n",
		      stderr);
		return 2;
	}
	if (!unpack && argc == 3)
		common.level = atoi(argv[2]);
	map(argv[unpack ? 2 : 1], &common);
	run(&common, unpack ? decompress_all : compress_all, threads);
	return 0;
}
