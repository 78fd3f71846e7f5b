/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A writer, as compact.c sees it. */
#pragma once

#include "format/image/image.h"
#include "format/image/map-internal.h"

struct SnapWriter {
	SnapFile *file;
	SnapMap *map;
	uint8_t uuid[16];
	uint64_t position; /* bytes appended */
	uint32_t crc32c;   /* of them */
	uint64_t dead;
	uint64_t stored;
	bool committed;
	int error; /* the first; the writer is then of no more use */
};

/* Begins a file: drops what was counted of another, writes the superblock. */
int snap_writer_begin(SnapWriter *w, SnapFile *file);

/* Appends bytes; where they lie, how long they are and their sum to
 * *ret_entry. */
int snap_writer_append(SnapWriter *w, const void *data, size_t size,
		       struct snap_entry *ret_entry);

/* Remembers an error (r < 0), and returns it. */
int snap_writer_fail(SnapWriter *w, int r);
