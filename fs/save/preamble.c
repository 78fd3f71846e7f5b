/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the stream begins is said by the file's first bytes: libvirt's magic,
 * and then its header says; a zero, and then the first byte that is none; any
 * other, and that is the stream's. Zeros need not be written: a hole does as
 * well, the one that QEMU cuts the file to, or the one that a copy of such a
 * file leaves.
 *
 * While the stream comes, and behind it, what stands before it may be written
 * again; libvirt does so when the stream is whole.
 */
#include "fs/save/preamble.h"

#include <inttypes.h>
#include <string.h>

#include "format/base/error.h"
#include "format/base/units.h"
#include "format/base/zero.h"
#include "format/qemu/libvirt.h"
#include "format/qemu/parse.h"

void snap_preamble_init(struct snap_preamble *b, uint64_t hole)
{
	*b = (struct snap_preamble){
		.known = hole > 0,
		.begin = hole,
		.bytes = g_byte_array_new(),
	};
}

void snap_preamble_clear(struct snap_preamble *b)
{
	g_clear_pointer(&b->bytes, g_byte_array_unref);
}

uint64_t snap_preamble_position(const struct snap_preamble *b)
{
	return b->zeros + b->bytes->len;
}

/* Zeros, and then the beginning of a stream as far as it is there. */
static bool is_padded_stream(const uint8_t *data, size_t size)
{
	size_t n = snap_zeros_before(data, size);

	return snap_stream_begins(data + n, size - n);
}

bool snap_preamble_takes(const struct snap_preamble *b, const void *data,
			 size_t size, uint64_t offset, bool begun)
{
	if (b->known && begun)
		return offset + size <= MIN(b->begin, SNAP_LIBVIRT_MAX);
	if (b->known)
		return offset == b->begin ||
		       offset < MIN(b->begin, SNAP_LIBVIRT_MAX);
	return !b->bytes->len && offset >= b->zeros &&
	       offset <= SNAP_LIBVIRT_MAX && is_padded_stream(data, size);
}

/* Keeps bytes; between them and others that came there are zeros. */
static ssize_t keep(struct snap_preamble *b, const void *data, size_t size,
		    uint64_t offset, GError **error)
{
	guint had = b->bytes->len;
	guint need = (guint)(offset + size);

	if (offset + size > SNAP_LIBVIRT_MAX)
		return snap_fail(error, EPROTO,
				 "offset %" PRIu64
				 ": more than %u MiB before the stream",
				 offset,
				 (unsigned)(SNAP_LIBVIRT_MAX / SNAP_MIB));
	if (need > had) {
		g_byte_array_set_size(b->bytes, need);
		memset(b->bytes->data + had, 0, need - had);
	}
	memcpy(b->bytes->data + offset, data, size);
	return (ssize_t)size;
}

static ssize_t begin_at(struct snap_preamble *b, uint64_t begin, ssize_t used)
{
	b->known = true;
	b->begin = begin;
	b->zeros = 0;
	return used;
}

/* A file that begins with zeros. */
static ssize_t skip_zeros(struct snap_preamble *b, const uint8_t *data,
			  size_t size, uint64_t offset, GError **error)
{
	size_t n = snap_zeros_before(data, size);

	b->zeros = offset + n;
	if (b->zeros > SNAP_LIBVIRT_MAX)
		return snap_fail(error, EPROTO,
				 "offset %" PRIu64 ": nothing but zeros; "
				 "expected the beginning of a QEMU stream",
				 b->zeros);
	return n == size ? (ssize_t)n : begin_at(b, b->zeros, (ssize_t)n);
}

/* A file that begins as libvirt's do. */
static ssize_t read_header(struct snap_preamble *b, const void *data,
			   size_t size, GError **error)
{
	size_t n = MIN(size, SNAP_LIBVIRT_HEADER - b->bytes->len);
	struct snap_libvirt header;
	int r;

	g_byte_array_append(b->bytes, data, (guint)n);
	if (!snap_libvirt_is(b->bytes->data, b->bytes->len))
		return snap_fail(error, EPROTO,
				 "offset 0: neither the beginning of a QEMU "
				 "stream nor the header of libvirt's save "
				 "image");
	if (b->bytes->len < SNAP_LIBVIRT_HEADER)
		return (ssize_t)n;
	r = snap_libvirt_read(b->bytes->data, &header, error);
	if (r < 0)
		return r;
	if (header.stream > SNAP_LIBVIRT_MAX)
		return snap_fail(error, EPROTO,
				 "offset 20: libvirt's header says that the "
				 "stream begins at offset %" PRIu64
				 ", behind more than %u MiB",
				 header.stream,
				 (unsigned)(SNAP_LIBVIRT_MAX / SNAP_MIB));
	return begin_at(b, header.stream, (ssize_t)n);
}

ssize_t snap_preamble_write(struct snap_preamble *b, const void *data,
			    size_t size, uint64_t offset, GError **error)
{
	const uint8_t *first = data;

	if (b->known)
		return offset < b->begin
			       ? keep(b, data,
				      (size_t)MIN(size, b->begin - offset),
				      offset, error)
			       : 0;
	if (b->bytes->len)
		return read_header(b, data, size, error);
	if (b->zeros || offset || !first[0])
		return skip_zeros(b, data, size, offset, error);
	if (snap_libvirt_is(data, size))
		return read_header(b, data, size, error);
	return begin_at(b, 0, 0);
}
