/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/qemu/libvirt.h"

#include <inttypes.h>
#include <string.h>

#include "format/base/error.h"

/* QEMU_SAVE_MAGIC, QEMU_SAVE_PARTIAL and QEMU_SAVE_VERSION. */
#define LIBVIRT_SAVE "LibvirtQemudSave"
#define LIBVIRT_PART "LibvirtQemudPart"
#define LIBVIRT_VERSION 2u

/* enum virQEMUSaveFormat. */
static const char *const libvirt_formats[] = {
	"raw", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse",
};

/* The fields after the magic, in their order. */
struct libvirt_fields {
	uint32_t version;
	uint32_t data_len;
	uint32_t was_running;
	uint32_t format;
	uint32_t cookie;
};

bool snap_libvirt_is(const void *data, size_t size)
{
	size = MIN(size, SNAP_LIBVIRT_MAGIC);
	return memcmp(data, LIBVIRT_SAVE, size) == 0 ||
	       memcmp(data, LIBVIRT_PART, size) == 0;
}

/* Reads the fields. The version shows whether the writer's byte order is the
 * other one. */
static struct libvirt_fields libvirt_fields(const uint8_t *header)
{
	struct libvirt_fields f;

	memcpy(&f, header + SNAP_LIBVIRT_MAGIC, sizeof(f));
	if (f.version <= LIBVIRT_VERSION)
		return f;
	return (struct libvirt_fields){
		.version = GUINT32_SWAP_LE_BE(f.version),
		.data_len = GUINT32_SWAP_LE_BE(f.data_len),
		.was_running = GUINT32_SWAP_LE_BE(f.was_running),
		.format = GUINT32_SWAP_LE_BE(f.format),
		.cookie = GUINT32_SWAP_LE_BE(f.cookie),
	};
}

static int libvirt_check_format(uint32_t format, GError **error)
{
	if (format == SNAP_LIBVIRT_RAW || format == SNAP_LIBVIRT_SPARSE)
		return 0;
	if (format >= G_N_ELEMENTS(libvirt_formats))
		return snap_fail(error, EOPNOTSUPP,
				 "libvirt's save image is of format %" PRIu32
				 ", which is not known; set save_image_format "
				 "to raw or sparse in qemu.conf",
				 format);
	return snap_fail(error, EOPNOTSUPP,
			 "libvirt's save image is compressed by %s; set "
			 "save_image_format to raw or sparse in qemu.conf",
			 libvirt_formats[format]);
}

int snap_libvirt_read(const void *data, struct snap_libvirt *ret_header,
		      GError **error)
{
	struct libvirt_fields f = libvirt_fields(data);
	bool complete = memcmp(data, LIBVIRT_SAVE, SNAP_LIBVIRT_MAGIC) == 0;
	int r;

	if (!snap_libvirt_is(data, SNAP_LIBVIRT_MAGIC))
		return snap_fail(error, EPROTO,
				 "expected the magic of libvirt's save image");
	if (f.version == 0 || f.version > LIBVIRT_VERSION)
		return snap_fail(error, EOPNOTSUPP,
				 "libvirt's save image is of version %" PRIu32
				 "; 1 and 2 are known",
				 f.version);
	if (f.data_len == 0 ||
	    f.data_len > SNAP_LIBVIRT_MAX - SNAP_LIBVIRT_HEADER)
		return snap_fail(error, EPROTO,
				 "libvirt's save image has %" PRIu32
				 " bytes before the stream; 1 to %u are "
				 "possible",
				 f.data_len,
				 SNAP_LIBVIRT_MAX - SNAP_LIBVIRT_HEADER);
	if (f.cookie > f.data_len)
		return snap_fail(error, EPROTO,
				 "libvirt's save image has its cookie at "
				 "%" PRIu32 " of %" PRIu32 " bytes",
				 f.cookie, f.data_len);
	r = libvirt_check_format(f.format, error);
	if (r < 0)
		return r;
	*ret_header = (struct snap_libvirt){
		.complete = complete,
		.stream = SNAP_LIBVIRT_HEADER + (uint64_t)f.data_len,
		.format = f.format,
	};
	return 0;
}
