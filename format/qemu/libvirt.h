/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libvirt's preamble in a save image: a header, the domain's XML, and room to
 * edit the XML in place (libvirt, src/qemu/qemu_saveimage.h: struct
 * _virQEMUSaveHeader).
 *
 *	offset size field
 *	     0   16 "LibvirtQemudPart" while libvirt writes the file, then
 *	            "LibvirtQemudSave"
 *	    16    4 version: 2; in the byte order of the writer, like all below
 *	    20    4 bytes between the header and the stream
 *	    24    4 1 if the domain was running
 *	    28    4 format of the stream
 *	    32    4 offset of the cookie after the header; 0: none
 *	    36   56 unused
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SNAP_LIBVIRT_HEADER 92u
#define SNAP_LIBVIRT_MAGIC 16u

/* enum virQEMUSaveFormat: the two formats that no program compresses. */
#define SNAP_LIBVIRT_RAW 0u
#define SNAP_LIBVIRT_SPARSE 6u /* mapped-ram; since libvirt 11.2 */

/* The largest preamble that is accepted, in bytes. */
#define SNAP_LIBVIRT_MAX (4u << 20)

struct snap_libvirt {
	bool complete;	 /* libvirt has written the whole file */
	uint64_t stream; /* offset in the file of QEMU's stream */
	uint32_t format;
};

/* True when the file begins with a magic of libvirt, as far as the `size` bytes
 * of it show. */
bool snap_libvirt_is(const void *data, size_t size);

/* Reads a header of SNAP_LIBVIRT_HEADER bytes. Returns 0, -EPROTO where its
 * fields contradict each other, or -EOPNOTSUPP for an unknown version or a
 * compressed format, with a sentence that says what to set in qemu.conf. */
int snap_libvirt_read(const void *data, struct snap_libvirt *ret_header,
		      GError **error);
