/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Prints what one small write costs, as QEMU's background snapshot makes them:
 * a migration stream, one write(2) a page. It goes, in turn, into the smallest
 * FUSE server, into `stream` of a snapfs mount, into a plain file and into a
 * pipe: first with pages (records of 4,104 bytes), then with zero pages alone
 * (records of 9). The bytes are the same for all. Pages come from a file with
 * the memory of a guest.
 *
 * Each figure is the median of the rounds, after one that does not count, with
 * the least and the greatest.
 *
 * usage: small-writes [-n WRITES] [-r ROUNDS] PACK MOUNT FOLDER
 *
 * MOUNT is a folder in a snapfs mount, FOLDER one on the disk of its store.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "format/base/bytes.h"
#include "format/base/units.h"
#include "format/qemu/wire.h"
#include "tests/bench/pack.h"
#include "tests/bench/sink.h"
#include "tests/lib/stream.h"

#define RAM_ID 1
#define DEVICE_ID 2
#define FIGURES 3 /* of a round: mean, p50, p99 */

enum { SINK, SNAPFS, PLAIN, PIPE, TARGETS };

/* Where the writes go, and what they cost. */
struct target {
	const char *name;
	char *path;   /* of the file; NULL for the pipe */
	pid_t reader; /* of the pipe */
	double *us[FIGURES];
};

static struct {
	guint writes, rounds;
	GPtrArray *pages; /* of the pack, those that are not zero */
	struct target targets[TARGETS];
} bench = { .writes = 50000, .rounds = 5 };

G_NORETURN static void die(const char *what)
{
	fprintf(stderr, "small-writes: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* ---- the stream ---- */

static void write_all(int fd, const GByteArray *bytes, const char *what)
{
	for (guint done = 0; done < bytes->len;) {
		ssize_t n = write(fd, bytes->data + done, bytes->len - done);

		if (n < 0)
			die(what);
		done += (guint)n;
	}
}

/* All up to the records: the first names the block, for those that follow. */
static void write_head(int fd, const char *what)
{
	uint64_t ram = (bench.writes + 1) * (uint64_t)SNAP_PAGE;
	g_autoptr(GByteArray) s = g_byte_array_new();

	stream_magic(s);
	stream_configuration(s, "pc-q35-10.0");
	stream_start(s, WIRE_SECTION_START, RAM_ID, WIRE_RAM, WIRE_RAM_VERSION);
	stream_total(s, ram);
	stream_block(s, "pc.ram", ram);
	stream_eos(s);
	stream_footer(s, RAM_ID);
	stream_more(s, WIRE_SECTION_PART, RAM_ID);
	stream_fill(s, "pc.ram", 0, 0);
	write_all(fd, s, what);
}

static void write_tail(int fd, const char *what)
{
	g_autoptr(GByteArray) s = g_byte_array_new();

	stream_eos(s);
	stream_footer(s, RAM_ID);
	stream_device(s, DEVICE_ID, "timer", "state", 5, true);
	stream_description(s, "{\"devices\": []}");
	write_all(fd, s, what);
}

/* Writes the records one by one, as QEMU does; `ret` has the time of each. */
static void write_records(int fd, bool zero, uint32_t *ret, const char *what)
{
	be64 head;
	struct iovec record[2] = { { &head, sizeof(head) } };
	uint64_t before = now_ns(), after;

	for (guint i = 0; i < bench.writes; i++) {
		uint64_t flags = zero ? WIRE_RAM_ZERO : WIRE_RAM_PAGE;

		head = snap_to_be64((i + 1) * (uint64_t)SNAP_PAGE | flags |
				    WIRE_RAM_CONTINUE);
		record[1].iov_base =
			zero ? (void *)""
			     : bench.pages->pdata[i % bench.pages->len];
		record[1].iov_len = zero ? 1 : SNAP_PAGE;
		if (writev(fd, record, 2) !=
		    (ssize_t)(sizeof(head) + record[1].iov_len))
			die(what);
		after = now_ns();
		ret[i] = (uint32_t)(after - before);
		before = after;
	}
}

/* ---- where it goes ---- */

static pid_t start_reader(int fd, int other)
{
	static uint8_t buffer[1 << 16];
	pid_t reader = fork();

	if (reader < 0)
		die("fork");
	if (reader)
		return reader;
	close(other);
	while (read(fd, buffer, sizeof(buffer)) > 0)
		;
	_exit(0);
}

static int open_target(struct target *t)
{
	int fds[2], fd;

	if (t->path) {
		/* What was there has gone before the disk is at rest. */
		if (unlink(t->path) < 0 && errno != ENOENT && errno != ENOSYS)
			die(t->path);
		sync();
		fd = open(t->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0 || ftruncate(fd, 0) < 0)
			die(t->path);
		return fd;
	}
	sync();
	if (pipe(fds) < 0)
		die("pipe");
	t->reader = start_reader(fds[0], fds[1]);
	close(fds[0]);
	return fds[1];
}

/* What came into the mount has become a snapshot, with all of the pages. */
static void check_snapshot(const struct target *t)
{
	g_autofree char *folder = g_path_get_dirname(t->path);
	g_autofree char *ram = g_build_filename(folder, "ram", NULL);
	struct stat st;

	if (stat(ram, &st) < 0)
		die(ram);
	if ((uint64_t)st.st_size < (bench.writes + 1) * (uint64_t)SNAP_PAGE) {
		errno = EIO;
		die(ram);
	}
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void measure(struct target *t, bool zero, guint round)
{
	g_autofree uint32_t *ns = g_new(uint32_t, bench.writes);
	int fd = open_target(t);
	double sum = 0;

	write_head(fd, t->name);
	write_records(fd, zero, ns, t->name);
	write_tail(fd, t->name);
	if (close(fd) < 0)
		die(t->name);
	if (t->reader)
		waitpid(t->reader, NULL, 0);
	if (t == &bench.targets[SNAPFS])
		check_snapshot(t);
	for (guint i = 0; i < bench.writes; i++)
		sum += ns[i];
	qsort(ns, bench.writes, sizeof(*ns), compare);
	t->us[0][round] = sum / bench.writes / 1e3;
	t->us[1][round] = ns[bench.writes / 2] / 1e3;
	t->us[2][round] = ns[(uint64_t)bench.writes * 99 / 100] / 1e3;
}

/* ---- figures ---- */

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Prints the median and the range of all rounds but the first. */
static void print_rounds(const double *values)
{
	g_autofree double *v =
		g_memdup2(values + 1, bench.rounds * sizeof(double));

	qsort(v, bench.rounds, sizeof(double), compare_double);
	printf("  %7.2f (%.2f to %.2f)", v[bench.rounds / 2], v[0],
	       v[bench.rounds - 1]);
}

static void print_ratio(void)
{
	g_autofree double *ratio = g_new0(double, bench.rounds + 1);

	printf("%-24s", "snapfs / smallest sink");
	for (guint f = 0; f < FIGURES; f++) {
		for (guint i = 1; i <= bench.rounds; i++)
			ratio[i] = bench.targets[SNAPFS].us[f][i] /
				   bench.targets[SINK].us[f][i];
		print_rounds(ratio);
	}
	putchar('\n');
}

static void measure_all(bool zero)
{
	/* Each target comes first once in a while. */
	for (guint round = 0; round <= bench.rounds; round++)
		for (guint i = 0; i < TARGETS; i++)
			measure(&bench.targets[(i + round) % TARGETS], zero,
				round);
	printf("%u writes of %u bytes, us a write: mean, p50, p99\n",
	       bench.writes, zero ? 9 : 8 + SNAP_PAGE);
	for (guint i = 0; i < TARGETS; i++) {
		printf("%-24s", bench.targets[i].name);
		for (guint f = 0; f < FIGURES; f++)
			print_rounds(bench.targets[i].us[f]);
		putchar('\n');
	}
	print_ratio();
}

static void make_target(guint which, const char *name, const char *folder)
{
	struct target *t = &bench.targets[which];

	t->name = name;
	t->path = folder ? g_build_filename(folder, "stream", NULL) : NULL;
	for (guint f = 0; f < FIGURES; f++)
		t->us[f] = g_new0(double, bench.rounds + 1);
}

int main(int argc, char **argv)
{
	g_autofree char *point = NULL;
	pid_t sink;
	int c;

	while ((c = getopt(argc, argv, "n:r:")) > 0) {
		if (c == 'n')
			bench.writes = (guint)atoi(optarg);
		else if (c == 'r')
			bench.rounds = (guint)atoi(optarg);
		else
			return 2;
	}
	if (argc - optind != 3 || !bench.writes || !bench.rounds) {
		fputs("usage: small-writes [-n WRITES] [-r ROUNDS] PACK MOUNT "
		      "FOLDER\n",
		      stderr);
		return 2;
	}
	bench.pages = pack_load(argv[optind]);
	if (!bench.pages)
		die(argv[optind]);
	point = g_build_filename(argv[optind + 2], "sink", NULL);
	if (g_mkdir_with_parents(point, 0700) < 0)
		die(point);
	make_target(SINK, "the smallest FUSE sink", point);
	make_target(SNAPFS, "stream in a mount", argv[optind + 1]);
	make_target(PLAIN, "a plain file", argv[optind + 2]);
	make_target(PIPE, "a pipe", NULL);
	sink = sink_start(point);
	measure_all(false);
	measure_all(true);
	sink_stop(sink);
	rmdir(point);
	return 0;
}
