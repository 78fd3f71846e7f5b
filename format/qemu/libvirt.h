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

struct snap_libvirt {
	bool complete;	 /* libvirt has written the whole file */
	uint64_t stream; /* offset in the file of QEMU's stream */
	uint32_t format;
};

/* Reads the header that a file begins with. Returns false where the file does
 * not begin with one of a known version. */
bool snap_libvirt_read(const void *data, size_t size,
		       struct snap_libvirt *ret_header);

/* The program that compressed the stream; NULL: none that is known. */
const char *snap_libvirt_compressor(const struct snap_libvirt *header);
