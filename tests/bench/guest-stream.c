/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes the migration stream of a guest that is larger than this machine, as
 * QEMU writes it to `file:`: one writev(2) for up to 64 pieces, which are
 * headers from a buffer of 32 KiB and pages of the guest (IO_BUF_SIZE and
 * MAX_IOV_SIZE in migration/qemu-file.c of QEMU).
 *
 * Memory is regions of 2 MiB. Some are full, spread evenly; in each other one
 * some pages at its beginning are not zero. The pages are those of a file, over
 * and over; each begins with its own number, so that no two are equal.
 *
 * usage: guest-stream [-f FULL] [-t TOUCHED] PACK RAM FILE
 *
 * RAM and FULL (the full regions) are in MiB, TOUCHED is pages a region.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "format/base/bytes.h"
#include "format/base/units.h"
#include "format/qemu/wire.h"
#include "tests/bench/pack.h"
#include "tests/lib/stream.h"

#define RAM_ID 1
#define DEVICE_ID 2
#define BUFFER 32768
#define PIECES 64
#define REGION_PAGES (2 * SNAP_MIB / SNAP_PAGE)

static struct {
	GPtrArray *pages; /* of the pack, those that are not zero */
	uint64_t sent;	  /* pages that are not zero */
	uint64_t regions, full, touched;
	int fd;
	const char *path;
	struct iovec pieces[PIECES];
	int n;
	uint8_t buffer[BUFFER];
	size_t used;
} out;

G_NORETURN static void die(const char *what)
{
	fprintf(stderr, "guest-stream: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- pieces ---- */

static void flush(void)
{
	struct iovec *at = out.pieces;

	while (out.n) {
		ssize_t n = writev(out.fd, at, out.n);

		if (n < 0)
			die(out.path);
		for (; out.n && (size_t)n >= at->iov_len; at++, out.n--)
			n -= (ssize_t)at->iov_len;
		if (out.n) {
			at->iov_base = (uint8_t *)at->iov_base + n;
			at->iov_len -= (size_t)n;
		}
	}
	out.used = 0;
}

/* Bytes that stay where they are until the next flush. */
static void put_piece(const void *data, size_t size)
{
	struct iovec *last = out.n ? &out.pieces[out.n - 1] : NULL;

	if (last && (const uint8_t *)last->iov_base + last->iov_len == data) {
		last->iov_len += size;
		return;
	}
	if (out.n == PIECES)
		flush();
	out.pieces[out.n++] =
		(struct iovec){ .iov_base = (void *)data, .iov_len = size };
}

/* Bytes that are copied. */
static void put(const void *data, size_t size)
{
	if (out.used + size > BUFFER || out.n == PIECES)
		flush();
	memcpy(out.buffer + out.used, data, size);
	put_piece(out.buffer + out.used, size);
	out.used += size;
}

static void put_all(const GByteArray *bytes)
{
	for (guint at = 0; at < bytes->len; at += BUFFER)
		put(bytes->data + at, MIN(BUFFER, bytes->len - at));
}

/* ---- the stream ---- */

static void put_head(uint64_t ram)
{
	g_autoptr(GByteArray) s = g_byte_array_new();

	stream_magic(s);
	stream_configuration(s, "pc-q35-10.0");
	stream_start(s, WIRE_SECTION_START, RAM_ID, WIRE_RAM, WIRE_RAM_VERSION);
	stream_total(s, ram);
	stream_block(s, "pc.ram", ram);
	stream_eos(s);
	stream_footer(s, RAM_ID);
	stream_more(s, WIRE_SECTION_PART, RAM_ID);
	/* Names the block, for all records that follow. */
	stream_fill(s, "pc.ram", 0, 0);
	put_all(s);
}

static void put_tail(void)
{
	g_autoptr(GByteArray) s = g_byte_array_new();

	stream_eos(s);
	stream_footer(s, RAM_ID);
	stream_device(s, DEVICE_ID, "timer", "state", 5, true);
	stream_description(s, "{\"devices\": []}");
	put_all(s);
	flush();
}

static void put_zero(uint64_t at)
{
	uint8_t record[9] = { 0 };
	be64 head = snap_to_be64(at | WIRE_RAM_ZERO | WIRE_RAM_CONTINUE);

	memcpy(record, &head, sizeof(head));
	put(record, sizeof(record));
}

static void put_page(uint64_t at)
{
	const uint8_t *page =
		g_ptr_array_index(out.pages, out.sent % out.pages->len);
	be64 head[2] = {
		snap_to_be64(at | WIRE_RAM_PAGE | WIRE_RAM_CONTINUE),
		snap_to_be64(++out.sent),
	};

	put(head, sizeof(head));
	put_piece(page + sizeof(*head), SNAP_PAGE - sizeof(*head));
}

/* True for `full` of all regions, spread evenly. */
static bool is_full(uint64_t region)
{
	return (region + 1) * out.full / out.regions >
	       region * out.full / out.regions;
}

static void put_region(uint64_t region)
{
	uint64_t data = is_full(region) ? REGION_PAGES : out.touched;

	for (uint64_t i = 0; i < REGION_PAGES; i++) {
		uint64_t at = (region * REGION_PAGES + i) * SNAP_PAGE;

		if (i < data)
			put_page(at);
		else
			put_zero(at);
	}
}

int main(int argc, char **argv)
{
	uint64_t full = 0;
	int c;

	while ((c = getopt(argc, argv, "f:t:")) > 0) {
		if (c == 'f')
			full = strtoull(optarg, NULL, 10);
		else if (c == 't')
			out.touched = strtoull(optarg, NULL, 10);
		else
			return 2;
	}
	if (argc - optind != 3) {
		fputs("usage: guest-stream [-f FULL] [-t TOUCHED] PACK RAM "
		      "FILE\n",
		      stderr);
		return 2;
	}
	out.pages = pack_load(argv[optind]);
	if (!out.pages)
		die(argv[optind]);
	out.regions = strtoull(argv[optind + 1], NULL, 10) / 2;
	out.full = MIN(full / 2, out.regions);
	out.path = argv[optind + 2];
	out.fd = open(out.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (out.fd < 0)
		die(out.path);
	put_head(out.regions * 2 * SNAP_MIB);
	for (uint64_t i = 0; i < out.regions; i++)
		put_region(i);
	put_tail();
	if (close(out.fd) < 0)
		die(out.path);
	return 0;
}
