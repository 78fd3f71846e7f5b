/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk that forgets: a SnapFile that keeps every write apart until it is
 * synced, so that a test can look at what a crash would have left.
 *
 * What was synced is there. Of what was not, each write is there, or missing,
 * or garbage, or there in part: a disk keeps no order by itself.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "format/store/store.h"

/* What happened to the file, in order; outlives the file. */
struct crash_disk {
	GArray *events;	 /* of struct crash_event */
	GByteArray *all; /* all that was written */
	guint fail_at;	 /* the write or sync, counted from 1, that fails */
	int error;	 /* with this (a positive errno) */
	bool lies;	 /* says that it has synced, and has not */
	guint calls;	 /* writes and syncs so far */
	bool is_published;
	bool is_closed;
};

/* An empty disk. */
void crash_disk_init(struct crash_disk *disk);
/* Frees what it holds. */
void crash_disk_clear(struct crash_disk *disk);

/* A new file on that disk; one at a time. */
SnapFile *crash_file_new(struct crash_disk *disk);

/* What a crash after the first `n` events leaves in the file, as `rand` has
 * it (g_byte_array_unref). NULL for `rand`: all that was written by then. */
GByteArray *crash_disk_after(const struct crash_disk *disk, guint n,
			     GRand *rand);

/* Whether the file has its name after the first `n` events. */
bool crash_disk_has_name(const struct crash_disk *disk, guint n);

/* A file of bytes in memory, to be read; they are borrowed, and tell which file
 * it is. */
SnapFile *memory_file_new(const void *bytes, size_t size);
