/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The return path of a postcopy migration: what QEMU says to its source.
 *
 *	snap_return_feed(r, bytes, size);
 *	while ((n = snap_return_step(r, &event, error)) > 0)
 *		... event ...
 *
 * The bytes may be cut anywhere. They are foreign: an event's block is one of
 * the RAM list, and its range lies in that block on whole target pages.
 */
#pragma once

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

#include "format/qemu/ramlist.h"

enum snap_return_kind {
	SNAP_RETURN_SHUT = 1, /* `value`: 0, or what went wrong; the last */
	SNAP_RETURN_PONG,     /* `value`: that of the PING */
	SNAP_RETURN_REQUEST,  /* `block`, `offset`, `length` are waited for */
	SNAP_RETURN_BITMAP,   /* `block`: `bitmap` has a bit for each target
			       * page, the lowest first, set where it is
			       * there; `length` bytes */
	SNAP_RETURN_RESUMED,  /* `value`: 1 */
};

/* One message. `bitmap` is good until the next call. */
struct snap_return_event {
	enum snap_return_kind kind;
	uint32_t value;
	guint block;
	uint64_t offset;
	uint64_t length;
	const uint8_t *bitmap;
};

typedef struct SnapReturn SnapReturn;

/* A parser at the beginning of a return path; the list must outlive it. */
SnapReturn *snap_return_new(const struct snap_ramlist *ram,
			    uint32_t target_page);
void snap_return_free(SnapReturn *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapReturn, snap_return_free)

/* Gives the parser `size` bytes, borrowed until it has asked for more; only
 * then may the next be fed. */
void snap_return_feed(SnapReturn *r, const void *data, size_t size);

/* One step: 1 with an event, 0 when more bytes are needed, -EPROTO with a
 * sentence. After an error it fails for ever. */
int snap_return_step(SnapReturn *r, struct snap_return_event *ret_event,
		     GError **error);
