/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes in: a migration stream on its way to become a snapshot.
 *
 * A write is answered from a bounded buffer; behind it one thread a save parses
 * and gathers pages into extents, the mount's workers compress them, and they
 * are appended in the order in which they were gathered. A write that ends in
 * '}' may be the stream's last and is answered only when that is known: the one
 * that completes the stream, when the snapshot is on disk and has its name, or
 * with the error that prevented it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fs/catalog/catalog.h"

/* What all saves of a store share: workers, memory, counters. */
typedef struct SnapSaver SnapSaver;

#define SNAP_SAVER_BUFFER_DEFAULT (64 * SNAP_MIB)
#define SNAP_SAVER_BUFFER_MIN (16 * SNAP_MIB)

struct snap_saver_opts {
	SnapCatalog *catalog; /* borrowed */
	uint64_t buffer;      /* bytes that all saves together may hold */
	guint threads;	      /* workers; 0: one a processor */
	int level;	      /* of zstd */
};

/* A saver with its workers. */
SnapSaver *snap_saver_new(const struct snap_saver_opts *opts);
/* All its saves must be gone. */
void snap_saver_free(SnapSaver *saver);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapSaver, snap_saver_free)

/* Counters since the start, and gauges. */
struct snap_saver_stats {
	uint64_t saves; /* begun */
	uint64_t completed;
	uint64_t failed;
	uint64_t running;   /* now */
	uint64_t bytes_in;  /* of streams */
	uint64_t bytes_out; /* of snapshot files */
	uint64_t buffered;  /* bytes held now */
	uint64_t waits;	    /* writes that had to wait for the buffer */
	uint64_t compactions;
};
struct snap_saver_stats snap_saver_stats(SnapSaver *saver);

/* A save. Reference counted; any thread. */
typedef struct SnapSave SnapSave;

enum snap_save_state {
	SNAP_SAVE_RUNNING,
	SNAP_SAVE_DONE, /* on disk, and has its name */
	SNAP_SAVE_FAILED,
};

struct snap_save_opts {
	int folder_fd;	  /* where the snapshot is to be; borrowed, dup'd */
	const char *path; /* the folder's within the store, for people */
	const char *name; /* of the file in it, for people; a constant. NULL:
			   * "stream" */
	struct snap_catalog_owner owner; /* of the snapshot */
	uint64_t hole; /* bytes of zeros that the file begins with: it was cut
			* to that size, and the stream begins behind */
	bool classic;  /* its stream is shown as a classic one, in whichever
			* form it comes */
	bool first;    /* it replaces nothing: where a snapshot has come
			* meanwhile it fails with -EEXIST, and nothing is said
			* of it */
};

/* Begins a save. -EBUSY when the buffer has no memory for one more, -errno. */
int snap_save_new(SnapSaver *saver, const struct snap_save_opts *opts,
		  SnapSave **ret_save, GError **error);
SnapSave *snap_save_ref(SnapSave *save);
/* The last reference to one that still runs is as snap_save_end. */
void snap_save_unref(SnapSave *save);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapSave, snap_save_unref)

/* Told the outcome of a write: its size, or -errno. From any thread, also from
 * within snap_save_write. */
typedef void (*snap_save_answer)(void *data, ssize_t result);

/* Takes `size` bytes at `offset` of the stream's file (copied before it
 * returns) and answers when there is room, or when the outcome is known. A
 * mapped-ram stream is written at any offset, by several at once; in any other,
 * -EINVAL answers a write that is not where the stream goes on, and the save
 * goes on as if it had not come. Where that is not known yet, the answer waits
 * until it is. After a failure, that failure. */
void snap_save_write(SnapSave *save, const void *data, size_t size,
		     uint64_t offset, snap_save_answer answer,
		     void *answer_data);

/* The same, and waits for the answer: 0, or -errno. */
int snap_save_put(SnapSave *save, const void *data, size_t size,
		  uint64_t offset);

/* True once it is known that writes may come at any offset (mapped-ram). */
bool snap_save_scattered(SnapSave *save);

/* Asks whether the stream could end here, as close(2) and fsync(2) do: answers
 * 0 when it is whole, or nothing of it has come; else -EPROTO, or how the save
 * failed. After what has been written is parsed, which takes the time of the
 * buffer at most; for one that says of itself that it is whole, when it is on
 * disk and has its name. */
void snap_save_check(SnapSave *save, snap_save_answer answer,
		     void *answer_data);

/* The stream has ended as far as its writer is concerned. Returns at once. A
 * stream that is whole without saying so is committed behind, any other failed:
 * the log and the folder's note say why. */
void snap_save_end(SnapSave *save);

/* The same for a stream that somebody else ends, and `why`: "the mount was
 * ended". With NULL it is dropped on purpose, and nothing is said of it. One
 * that is complete is not undone. */
void snap_save_abort(SnapSave *save, const char *why);

/* Where the save stands, and how large the stream's file is by now: where the
 * write that reached furthest ended. */
enum snap_save_state snap_save_state(SnapSave *save, uint64_t *ret_bytes);
/* True when it does not run any more. */
bool snap_save_over(SnapSave *save);

/* Waits until it is done or has failed: 0, or -errno with the sentence. For
 * tools; the file system never waits. */
int snap_save_wait(SnapSave *save, GError **error);
