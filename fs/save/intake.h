/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where writes enter a save. A write is taken at once, by the thread that
 * brings it, or parked for the save's thread. Inside fs/save.
 */
#pragma once

#include "fs/save/ingest.h"
#include "fs/save/save.h"

/* Counters that all saves share. Atomic. */
struct snap_intake_stats {
	uint64_t bytes;	 /* of all writes that were taken */
	uint64_t waits;	 /* writes that waited for memory */
	uint64_t parked; /* bytes of parked writes, now */
};

typedef struct SnapIntake SnapIntake;

/* An intake of a stream that begins at `begin` of its file. Until
 * snap_intake_run(), it parks all writes. When no write has come for `idle`
 * seconds, the stream ends; 0: it waits for ever. `what` names the file in
 * messages; it, the pool and the counters are borrowed. */
SnapIntake *snap_intake_new(const char *what, SnapPool *pool, uint64_t begin,
			    guint idle, struct snap_intake_stats *stats);
/* Frees an intake, which must be closed. */
void snap_intake_free(SnapIntake *k);

/* Takes a write; see snap_save_write(). */
void snap_intake_write(SnapIntake *k, const void *data, size_t size,
		       uint64_t offset, snap_save_answer answer,
		       void *answer_data);

/* Asks whether the stream could end here; see snap_save_check(). */
void snap_intake_check(SnapIntake *k, snap_save_answer answer,
		       void *answer_data);

/* Says that no more writes will come. */
void snap_intake_end(SnapIntake *k);

/* Lets writes into the ingest until the stream is complete or has ended; for
 * the save's thread, which does what the threads of the writers cannot. Returns
 * 0 if the stream is complete, -ETIMEDOUT, or -errno. After that nobody else
 * uses the ingest. */
int snap_intake_run(SnapIntake *k, SnapIngest *ingest, GError **error);

/* The save is over: answers the request that ended the stream, and all checks,
 * with `outcome` (0 or -errno), and all other writes, also later ones, with
 * `error` (-errno). */
void snap_intake_close(SnapIntake *k, int error, int outcome);

/* A request has waited for too long: answers it and all others, also later
 * ones, with -ETIMEDOUT, whatever the thread is doing. snap_intake_run() fails
 * when that is done. */
void snap_intake_give_up(SnapIntake *k);

/* Since when the oldest request waits for its answer (monotonic time); 0: none
 * does. */
gint64 snap_intake_waits_since(SnapIntake *k);

/* The end of the file as written so far: the largest offset that a write
 * reached, in bytes. */
uint64_t snap_intake_received(const SnapIntake *k);

/* True once writes may come at any offset. */
bool snap_intake_scattered(const SnapIntake *k);
