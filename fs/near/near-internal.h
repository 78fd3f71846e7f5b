/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of fs/near share. */
#pragma once

#include "fs/near/near.h"

/* The copy of one file of the store. */
struct snap_copy {
	SnapNear *near;
	char *name; /* in the folder */
	uint64_t size;
	uint64_t used;	/* when it was read last, by near->clock; atomic */
	uint64_t bytes; /* on disk; this and refs: protected by near->lock */
	guint refs;	/* those who have it open */
	/* While it is open: */
	int fd;		/* -1: nothing can be kept */
	guint8 *pieces; /* what became of each; atomic */
};

/* What became of a piece. */
enum {
	PIECE_AWAY,
	PIECE_ASKED, /* waits to be added */
	PIECE_THERE,
};

/* A file of the store with its copy. */
struct snap_near_file {
	SnapFile file; /* first */
	gint refs;     /* the reader, and pieces that are to be added; atomic */
	SnapFile *below;
	struct snap_copy *copy;
};

struct SnapNear {
	int fd;
	char *path;
	uint64_t limit;
	uint64_t clock; /* counts reads; atomic */
	GMutex lock;
	GHashTable *copies; /* by name; this and the rest: protected by lock */
	uint64_t bytes;	    /* of all copies */
	gint64 quiet_until; /* nothing is added before (monotonic time) */
	bool told;	    /* the log says that nothing is added */
	bool crowded;	    /* the log says that descriptors are short */
	GThread *thread;    /* adds pieces (fill.c) */
	GQueue queue;	    /* what it is to do */
	GCond work, idle;
	bool busy, ending;
	uint64_t hits; /* these are atomic */
	uint64_t hit_bytes;
	uint64_t misses;
	uint64_t rejected;
};

#define SNAP_NEAR_COUNT(near, field, n)                                        \
	__atomic_fetch_add(&(near)->field, n, __ATOMIC_RELAXED)

/* ---- copies (copy.c) ---- */

/* The bytes of a piece: the last one may be short. */
static inline size_t snap_copy_piece_size(const struct snap_copy *copy,
					  uint64_t piece)
{
	return MIN(SNAP_NEAR_PIECE, copy->size - piece * SNAP_NEAR_PIECE);
}

/* Adds a copy to the table; it has so many bytes on disk. */
struct snap_copy *snap_copy_new_locked(SnapNear *near, const char *name,
				       uint64_t bytes);

/* Opens the copy called `name`, of a file of `size` bytes, until
 * snap_copy_put(). Where there are more bytes than the cache may have, others
 * go, and then the end of this one. */
struct snap_copy *snap_copy_get(SnapNear *near, const char *name,
				uint64_t size);

/* Closes it. It goes if nobody else has it open and its file was `removed`. */
void snap_copy_put(struct snap_copy *copy, bool removed);

/* Reads from a copy; false where it lacks a part. */
bool snap_copy_read(struct snap_copy *copy, void *buf, size_t size,
		    uint64_t offset);

/* Says that these bytes will be read soon; false where the copy lacks a part.
 */
bool snap_copy_expect(struct snap_copy *copy, uint64_t offset, uint64_t size);

/* Adds a piece, whose bytes these are. Other copies may go for it, the least
 * recently read first. Only the thread of fill.c calls it. */
void snap_copy_add(struct snap_copy *copy, uint64_t piece, const void *data);

/* Drops the pieces that hold these bytes. */
void snap_copy_drop(struct snap_copy *copy, uint64_t offset, size_t size);

/* ---- the folder (folder.c) ---- */

/* Counts the copies that lie in the folder, from an earlier mount, and drops
 * what is too much. Returns 0 or -errno. */
int snap_near_scan(SnapNear *near);

/* ---- what is added (fill.c) ---- */

/* Adds the pieces that hold these bytes, unless too many wait. */
void snap_fill_ask(struct snap_near_file *f, uint64_t offset, size_t size);

/* Gives up what waits, and ends the thread. */
void snap_fill_end(SnapNear *near);

/* Gives a file back; the last one to do so closes it. */
void snap_near_file_unref(struct snap_near_file *f);
