/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The fields of a writer, for compact.c too. */
#pragma once

#include "format/image/image.h"
#include "format/image/map-internal.h"

struct SnapWriter {
	SnapFile *file;
	SnapMap *map;
	uint8_t uuid[16];
	uint64_t position; /* bytes appended */
	uint32_t crc32c;   /* of these bytes */
	uint64_t dead;
	uint64_t stored;
	guint n_layers;
	struct snap_layer layers[SNAP_LAYERS_MAX];
	/* where they can be read: a layer of a reader */
	struct {
		SnapReader *reader;
		guint layer;
	} sources[SNAP_LAYERS_MAX];
	bool parents; /* the beginning of the file says that it may have some */
	bool committed;
	bool (*may_publish)(void *data); /* or NULL */
	void (*step)(void);		 /* or NULL */
	void *data;
	int error; /* the first error; then the writer can only be freed */
};

/* Begins a file and resets the counters. Its superblock is written with the
 * first bytes that are appended. */
void snap_writer_begin(SnapWriter *w, SnapFile *file);

/* Appends `size` bytes. *ret_entry gets their offset, length and checksum.
 * Returns 0 or -errno. */
int snap_writer_append(SnapWriter *w, const void *data, size_t size,
		       struct snap_entry *ret_entry);

/* Replaces the pages of a run. */
int snap_writer_splice(SnapWriter *w, uint64_t region,
		       const struct snap_segment *run);

/* Tells the caller that what takes long goes on. */
static inline void snap_writer_step(const SnapWriter *w)
{
	if (w->step)
		w->step();
}

/* Keeps an error (r < 0) if it is the first, and returns it. */
int snap_writer_fail(SnapWriter *w, int r);
