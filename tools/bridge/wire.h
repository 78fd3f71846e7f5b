/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The connection to QEMU: one batch of bytes at a time goes out, as far as it
 * goes without waiting. Little is kept in flight, as whatever the kernel holds
 * stands before the next page that QEMU asks for.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct wire {
	int in;
	int out;
	struct iovec *iov; /* the batch */
	guint n;
	guint room;
	guint at;	 /* the first that is not out */
	uint8_t *copies; /* what the batch was given to copy */
	size_t copied;
	size_t copies_room;
	GByteArray *messages; /* a batch of its own, see wire_messages() */
	uint64_t bytes;	      /* out, in all */
};

/* Connects to the unix socket `path`, or takes standard input and output when
 * it is NULL. */
int wire_open(struct wire *w, const char *path, GError **error);

/* Makes QEMU, at the other end of standard input and output, fail instead of
 * waiting for ever: it does not notice an end before the first byte. */
void wire_refuse(void);

/* Frees what the batches are made of. */
void wire_clear(struct wire *w);

/* Makes room for batches of `pieces` pieces and `copies` copied bytes. */
void wire_reserve(struct wire *w, guint pieces, size_t copies);

/* True while a batch is under way. */
bool wire_busy(const struct wire *w);

/* Adds to the batch: bytes that stay where they are until it is out. */
void wire_put(struct wire *w, const void *data, size_t size);

/* Adds to the batch: a place for bytes, of which wire_copied() says how many
 * there are. */
uint8_t *wire_copy(struct wire *w);
void wire_copied(struct wire *w, size_t size);

/* Begins a batch of messages: the caller appends them to this, then calls
 * wire_put_messages(). */
GByteArray *wire_messages(struct wire *w);
void wire_put_messages(struct wire *w);

/* Sends on: 1 when the batch is out, 0 when it must wait, -errno. */
int wire_flush(struct wire *w);

/* Sends everything, waiting as long as it takes; 0 or -errno. */
int wire_flush_all(struct wire *w);
