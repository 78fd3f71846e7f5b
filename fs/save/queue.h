/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The queue of writes between the kernel and the thread that parses them. It
 * decides when a write is answered. Inside fs/save.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/save/save.h"

/* The memory that the queues of all saves share. `limit`: bytes that they may
 * hold. */
typedef struct SnapInbox SnapInbox;
SnapInbox *snap_inbox_new(uint64_t limit);
/* All queues must be freed. */
void snap_inbox_free(SnapInbox *inbox);

/* Gauges and counters of an inbox. */
struct snap_inbox_stats {
	uint64_t held;
	uint64_t waits;
	uint64_t bytes; /* bytes of all writes since the start */
};
struct snap_inbox_stats snap_inbox_stats(SnapInbox *inbox);

/* The queue of one save, whose file begins with `hole` bytes of zeros. */
typedef struct SnapQueue SnapQueue;
SnapQueue *snap_queue_new(SnapInbox *inbox, uint64_t hole);
/* Frees a queue, which must be closed. */
void snap_queue_free(SnapQueue *q);

/* A run of bytes at `offset` of the stream's file. */
struct snap_piece {
	uint64_t offset;
	size_t size;
};

#define SNAP_CHUNK_PIECES 32u

/* A write, or several small ones. The thread that got the chunk may read it. */
struct snap_chunk {
	GList link;    /* in its queue */
	GList waiting; /* in the inbox's list of chunks that wait for room */
	SnapQueue *queue;
	snap_save_answer answer; /* for the last write; NULL once called */
	void *answer_data;
	size_t answer_size;
	/* does not continue the stream; the reader decides whether it is
	 * taken */
	bool doubtful;
	size_t size;
	size_t room; /* bytes that fit in `data` */
	guint n;
	struct snap_piece
		pieces[SNAP_CHUNK_PIECES]; /* in `data`, one after the other */
	uint8_t data[];
};

/* Takes a write; see snap_save_write(). */
void snap_queue_put(SnapQueue *q, const void *data, size_t size,
		    uint64_t offset, snap_save_answer answer,
		    void *answer_data);

/* Puts a chunk without bytes at the end of the queue. The reader answers it
 * with the state of the stream at that point. */
void snap_queue_check(SnapQueue *q, snap_save_answer answer, void *answer_data);

/* Says that no more writes will come. */
void snap_queue_end(SnapQueue *q);

enum snap_queue_got {
	/* *ret_chunk is set; pass it to snap_queue_done() or snap_queue_last()
	 */
	SNAP_QUEUE_CHUNK,
	SNAP_QUEUE_IDLE,  /* nothing came for `patience` microseconds */
	SNAP_QUEUE_ENDED, /* nothing will come */
};

/* Waits for the next chunk, at most `patience` microseconds; < 0: without a
 * limit. */
enum snap_queue_got snap_queue_get(SnapQueue *q, gint64 patience,
				   struct snap_chunk **ret_chunk);

/* Says that writes may come at any offset from now on; snap_queue_scattered()
 * tells whether this was said. */
void snap_queue_scatter(SnapQueue *q);
bool snap_queue_scattered(SnapQueue *q);

/* True when no byte is queued. */
bool snap_queue_empty(SnapQueue *q);

/* Ends a chunk: answers it if it still waits, frees it, and answers other
 * writes that there is room for now. */
void snap_queue_done(SnapQueue *q, struct snap_chunk *chunk);

/* The same, but answers the chunk with `error` (-errno) unless that is 0. */
void snap_queue_last(SnapQueue *q, struct snap_chunk *chunk, int error);

/* Ends the queue: answers all queued and all later writes with `error`
 * (-errno), and all checks with `outcome` (0 or -errno). Frees the chunks. */
void snap_queue_close(SnapQueue *q, int error, int outcome);

/* The end of the file as written so far: the largest offset that a write
 * reached, in bytes. */
uint64_t snap_queue_received(SnapQueue *q);
