/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The return path of a postcopy migration: QEMU's messages to its source.
 *
 *	snap_return_feed(r, bytes, size);
 *	while ((n = snap_return_step(r, &event, error)) > 0)
 *		... event ...
 *
 * The bytes may be cut anywhere and are checked: the block of an event is in
 * the RAM list, and its range lies in that block on whole target pages.
 */
#pragma once

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

#include "format/qemu/ramlist.h"

enum snap_return_kind {
	SNAP_RETURN_SHUT = 1, /* `value`: 0, or an error; the last message */
	SNAP_RETURN_PONG,     /* `value`: that of the PING */
	/* QEMU waits for `length` bytes at `offset` of `block` */
	SNAP_RETURN_REQUEST,
	/* `bitmap` (`length` bytes) has a bit for each target page of `block`,
	 * lowest first, set if QEMU has the page */
	SNAP_RETURN_BITMAP,
	SNAP_RETURN_RESUMED, /* `value`: 1 */
};

/* One message. `bitmap` is valid until the next call. */
struct snap_return_event {
	enum snap_return_kind kind;
	uint32_t value;
	guint block;
	uint64_t offset;
	uint64_t length;
	const uint8_t *bitmap;
};

typedef struct SnapReturn SnapReturn;

/* Makes a parser for the beginning of a return path. `ram` must outlive it;
 * `target_page` is in bytes. */
SnapReturn *snap_return_new(const struct snap_ramlist *ram,
			    uint32_t target_page);
void snap_return_free(SnapReturn *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapReturn, snap_return_free)

/* Gives the parser `size` bytes. They are borrowed until the parser needs more;
 * only then may the next bytes be fed. */
void snap_return_feed(SnapReturn *r, const void *data, size_t size);

/* Does one step. Returns 1 with an event, 0 where more bytes are needed, or
 * -EPROTO with a sentence. After an error, every step fails. */
int snap_return_step(SnapReturn *r, struct snap_return_event *ret_event,
		     GError **error);
