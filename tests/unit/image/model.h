/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The simplest thing that a snapshot can be compared with: an array of pages.
 * What is done to a writer is done to the array as well. */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "format/image/image.h"
#include "tests/lib/crash-file.h"

struct model {
	uint64_t pages; /* of RAM */
	uint8_t *bytes;
	GRand *rand;
	SnapCodec *codec;
	uint64_t extents; /* bytes of frames written */
	GByteArray *log;  /* what is in them, if anybody wants to know */
};

/* A guest of zeros. */
void model_init(struct model *m, uint64_t pages, guint32 seed);
/* Frees what it holds. */
void model_clear(struct model *m);

/* Invents these pages of a region, and writes them as one extent. */
int model_put(struct model *m, SnapWriter *w, uint64_t region,
	      const uint16_t *pages, guint n);

/* Makes pages of one byte. */
int model_fill(struct model *m, SnapWriter *w, uint64_t page, uint64_t count,
	       uint8_t fill);

/* Does so many things to pages, at random: many come again. */
int model_play(struct model *m, SnapWriter *w, guint steps);

/* Commits all of RAM as one block, and a device state of zeros. */
int model_commit(struct model *m, SnapWriter *w, int dirfd, const char *name,
		 GError **error);

/* Reads all of RAM. A page that reads wrong fails the test; 0, or what the
 * first read that did not succeed has said. */
int model_read(const struct model *m, SnapReader *r);

/* A writer to a file on that disk. */
SnapWriter *model_writer(struct crash_disk *disk, uint64_t map_memory);

/* The file on that disk, whole, opened. */
SnapReader *model_open(const struct crash_disk *disk, GByteArray **ret_bytes);
