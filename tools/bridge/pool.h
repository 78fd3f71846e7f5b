/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The readers: a few threads that fill chunks of memory from `ram`.
 *
 * A chunk belongs to whoever has it: handed in, the pool; taken back, its
 * caller. What is asked for is read before all else, and some readers are kept
 * free for it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* What a chunk is read for, the most urgent first. */
enum chunk_kind { CHUNK_ASK, CHUNK_HOT, CHUNK_BULK, CHUNK_KINDS };

enum chunk_state { CHUNK_IDLE, CHUNK_READING, CHUNK_READY };

/* What a target page turned out to be. */
enum page_state { PAGE_DATA, PAGE_ZERO, PAGE_BAD };

struct chunk {
	enum chunk_kind kind;
	enum chunk_state state;
	guint block;
	uint64_t offset; /* in the block */
	uint64_t flat;	 /* in `ram` */
	uint64_t unit;	 /* of the block: what is read again alone when the
			  * whole cannot be read */
	size_t length;	 /* a hole, once read, has none */
	uint64_t hole;	 /* BULK: this many bytes from offset on are a hole */
	int error;	 /* why there are bad pages: an errno */
	size_t at;	 /* how far its pages have been passed on */
	uint8_t *data;
	uint8_t *pages; /* a page_state each */
};

typedef struct Pool Pool;

/* Readers of `ram`, open as `ram_fd`. */
int pool_new(int ram_fd, uint32_t target_page, Pool **ret_pool, GError **error);

/* A chunk with room for `room` bytes. */
struct chunk *pool_chunk_new(const Pool *p, enum chunk_kind kind, size_t room);

/* Hands in a chunk, whose block, offset, flat, unit and length say what to
 * read, and `at` where what is wanted of it begins. */
void pool_submit(Pool *p, struct chunk *c);

/* Takes back a chunk that has been read; NULL when there is none now. */
struct chunk *pool_take(Pool *p);

/* Readable when there may be something to take. */
int pool_fd(const Pool *p);
