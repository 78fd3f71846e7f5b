/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads a file and prints how long that took. It knows nothing of snapfs: the
 * file may lie anywhere.
 *
 *   reader order [-c] [-d] [-l] [-r FROM:TO] FILE
 *	reads it from end to end, 1 MiB a time, as cat does, and prints
 *		BYTES SECONDS SUM
 *	-c  also computes a sum of what was read; without, SUM is 0
 *	-d  drops what was read from the page cache, a little behind, so that
 *	    a large file needs little memory. A virtual machine may have to
 *	    wait for its host when it needs more than it has used just now.
 *	-l  begins again at each end, until it is killed
 *
 *   reader random [-m] [-n READS] [-j READERS] [-s SEED] [-p OTHER]
 *		   [-r FROM:TO] [-o TIMES] FILE
 *	reads pages that are no holes, in no order, each one once, and prints
 *		READS SECONDS SUM IOPS P50 P99 MAX
 *	with the last three in microseconds
 *	-m  looks at a mapping of the file: each page is a page fault
 *	-n  how many in all (2000), or as many as there are
 *	-j  threads that read at once (1); each has opened the file itself
 *	-s  another seed reads other pages (1)
 *	-p  asks this file, which has the same bytes, where the holes are; some
 *	    file systems cannot say
 *	-o  writes the time of each read, in nanoseconds, one a line, to a file
 *
 * -r reads only what lies from byte FROM up to byte TO.
 *
 * SUM is the same for the same pages, in whatever order they were read.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define BLOCK ((size_t)1 << 20)
#define BEHIND ((off_t)32 << 20) /* bytes that -d leaves in the page cache */

struct options {
	const char *file, *other, *times;
	off_t from, to; /* `to` is at most the size of the file */
	size_t reads, readers;
	uint64_t seed;
	bool sum, drop, loop, mapped;
};

/* One thread that reads at random, and what it finds. */
struct reader {
	const struct options *opts;
	pthread_barrier_t *begin;
	const off_t *offsets;
	uint64_t *ns; /* of each read */
	size_t reads;
	uint64_t sum;
};

static void die(const char *what)
{
	fprintf(stderr, "reader: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *allocate(size_t size)
{
	void *p = aligned_alloc(PAGE, (size + PAGE - 1) / PAGE * PAGE);

	if (!p)
		die("memory");
	return p;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static int open_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die(path);
	return fd;
}

/* The sum of some pages is the sum of these. */
static uint64_t sum_of_page(const void *page, off_t offset)
{
	uint64_t sum = (uint64_t)offset, word;

	for (size_t i = 0; i < PAGE; i += sizeof(word)) {
		memcpy(&word, (const char *)page + i, sizeof(word));
		sum = (sum ^ word) * 0x100000001b3;
	}
	return sum;
}

/* ---- in order ---- */

static uint64_t sum_of(const char *data, size_t size, off_t offset)
{
	uint64_t sum = 0;

	for (size_t i = 0; i + PAGE <= size; i += PAGE)
		sum += sum_of_page(data + i, offset + (off_t)i);
	return sum;
}

static void read_in_order(const struct options *opts)
{
	int fd = open_file(opts->file);
	char *buffer = allocate(BLOCK);
	off_t at = opts->from, kept = at;
	uint64_t sum = 0, start;

	memset(buffer, 1, BLOCK);
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	start = now_ns();
	while (at < opts->to) {
		size_t left = (size_t)(opts->to - at);
		ssize_t n = pread(fd, buffer, left < BLOCK ? left : BLOCK, at);

		if (n <= 0)
			die(opts->file);
		if (opts->sum)
			sum += sum_of(buffer, (size_t)n, at);
		at += n;
		if (opts->drop && at - kept >= BEHIND) {
			posix_fadvise(fd, kept, at - kept, POSIX_FADV_DONTNEED);
			kept = at;
		}
		if (opts->loop && at == opts->to)
			at = kept = opts->from;
	}
	printf("%lld %.6f %llu\n", (long long)(at - opts->from),
	       (double)(now_ns() - start) / 1e9, (unsigned long long)sum);
}

/* ---- at random ---- */

/* The offsets of pages that are no holes; `ret` has room for all. */
static size_t find_pages(const struct options *opts, off_t *ret)
{
	int fd = open_file(opts->other ? opts->other : opts->file);
	off_t at = opts->from, end;
	size_t n = 0;

	while (at < opts->to) {
		at = lseek(fd, at, SEEK_DATA);
		if (at < 0 && errno == ENXIO)
			break;
		end = at < 0 ? -1 : lseek(fd, at, SEEK_HOLE);
		if (end < 0)
			die("looking for holes");
		for (; at < end && at + (off_t)PAGE <= opts->to; at += PAGE)
			ret[n++] = at;
		at = end;
	}
	close(fd);
	return n;
}

static uint64_t next_random(uint64_t *state)
{
	/* xorshift64*, Vigna 2016 */
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1d;
}

/* Brings `chosen` of the pages to the front, in no order. */
static void choose(off_t *pages, size_t n, size_t chosen, uint64_t seed)
{
	uint64_t state = seed * 0x9e3779b97f4a7c15 + 1;

	for (size_t i = 0; i < chosen; i++) {
		size_t other = i + next_random(&state) % (n - i);
		off_t page = pages[i];

		pages[i] = pages[other];
		pages[other] = page;
	}
}

static void read_page(const struct reader *r, int fd, const char *map,
		      off_t offset, char *ret)
{
	if (map)
		/* The fault is what is measured; the rest is a copy. */
		memcpy(ret, map + offset, PAGE);
	else if (pread(fd, ret, PAGE, offset) != (ssize_t)PAGE)
		die(r->opts->file);
}

static char *map_file(const struct options *opts, int fd)
{
	size_t size = (size_t)opts->to;
	char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		die(opts->file);
	madvise(map, size, MADV_RANDOM);
	return map;
}

static void *read_at_random(void *data)
{
	struct reader *r = data;
	int fd = open_file(r->opts->file);
	const char *map = NULL;
	char *page = allocate(PAGE);

	memset(page, 1, PAGE);
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	if (r->opts->mapped)
		map = map_file(r->opts, fd);
	pthread_barrier_wait(r->begin);
	for (size_t i = 0; i < r->reads; i++) {
		uint64_t start = now_ns();

		read_page(r, fd, map, r->offsets[i], page);
		r->ns[i] = now_ns() - start;
		r->sum += sum_of_page(page, r->offsets[i]);
	}
	free(page);
	close(fd);
	return NULL;
}

/* Seconds that all readers together took; `ret_ns` has the time of each read.
 */
static double run_readers(const struct options *opts, const off_t *offsets,
			  size_t reads, uint64_t *ret_ns, uint64_t *ret_sum)
{
	struct reader *readers = calloc(opts->readers, sizeof(*readers));
	pthread_t *threads = calloc(opts->readers, sizeof(*threads));
	pthread_barrier_t begin;
	size_t done = 0;
	uint64_t start;

	if (!readers || !threads)
		die("memory");
	pthread_barrier_init(&begin, NULL, (unsigned)opts->readers + 1);
	for (size_t i = 0; i < opts->readers; i++) {
		size_t end = reads * (i + 1) / opts->readers;

		readers[i] = (struct reader){ opts,	      &begin,
					      offsets + done, ret_ns + done,
					      end - done,     0 };
		done = end;
		errno = pthread_create(&threads[i], NULL, read_at_random,
				       &readers[i]);
		if (errno)
			die("a thread");
	}
	start = now_ns();
	pthread_barrier_wait(&begin);
	for (size_t i = 0; i < opts->readers; i++) {
		pthread_join(threads[i], NULL);
		*ret_sum += readers[i].sum;
	}
	return (double)(now_ns() - start) / 1e9;
}

static void write_times(const char *path, const uint64_t *ns, size_t n)
{
	FILE *file = fopen(path, "we");

	if (!file)
		die(path);
	for (size_t i = 0; i < n; i++)
		fprintf(file, "%llu\n", (unsigned long long)ns[i]);
	if (fclose(file) != 0)
		die(path);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void random_reads(const struct options *opts)
{
	off_t *pages = allocate((size_t)opts->to / PAGE * sizeof(*pages));
	size_t found = find_pages(opts, pages);
	size_t n = found < opts->reads ? found : opts->reads;
	uint64_t *ns = allocate(n * sizeof(*ns) + 1), sum = 0;
	double seconds;

	if (!n) {
		fprintf(stderr, "reader: %s: no pages but holes\n", opts->file);
		exit(1);
	}
	memset(ns, 0, n * sizeof(*ns));
	choose(pages, found, n, opts->seed);
	seconds = run_readers(opts, pages, n, ns, &sum);
	if (opts->times)
		write_times(opts->times, ns, n);
	qsort(ns, n, sizeof(*ns), compare);
	printf("%zu %.6f %llu %.0f %.1f %.1f %.1f\n", n, seconds,
	       (unsigned long long)sum, (double)n / seconds,
	       (double)ns[n / 2] / 1e3, (double)ns[n * 99 / 100] / 1e3,
	       (double)ns[n - 1] / 1e3);
}

/* ---- what is asked ---- */

static void usage(void)
{
	fputs("usage: reader order [-c] [-d] [-l] [-r FROM:TO] FILE\n"
	      "       reader random [-m] [-n READS] [-j READERS] [-s SEED] "
	      "[-p OTHER]\n"
	      "                     [-r FROM:TO] [-o TIMES] FILE\n",
	      stderr);
	exit(2);
}

static void parse_range(const char *text, struct options *opts)
{
	long long from, to;

	if (sscanf(text, "%lld:%lld", &from, &to) != 2 || from < 0 ||
	    to <= from)
		usage();
	opts->from = from / (off_t)PAGE * (off_t)PAGE;
	opts->to = to;
}

static void parse(int argc, char **argv, bool random, struct options *opts)
{
	const char *known = random ? "mn:j:s:p:r:o:" : "cdlr:";
	int c;

	while ((c = getopt(argc, argv, known)) > 0) {
		switch (c) {
		case 'c':
			opts->sum = true;
			break;
		case 'd':
			opts->drop = true;
			break;
		case 'l':
			opts->loop = true;
			break;
		case 'm':
			opts->mapped = true;
			break;
		case 'n':
			opts->reads = strtoull(optarg, NULL, 10);
			break;
		case 'j':
			opts->readers = strtoull(optarg, NULL, 10);
			break;
		case 's':
			opts->seed = strtoull(optarg, NULL, 10);
			break;
		case 'p':
			opts->other = optarg;
			break;
		case 'o':
			opts->times = optarg;
			break;
		case 'r':
			parse_range(optarg, opts);
			break;
		default:
			usage();
		}
	}
	if (argc - optind != 1 || !opts->reads || !opts->readers ||
	    opts->readers > 1024)
		usage();
	opts->file = argv[optind];
}

/* A range ends with the file. */
static void limit_range(struct options *opts)
{
	struct stat st;

	if (stat(opts->file, &st) < 0)
		die(opts->file);
	if (opts->to > st.st_size)
		opts->to = st.st_size;
}

int main(int argc, char **argv)
{
	struct options opts = {
		.reads = 2000, .readers = 1, .seed = 1, .to = INT64_MAX
	};
	bool random = argc > 1 && strcmp(argv[1], "random") == 0;

	if (!random && (argc < 2 || strcmp(argv[1], "order") != 0))
		usage();
	parse(argc - 1, argv + 1, random, &opts);
	limit_range(&opts);
	if (random)
		random_reads(&opts);
	else
		read_in_order(&opts);
	return 0;
}
