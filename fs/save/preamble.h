/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The preamble: what stands before QEMU's stream in the same file. It is
 * libvirt's header and XML, or zeros (`file:PATH,offset=N`). Inside fs/save.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct snap_preamble {
	bool known;	/* `begin` is known */
	uint64_t begin; /* where in the file the stream begins */
	/* the preamble; zeros follow if it is shorter than `begin` */
	GByteArray *bytes;
	uint64_t zeros; /* zeros that came so far, while `known` is false */
};

/* Begins a preamble. `hole`: the file begins with so many bytes of zeros, and
 * the stream follows; 0: it is not known where the stream begins. */
void snap_preamble_init(struct snap_preamble *p, uint64_t hole);
void snap_preamble_clear(struct snap_preamble *p);

/* The offset at which the next bytes are expected, while `known` is false. */
uint64_t snap_preamble_position(const struct snap_preamble *p);

/* True when these bytes may come although they do not continue the file: after
 * a gap of zeros, or to rewrite the preamble. `begun`: bytes of the stream have
 * come. */
bool snap_preamble_takes(const struct snap_preamble *p, const void *data,
			 size_t size, uint64_t offset, bool begun);

/* Takes the bytes that belong to the preamble. Returns their number, 0 where
 * `offset` is in the stream, -EPROTO or -EOPNOTSUPP. */
ssize_t snap_preamble_write(struct snap_preamble *p, const void *data,
			    size_t size, uint64_t offset, GError **error);
