/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What stands before QEMU's stream in the file `stream` of a snapshot. */
#pragma once

#include "format/image/image.h"

/* In a few words; `length` 0: nothing does. */
struct snap_preamble {
	uint64_t length;
	const char *kind; /* "libvirt", "zeros" or "other" */
	const char *state;
	bool rewritten; /* since the snapshot was sealed */
};

/* Looks at what stands before the stream of the snapshot in a folder, by the
 * side file if there is one, which is checked. -EBADMSG, -errno. */
int snap_preamble_look(const struct snap_meta *meta, int folder_fd,
		       struct snap_preamble *ret_before, GError **error);
