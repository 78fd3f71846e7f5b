/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes in: a migration stream becomes a snapshot.
 *
 * The thread that brings a write takes it: it parses the stream and gathers
 * pages into extents. The workers compress these, and append them in the order
 * in which they were gathered. When memory is short the write is parked, and
 * answered when there is room. The write that completes the stream is answered
 * when the snapshot is on disk and published, or with the error that prevented
 * this.
 */
#pragma once

#include <errno.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fs/catalog/catalog.h"

/* What all saves of a store share: workers, memory, counters. */
typedef struct SnapSaver SnapSaver;

#define SNAP_SAVER_BUFFER_DEFAULT (64 * SNAP_MIB)
#define SNAP_SAVER_BUFFER_MIN (16 * SNAP_MIB)

/* The highest level that makes no save slower (effort.c). */
#define SNAP_LEVEL_AUTO 0

/* Reads a level as a user writes it: 1 to SNAP_LEVEL_MAX, or "auto". Returns
 * false if it is neither. */
bool snap_level_parse(const char *text, uint64_t *ret_level);

struct snap_saver_opts {
	SnapCatalog *catalog; /* borrowed */
	uint64_t buffer; /* bytes of memory that all saves together may hold */
	guint threads;	 /* workers; 0: one per processor */
	int level;	 /* zstd level, or SNAP_LEVEL_AUTO */
	/* seconds without a byte after which a save is ended; 0: never */
	guint idle;
	/* seconds that a writer waits for an answer at most; 0: as long as it
	 * takes */
	guint timeout;
	/* saves store what differs from another snapshot (parent.c);
	 * snap_catalog_can_link() has been asked */
	bool increments;
};

#define SNAP_SAVER_IDLE_DEFAULT 3600 /* seconds */

/* Starts the workers. */
SnapSaver *snap_saver_new(const struct snap_saver_opts *opts);
/* Waits for running saves, then stops the workers. All references to saves must
 * be gone. */
void snap_saver_free(SnapSaver *saver);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapSaver, snap_saver_free)

/* Waits until no save runs, and every request was answered. NULL is fine. */
void snap_saver_wait(SnapSaver *saver);

/* Bytes of pages that were compressed at each level from SNAP_LEVEL_MIN on. */
struct snap_saver_levels {
	uint64_t bytes[SNAP_LEVEL_MAX - SNAP_LEVEL_MIN + 1];
};

/* Counters since the start, and gauges of the present. */
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
	struct snap_saver_levels levels;
};
struct snap_saver_stats snap_saver_stats(SnapSaver *saver);

/* A save. Reference counted; all functions may be called from any thread. */
typedef struct SnapSave SnapSave;

enum snap_save_state {
	SNAP_SAVE_RUNNING,
	SNAP_SAVE_DONE, /* the snapshot is on disk and published */
	SNAP_SAVE_FAILED,
};

/* A snapshot that is copied in instead of being written as a stream. The
 * descriptors are taken over; -1: the part is missing. */
struct snap_save_parts {
	int ram_fd;
	int state_fd;
	int preamble_fd;
	bool state_closed; /* the writer of devstate waits for the outcome */
	bool any_closed;   /* the writer of any part waits for it */
	bool ram_zero;	   /* all memory may be zero */
};

/* Closes the descriptors of parts that no save took over. */
void snap_save_parts_close(struct snap_save_parts *parts);

/* The outcome of a save of parts that are not whole and whose writers do not
 * wait: nothing was saved, and nothing is logged. */
#define SNAP_SAVE_NOTHING (-ENOMSG)

/* The save is over: called once, by the save's thread, after the change of
 * state and before the last write is answered. `saved`: its snapshot is in the
 * folder, also where the save has failed because its writer waited for too
 * long, or because a crash may lose the snapshot. */
typedef void (*snap_save_over_fn)(void *data, SnapSave *save, bool saved);

struct snap_save_opts {
	int folder_fd;	  /* the folder of the snapshot; borrowed, duplicated */
	const char *path; /* the folder's path within the store, for messages */
	/* of the file in the folder, for messages; a constant. NULL:
	 * "stream" */
	const char *name;
	struct snap_catalog_owner owner; /* of the snapshot */
	uid_t uid;	/* whose save it is, of whom a share of all may run */
	uint64_t begin; /* where in the file the stream begins */
	/* the file that begins with the preamble, which is zeros where that
	 * ends earlier. Taken over; -1: none, it is zeros until it is written
	 */
	int preamble_fd;
	bool whole; /* that file holds the stream, too: nobody writes it */
	/* the folder within the store whose snapshot is to be the parent; NULL:
	 * the one that is replaced, or any that fits, if the saver looks */
	const char *parent;
	/* NULL: a stream is written. Parts replace no snapshot: if one was
	 * published meanwhile, the save fails with -EEXIST, without a message
	 */
	struct snap_save_parts *parts;
	snap_save_over_fn over; /* may be NULL */
	void *over_data;
};

/* Begins a save. Returns 0, -EBUSY where the buffer has no memory for one more
 * save of this user, or where a save into the folder has timed out and still
 * waits for the store, or -errno. */
int snap_save_new(SnapSaver *saver, const struct snap_save_opts *opts,
		  SnapSave **ret_save, GError **error);
SnapSave *snap_save_ref(SnapSave *save);
/* Gives back a reference. For a save that still runs, giving back the last one
 * acts as snap_save_end(). */
void snap_save_unref(SnapSave *save);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapSave, snap_save_unref)

/* Checks the first `size` bytes of a preamble of `length` bytes: libvirt's
 * header says how long it is. 0, -EPROTO. */
int snap_save_check_preamble(const void *data, size_t size, uint64_t length,
			     GError **error);

/* The most bytes that snap_save_find() needs to recognize a stream. */
#define SNAP_SAVE_FIND 269u

/* Finds the first place in some bytes of a file that looks like the beginning
 * of QEMU's stream. */
bool snap_save_find(const void *data, size_t size, size_t *ret_at);

/* Finds it in a file. 1; 0 where no stream begins in the first part of it,
 * which a preamble may take; -errno. */
int snap_save_find_in(int fd, uint64_t *ret_begin);

/* True when bytes, as far as they go, are QEMU's magic. */
bool snap_save_begins(const void *data, size_t size);

/* Checks the first bytes of a file in which no stream was found yet.
 * -EOPNOTSUPP where they say that none will come that can be saved. */
int snap_save_check_header(const void *data, size_t size, GError **error);

/* Called with the result of a write: its size, or -errno. From any thread,
 * possibly before snap_save_write() returns. */
typedef void (*snap_save_answer)(void *data, ssize_t result);

/* Writes `size` bytes at `offset` of the stream's file. The bytes are the
 * caller's again when this returns. The answer often comes before that; it
 * comes later when memory is short, while the save's thread is at work or has
 * earlier writes, or when it is the save's result. A
 * mapped-ram stream may be written at any offset, by several writers at once.
 * Any other stream is written in order: a write elsewhere is answered with
 * -EINVAL, and the save goes on without it. A save into which nobody writes for
 * long fails with -ETIMEDOUT, and so does one that keeps a writer waiting for
 * longer than `timeout`. After a failure every write is answered with that
 * failure, and after the end of the stream with -EPROTO. */
void snap_save_write(SnapSave *save, const void *data, size_t size,
		     uint64_t offset, snap_save_answer answer,
		     void *answer_data);

/* The same, but waits for the answer. Returns 0 or -errno. */
int snap_save_put(SnapSave *save, const void *data, size_t size,
		  uint64_t offset);

/* True once the stream is known to be mapped-ram, which may be written at any
 * offset. */
bool snap_save_scattered(SnapSave *save);

/* Asks whether the stream could end here, for close(2) and fsync(2). The answer
 * is 0 if the stream is complete or no byte of it has come, else -EPROTO or the
 * failure of the save. It comes after all earlier writes are parsed. If the
 * stream is known to be complete, it comes when the snapshot is on disk and
 * published. */
void snap_save_check(SnapSave *save, snap_save_answer answer,
		     void *answer_data);

/* Says that the writer is done. Returns at once. If the stream is complete it
 * is committed in the background, else the save fails; the log and the folder's
 * note say why. */
void snap_save_end(SnapSave *save);

/* Ends a stream from outside, for the reason `why` ("the mount was ended").
 * A complete stream is still committed. With NULL, the stream is dropped
 * without a message, even if it is complete. */
void snap_save_abort(SnapSave *save, const char *why);

/* Returns the state of the save. *ret_bytes (unless NULL) becomes the present
 * size of the stream's file: the largest offset that a write reached, in
 * bytes. */
enum snap_save_state snap_save_state(SnapSave *save, uint64_t *ret_bytes);
/* True when the save is done or has failed. */
bool snap_save_over(SnapSave *save);

/* Waits for the end of the save. Returns 0, or -errno with a sentence. For
 * tools; the file system never waits. */
int snap_save_wait(SnapSave *save, GError **error);
