/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/qemu/libvirt.h"

#include <string.h>

/* QEMU_SAVE_MAGIC, QEMU_SAVE_PARTIAL and QEMU_SAVE_VERSION. */
#define LIBVIRT_SAVE "LibvirtQemudSave"
#define LIBVIRT_PART "LibvirtQemudPart"
#define LIBVIRT_MAGIC 16u
#define LIBVIRT_VERSION 2u

/* enum virQEMUSaveFormat: raw is 0, sparse (mapped-ram; since libvirt 11.2) is
 * 6. */
static const char *const compressors[] = {
	NULL, "gzip", "bzip2", "xz", "lzop", "zstd",
};

/* The fields after the magic, up to the format. */
enum { VERSION, DATA_LEN, WAS_RUNNING, FORMAT, FIELDS };

bool snap_libvirt_read(const void *data, size_t size,
		       struct snap_libvirt *ret_header)
{
	uint32_t fields[FIELDS];
	bool complete;

	if (size < SNAP_LIBVIRT_HEADER)
		return false;
	complete = memcmp(data, LIBVIRT_SAVE, LIBVIRT_MAGIC) == 0;
	if (!complete && memcmp(data, LIBVIRT_PART, LIBVIRT_MAGIC) != 0)
		return false;
	memcpy(fields, (const uint8_t *)data + LIBVIRT_MAGIC, sizeof(fields));
	/* The version shows whether the writer's byte order is the other one.
	 */
	if (fields[VERSION] > LIBVIRT_VERSION)
		for (guint i = 0; i < FIELDS; i++)
			fields[i] = GUINT32_SWAP_LE_BE(fields[i]);
	if (!fields[VERSION] || fields[VERSION] > LIBVIRT_VERSION)
		return false;
	*ret_header = (struct snap_libvirt){
		.complete = complete,
		.stream = SNAP_LIBVIRT_HEADER + (uint64_t)fields[DATA_LEN],
		.format = fields[FORMAT],
	};
	return true;
}

const char *snap_libvirt_compressor(const struct snap_libvirt *header)
{
	return header->format < G_N_ELEMENTS(compressors)
		       ? compressors[header->format]
		       : NULL;
}
