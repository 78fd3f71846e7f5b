/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands before QEMU's stream in the same file: libvirt's header and XML,
 * or zeros (`file:PATH,offset=N`). Inside fs/save.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct snap_preamble {
	bool known;	   /* `begin` is */
	uint64_t begin;	   /* where in the file the stream begins */
	GByteArray *bytes; /* of it; zeros where it is shorter */
	uint64_t zeros;	   /* that came so far, while it is not known */
};

/* Of a file that begins with `hole` bytes of zeros; 0: not known yet. */
void snap_preamble_init(struct snap_preamble *b, uint64_t hole);
void snap_preamble_clear(struct snap_preamble *b);

/* Where bytes are expected, before it is known. */
uint64_t snap_preamble_position(const struct snap_preamble *b);

/* May these bytes come, although they are not where the file goes on: a gap
 * among zeros, or a piece written again? `begun`: the stream has. */
bool snap_preamble_takes(const struct snap_preamble *b, const void *data,
			 size_t size, uint64_t offset, bool begun);

/* Takes bytes of the file, as many as are not of the stream: their count. 0
 * once `offset` is where the stream begins. -EPROTO, -EOPNOTSUPP. */
ssize_t snap_preamble_write(struct snap_preamble *b, const void *data,
			    size_t size, uint64_t offset, GError **error);
