/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The input of a save that is a file: a stream, with what stands before it,
 * that was written elsewhere. */
#include "fs/save/file.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "format/base/error.h"
#include "format/base/fileio.h"

#define CHUNK (512 * SNAP_KIB)

int snap_save_find_in(int fd, uint64_t *ret_begin)
{
	g_autofree uint8_t *buf = g_malloc(SNAP_SAVE_FIND + CHUNK);
	size_t had = 0, at;

	for (uint64_t from = 0; from <= SNAP_CATALOG_PREAMBLE_MAX;) {
		ssize_t n = snap_pread_all(fd, buf + had, CHUNK, from);
		size_t size = had + (size_t)MAX(n, 0);

		if (n <= 0)
			return (int)n;
		if (!from && n >= 4 && snap_save_begins(buf, 4)) {
			*ret_begin = 0;
			return 1;
		}
		if (snap_save_find(buf, size, &at)) {
			*ret_begin = from - had + at;
			return 1;
		}
		from += (uint64_t)n;
		had = MIN(size, SNAP_SAVE_FIND);
		memmove(buf, buf + size - had, had);
	}
	return 0;
}

int snap_file_feed(int fd, uint64_t begin, SnapIngest *in, const gint *stop,
		   GError **error)
{
	g_autofree uint8_t *buf = g_malloc(CHUNK);
	uint64_t end, at = begin, to;
	struct stat st;
	int r = 0;

	if (fstat(fd, &st) < 0)
		return snap_fail_errno(error, errno, "reading the file");
	end = to = (uint64_t)st.st_size;
	while (r == 0 && at < end) {
		ssize_t n;

		if (g_atomic_int_get(stop))
			return snap_fail(error, ECANCELED, "it was stopped");
		/* A hole of any other stream is just zeros. */
		if (snap_ingest_scattered(in))
			snap_next_data(fd, at, end, &at, &to);
		if (at == end)
			break;
		n = snap_pread_all(fd, buf, MIN(to - at, CHUNK), at);
		if (n <= 0)
			return snap_fail_errno(error, n ? (int)-n : EIO,
					       "reading the file");
		r = snap_ingest_write(in, buf, (size_t)n, at, error);
		if (r == 0)
			r = snap_ingest_compact(in, SNAP_DEAD_WHILE, error);
		at += (uint64_t)n;
	}
	return r < 0 ? r : snap_ingest_end(in, error);
}
