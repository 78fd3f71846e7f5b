/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The preamble: the bytes that stand before QEMU's stream in the file `stream`
 * of a snapshot, such as libvirt's header and XML. */
#pragma once

#include "format/image/image.h"

struct snap_preamble {
	uint64_t length;   /* bytes; 0 if there is no preamble */
	const char *kind;  /* "libvirt", "zeros" or "other" */
	const char *state; /* of libvirt's header: "complete", "not complete" */
	bool rewritten;	   /* after the snapshot was saved */
};

/* Describes the preamble of the snapshot in a folder. If it was rewritten, the
 * side file has it and is checked. Returns 0, -EBADMSG where it is damaged, or
 * -errno. */
int snap_preamble_look(const struct snap_meta *meta, int folder_fd,
		       struct snap_preamble *ret_preamble, GError **error);
