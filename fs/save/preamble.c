/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first bytes of the file say where the stream begins:
 *
 *	libvirt's magic     libvirt's header says it
 *	a zero              at the first byte that is not zero
 *	anything else       at offset 0
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
#include "format/base/units.h"
#include "format/base/zero.h"
#include "format/qemu/libvirt.h"
#include "format/qemu/parse.h"
#include "fs/save/save.h"

void snap_preamble_init(struct snap_preamble *p, uint64_t hole)
{
	*p = (struct snap_preamble){
		.known = hole > 0,
		.begin = hole,
		.bytes = g_byte_array_new(),
	};
}

void snap_preamble_clear(struct snap_preamble *p)
{
	g_clear_pointer(&p->bytes, g_byte_array_unref);
}

uint64_t snap_preamble_position(const struct snap_preamble *p)
{
	return p->zeros + p->bytes->len;
}

/* True for zeros followed by the beginning of a stream, as far as it is
 * there. */
static bool is_padded_stream(const uint8_t *data, size_t size)
{
	size_t n = snap_zeros_before(data, size);

	return snap_stream_begins(data + n, size - n);
}

bool snap_preamble_takes(const struct snap_preamble *p, const void *data,
			 size_t size, uint64_t offset, bool begun)
{
	if (p->known && begun)
		return offset + size <= MIN(p->begin, SNAP_LIBVIRT_MAX);
	if (p->known)
		return offset == p->begin ||
		       offset < MIN(p->begin, SNAP_LIBVIRT_MAX);
	return !p->bytes->len && offset >= p->zeros &&
	       offset <= SNAP_LIBVIRT_MAX && is_padded_stream(data, size);
}

/* Keeps bytes of the preamble. Gaps between them are zeros. */
static ssize_t keep(struct snap_preamble *p, const void *data, size_t size,
		    uint64_t offset, GError **error)
{
	guint had = p->bytes->len;
	guint need = (guint)(offset + size);

	if (offset + size > SNAP_LIBVIRT_MAX)
		return snap_fail(error, EPROTO,
				 "offset %" PRIu64
				 ": the preamble of the stream is longer than "
				 "%u MiB",
				 offset,
				 (unsigned)(SNAP_LIBVIRT_MAX / SNAP_MIB));
	if (need > had) {
		g_byte_array_set_size(p->bytes, need);
		memset(p->bytes->data + had, 0, need - had);
	}
	memcpy(p->bytes->data + offset, data, size);
	return (ssize_t)size;
}

static ssize_t begin_at(struct snap_preamble *p, uint64_t begin, ssize_t used)
{
	p->known = true;
	p->begin = begin;
	p->zeros = 0;
	return used;
}

/* Takes the zeros at the beginning of a file. */
static ssize_t skip_zeros(struct snap_preamble *p, const uint8_t *data,
			  size_t size, uint64_t offset, GError **error)
{
	size_t n = snap_zeros_before(data, size);

	p->zeros = offset + n;
	if (p->zeros > SNAP_LIBVIRT_MAX)
		return snap_fail(error, EPROTO,
				 "offset %" PRIu64 ": only zeros so far; "
				 "expected the beginning of a QEMU stream",
				 p->zeros);
	return n == size ? (ssize_t)n : begin_at(p, p->zeros, (ssize_t)n);
}

/* Takes the header at the beginning of libvirt's save image. */
static ssize_t read_header(struct snap_preamble *p, const void *data,
			   size_t size, GError **error)
{
	size_t n = MIN(size, SNAP_LIBVIRT_HEADER - p->bytes->len);
	struct snap_libvirt header;
	int r;

	g_byte_array_append(p->bytes, data, (guint)n);
	if (!snap_libvirt_is(p->bytes->data, p->bytes->len))
		return snap_fail(error, EPROTO,
				 "offset 0: neither the beginning of a QEMU "
				 "stream nor the header of libvirt's save "
				 "image");
	if (p->bytes->len < SNAP_LIBVIRT_HEADER)
		return (ssize_t)n;
	r = snap_libvirt_read(p->bytes->data, &header, error);
	if (r < 0)
		return r;
	if (header.stream > SNAP_LIBVIRT_MAX)
		return snap_fail(error, EPROTO,
				 "offset 20: libvirt's header says that the "
				 "stream begins at offset %" PRIu64
				 "; the limit is %u MiB",
				 header.stream,
				 (unsigned)(SNAP_LIBVIRT_MAX / SNAP_MIB));
	return begin_at(p, header.stream, (ssize_t)n);
}

int snap_save_check_preamble(const void *data, size_t size, uint64_t length,
			     GError **error)
{
	struct snap_libvirt header;

	if (size > SNAP_LIBVIRT_MAX &&
	    !snap_is_zero((const uint8_t *)data + SNAP_LIBVIRT_MAX,
			  size - SNAP_LIBVIRT_MAX))
		return snap_fail(error, EPROTO,
				 "preamble has more than %u MiB that are not "
				 "zero",
				 (unsigned)(SNAP_LIBVIRT_MAX / SNAP_MIB));
	if (size < SNAP_LIBVIRT_HEADER || !snap_libvirt_is(data, size))
		return 0;
	if (snap_libvirt_read(data, &header, NULL) == 0 &&
	    header.stream == length)
		return 0;
	return snap_fail(error, EPROTO,
			 "preamble is not whole: its libvirt header does not "
			 "name its length, %" PRIu64,
			 length);
}

ssize_t snap_preamble_write(struct snap_preamble *p, const void *data,
			    size_t size, uint64_t offset, GError **error)
{
	const uint8_t *first = data;

	if (p->known)
		return offset < p->begin
			       ? keep(p, data,
				      (size_t)MIN(size, p->begin - offset),
				      offset, error)
			       : 0;
	if (p->bytes->len)
		return read_header(p, data, size, error);
	if (p->zeros || offset || !first[0])
		return skip_zeros(p, data, size, offset, error);
	if (snap_libvirt_is(data, size))
		return read_header(p, data, size, error);
	return begin_at(p, 0, 0);
}
