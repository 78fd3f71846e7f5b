/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapfs-bridge: a snapshot, a connection to QEMU, and the two ways to send. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "format/qemu/postcopy.h"

#define PRECOPY_HOT (-1)

/* Times are in microseconds, monotonic. */
struct bridge {
	gint64 begin; /* when the program started */
	gboolean resume;
	int precopy;	  /* percent of memory, or PRECOPY_HOT */
	const char *path; /* of the folder, absolute */
	char *uuid;	  /* of its snapshot; NULL: `ram` is not opened anew */
	int wait_mount;	  /* seconds that a mount may be gone */
	SnapPostcopy *post; /* made from `devstate` */
	const struct snap_ramlist *ram;
	uint32_t page;		/* size of a target page */
	_Atomic int ram_fd;	/* changes when `ram` is opened anew */
	int in, out;		/* the connection */
	GByteArray *batch;	/* goes out next: messages, or a part */
	bool part;		/* it is a part: pages of one block */
	_Atomic uint64_t bytes; /* sent in all */
};

/* What a target page holds. A unit is the greatest of its pages. */
enum page_state { PAGE_ZERO, PAGE_DATA, PAGE_BAD };

/* What a piece is read for: a page that QEMU asks for and its neighbours, pages
 * of the hot list, all other pages. */
enum piece_kind { PIECE_NONE, PIECE_ASK, PIECE_HOT, PIECE_BULK };

/* A piece of a RAM block, in whole units of the block (snap_postcopy_unit).
 * Target pages are numbered in flat RAM. */
struct piece {
	enum piece_kind kind;
	guint block;
	uint64_t from, end; /* the first page, and the one behind the last */
	uint64_t at;	    /* is sent next; pages before it are not sent */
	gint64 since;  /* when QEMU asked for the page `at`; 0: it did not */
	uint64_t hole; /* the page behind the hole that `from` lies in */
	int error;     /* 0, or the errno of the first bad page */
	uint8_t *data;
	uint8_t *states; /* a page_state for each page */
};

/* Opens the folder `path` and checks that `ram` holds all that `devstate`
 * lists. Returns 0, or -errno with a sentence. */
int folder_open(struct bridge *b, const char *path, GError **error);
/* Returns the number of the RAM block `name`, or -EINVAL with a sentence. */
int folder_find_block(const struct bridge *b, const char *name, GError **error);
/* Reads a piece; if that fails, unit by unit, so that only bad units are lost.
 * If the mount has ended, waits for it to come back, and opens `ram` anew.
 * With `holes`, one that lies in a hole is not read, and becomes empty. */
void folder_read_piece(struct bridge *b, struct piece *c, bool holes);
/* Fails with c->error: the page c->at cannot be read, and `why` and `then`. */
int folder_fail_bad(const struct bridge *b, const struct piece *c,
		    const char *why, const char *then, GError **error);
/* Reads `hot`; gives an empty list where there is no file that can be read. */
GArray *folder_read_hot(const struct bridge *b);
/* Replaces `hot` by what is known and what QEMU asked for. On an error the old
 * file stays as it is. */
void folder_write_hot(const struct bridge *b, const GArray *known,
		      const GArray *asked);

/* Connects to the unix socket `path`, or takes standard input and output when
 * it is NULL. Returns 0, or -errno with a sentence. */
int wire_open(struct bridge *b, const char *path, GError **error);
/* Makes the QEMU at standard input and output fail: without a first byte it
 * does not notice that the bridge has ended. */
void wire_refuse(void);
/* Adds a page of a piece to the batch, which is one part of the stream then. */
void wire_add_page(struct bridge *b, const struct piece *c, uint64_t page);
/* Sends the batch and waits until the kernel has all of it. Returns 0, or
 * -errno when QEMU takes no more bytes. */
int wire_send(struct bridge *b);

/* Serves a postcopy migration. Returns 0 when QEMU has confirmed that all
 * memory is there, with *ret_said for the last line; or -errno with a sentence.
 * Its threads use `b` until the process ends. */
int bridge_serve(struct bridge *b, char **ret_said, GError **error);
/* Sends a plain stream without the pages of the RAM blocks that are named in
 * `mapped`. Returns 0 when QEMU has taken it, or -errno with a sentence. */
int bridge_send_plain(struct bridge *b, char *const *mapped, GError **error);
