/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The preamble: what stands before QEMU's stream in the same file. It is the
 * header of a program that manages QEMU, such as libvirt, or the zeros of
 * `file:PATH,offset=N`. Inside fs/save.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fs/save/pool.h"

struct snap_preamble {
	SnapPool *pool;
	uint64_t begin; /* where in the file the stream begins */
	/* the preamble; zeros follow if it is shorter than `begin` */
	GByteArray *bytes;
	uint64_t reserved; /* bytes of the pool's memory */
};

/* Begins the preamble of a stream that begins at `begin`. The pool is
 * borrowed. */
void snap_preamble_init(struct snap_preamble *p, SnapPool *pool,
			uint64_t begin);
void snap_preamble_clear(struct snap_preamble *p);

/* Takes the first bytes of a file, those that belong to the preamble. Returns
 * 0, -ENOMEM, -EPROTO or -errno. */
int snap_preamble_load(struct snap_preamble *p, int fd, GError **error);

/* True when these bytes may come although they do not continue the stream: to
 * write the preamble again. `begun`: bytes of the stream have come. */
bool snap_preamble_takes(const struct snap_preamble *p, size_t size,
			 uint64_t offset, bool begun);

/* Takes the bytes that belong to the preamble. Returns their number, 0 where
 * `offset` is in the stream, -ENOMEM or -EPROTO. */
ssize_t snap_preamble_write(struct snap_preamble *p, const void *data,
			    size_t size, uint64_t offset, GError **error);
