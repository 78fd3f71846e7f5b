/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes on their way from the kernel to the thread that parses them, and when
 * they are answered. Inside fs/save.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/save/save.h"

/* What the queues of all saves share: the memory that they may hold. */
typedef struct SnapInbox SnapInbox;
SnapInbox *snap_inbox_new(uint64_t limit);
/* All its queues must be gone. */
void snap_inbox_free(SnapInbox *inbox);

/* Bytes held now, and how many writes had to wait for room. */
struct snap_inbox_stats {
	uint64_t held;
	uint64_t waits;
	uint64_t bytes; /* taken in since the start */
};
struct snap_inbox_stats snap_inbox_stats(SnapInbox *inbox);

/* The queue of one save, whose file begins with `hole` bytes of zeros. */
typedef struct SnapQueue SnapQueue;
SnapQueue *snap_queue_new(SnapInbox *inbox, uint64_t hole);
/* Must be closed. */
void snap_queue_free(SnapQueue *q);

/* A run of bytes that stands at `offset` of the stream's file. */
struct snap_piece {
	uint64_t offset;
	size_t size;
};

#define SNAP_CHUNK_PIECES 32u

/* A write, or several small ones; to be read by who got it. */
struct snap_chunk {
	GList link;    /* in its queue */
	GList waiting; /* among those that wait for room */
	SnapQueue *queue;
	snap_save_answer answer; /* of the last write; NULL once answered */
	void *answer_data;
	size_t answer_size;
	bool doubtful; /* not where the stream goes on: its reader says whether
			* it may come all the same */
	size_t size;
	size_t room; /* that `data` has */
	guint n;
	struct snap_piece pieces[SNAP_CHUNK_PIECES]; /* in `data`, one behind
						      * the other */
	uint8_t data[];
};

/* Takes a write, as snap_save_write says. */
void snap_queue_put(SnapQueue *q, const void *data, size_t size,
		    uint64_t offset, snap_save_answer answer,
		    void *answer_data);

/* Puts a chunk of no bytes behind what has come: its reader answers it with
 * what is to be said of the stream so far. */
void snap_queue_check(SnapQueue *q, snap_save_answer answer, void *answer_data);

/* No write will come any more. */
void snap_queue_end(SnapQueue *q);

enum snap_queue_got {
	SNAP_QUEUE_CHUNK, /* *ret_chunk is to be parsed, and then done with */
	SNAP_QUEUE_IDLE,  /* nothing came for `patience` microseconds */
	SNAP_QUEUE_ENDED, /* nothing will */
};

/* Waits for the next write. `patience` < 0: for as long as it takes. */
enum snap_queue_got snap_queue_get(SnapQueue *q, gint64 patience,
				   struct snap_chunk **ret_chunk);

/* From now on a write may come at any offset. */
void snap_queue_scatter(SnapQueue *q);
bool snap_queue_scattered(SnapQueue *q);

/* Did no byte come behind what was got last? */
bool snap_queue_empty(SnapQueue *q);

/* Done with a chunk, which is freed: answers it if it still waits, and others
 * for which there is room now. */
void snap_queue_done(SnapQueue *q, struct snap_chunk *chunk);

/* As snap_queue_done, but answers the chunk with `error` if that is not 0. */
void snap_queue_last(SnapQueue *q, struct snap_chunk *chunk, int error);

/* Answers the writes that wait, and all that will come, with `error` (-errno),
 * and those who ask how the stream stands with `outcome`; frees what is
 * queued. */
void snap_queue_close(SnapQueue *q, int error, int outcome);

/* Where the write that reached furthest ended. */
uint64_t snap_queue_received(SnapQueue *q);
