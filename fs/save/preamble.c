/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the stream begins is known before the save begins: somebody found its
 * beginning (format/qemu/begin.c), or cut the file there.
 *
 * Zeros need not be written. They may be a hole: QEMU truncates the file to the
 * offset, and a copy of such a file leaves the zeros out.
 *
 * The preamble may be rewritten while the stream comes and after it. libvirt
 * does so when the stream is complete.
 */
#include "fs/save/preamble.h"

#include <inttypes.h>
#include <string.h>

#include "format/base/error.h"
#include "format/base/fileio.h"
#include "format/base/units.h"
#include "format/base/zero.h"
#include "format/qemu/libvirt.h"
#include "format/qemu/parse.h"
#include "fs/save/save.h"

/* Memory is reserved in pieces of this size. */
#define RESERVE (64 * SNAP_KIB)

void snap_preamble_init(struct snap_preamble *p, SnapPool *pool, uint64_t begin)
{
	*p = (struct snap_preamble){
		.pool = pool,
		.begin = begin,
		.bytes = g_byte_array_new(),
	};
}

void snap_preamble_clear(struct snap_preamble *p)
{
	if (!p->bytes)
		return;
	g_clear_pointer(&p->bytes, g_byte_array_unref);
	snap_pool_unreserve(p->pool, p->reserved);
}

bool snap_preamble_takes(const struct snap_preamble *p, size_t size,
			 uint64_t offset, bool begun)
{
	uint64_t end = MIN(p->begin, SNAP_CATALOG_PREAMBLE_MAX);

	return begun ? offset + size <= end
		     : offset < end || offset == p->begin;
}

/* Lengthens the preamble to `size` bytes; the new ones are zeros. */
static int grow(struct snap_preamble *p, uint64_t size, GError **error)
{
	guint had = p->bytes->len;
	uint64_t want = snap_round_up(size, RESERVE);

	if (size > SNAP_CATALOG_PREAMBLE_MAX)
		return snap_fail(error, EPROTO,
				 "the preamble of the stream has more than %u "
				 "MiB that are not zero",
				 SNAP_CATALOG_PREAMBLE_MAX >> 20);
	if (size <= had)
		return 0;
	if (want > p->reserved) {
		if (!snap_pool_reserve_late(p->pool, want - p->reserved))
			return snap_fail(error, ENOMEM,
					 "%" PRIu64 " KiB for the preamble are "
					 "more than is left of -o buffer=",
					 want / SNAP_KIB);
		p->reserved = want;
	}
	g_byte_array_set_size(p->bytes, (guint)size);
	memset(p->bytes->data + had, 0, size - had);
	return 0;
}

int snap_preamble_load(struct snap_preamble *p, int fd, GError **error)
{
	uint64_t at = 0, from, to;
	ssize_t n;
	int r = 0;

	while (r == 0 && at < p->begin) {
		snap_next_data(fd, at, p->begin, &from, &to);
		to = MIN(to, from + SNAP_MIB);
		if (from == to)
			return 0;
		r = grow(p, to, error);
		if (r < 0)
			return r;
		n = snap_pread_all(fd, p->bytes->data + from, to - from, from);
		if (n < 0)
			return snap_fail_errno(error, (int)-n, "the preamble");
		at = from + (uint64_t)n;
		if (at < to) {
			g_byte_array_set_size(p->bytes, (guint)at);
			return 0;
		}
	}
	return r;
}

ssize_t snap_preamble_write(struct snap_preamble *p, const void *data,
			    size_t size, uint64_t offset, GError **error)
{
	size_t zeros;
	int r;

	if (offset >= p->begin)
		return 0;
	size = (size_t)MIN(size, p->begin - offset);
	/* Zeros at the end need no memory. */
	zeros = offset >= p->bytes->len ? snap_zeros_behind(data, size) : 0;
	if (zeros == size)
		return (ssize_t)size;
	r = grow(p, offset + size - zeros, error);
	if (r < 0)
		return r;
	memcpy(p->bytes->data + offset, data, size - zeros);
	return (ssize_t)size;
}

/* ---- for those who begin saves ---- */

bool snap_save_begins(const void *data, size_t size)
{
	return snap_stream_begins(data, size);
}

bool snap_save_find(const void *data, size_t size, size_t *ret_at)
{
	return snap_stream_find(data, size, ret_at);
}

int snap_save_check_header(const void *data, size_t size, GError **error)
{
	struct snap_libvirt header;
	const char *name;

	if (!snap_libvirt_read(data, size, &header))
		return 0;
	name = snap_libvirt_compressor(&header);
	if (!name)
		return 0;
	return snap_fail(error, EOPNOTSUPP,
			 "libvirt's save image is compressed by %s; set "
			 "save_image_format to raw or sparse in qemu.conf",
			 name);
}

int snap_save_check_preamble(const void *data, size_t size, uint64_t length,
			     GError **error)
{
	struct snap_libvirt header;

	if (!snap_libvirt_read(data, size, &header) || header.stream == length)
		return 0;
	return snap_fail(error, EPROTO,
			 "preamble is not whole: its libvirt header does not "
			 "name its length, %" PRIu64,
			 length);
}
