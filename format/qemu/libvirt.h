/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What libvirt writes before QEMU's stream in a save image: a header, the
 * domain's XML, and room to edit that in place (libvirt, src/qemu/
 * qemu_saveimage.h: struct _virQEMUSaveHeader).
 *
 *	offset size field
 *	     0   16 "LibvirtQemudPart" while it is written, "LibvirtQemudSave"
 *	            from then on
 *	    16    4 version: 2; in the byte order of who wrote it, as all below
 *	    20    4 bytes between the header and the stream
 *	    24    4 the domain was running
 *	    28    4 format of what follows
 *	    32    4 where behind the header the cookie begins; 0: none
 *	    36   56 unused
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SNAP_LIBVIRT_HEADER 92u
#define SNAP_LIBVIRT_MAGIC 16u

/* enum virQEMUSaveFormat: the two that are not compressed by a program. */
#define SNAP_LIBVIRT_RAW 0u
#define SNAP_LIBVIRT_SPARSE 6u /* mapped-ram; since libvirt 11.2 */

/* More than this before a stream is not taken for libvirt's. */
#define SNAP_LIBVIRT_MAX (4u << 20)

struct snap_libvirt {
	bool complete;	 /* libvirt has written all of it */
	uint64_t stream; /* where in the file QEMU's stream begins */
	uint32_t format;
};

/* True when the file may begin so: `size` bytes of it, of which the first 16 at
 * most are looked at. */
bool snap_libvirt_is(const void *data, size_t size);

/* Reads a header of SNAP_LIBVIRT_HEADER bytes. -EPROTO for one that contradicts
 * itself; -EOPNOTSUPP for a version or a format that cannot be read, with a
 * sentence that says which are ("gzip": set save_image_format to raw or
 * sparse). */
int snap_libvirt_read(const void *data, struct snap_libvirt *ret_header,
		      GError **error);
