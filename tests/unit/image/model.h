/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A model to compare a snapshot with: an array of pages. Each operation on a
 * writer is also done to the array. */
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
	GByteArray *log;  /* their content, or NULL */
};

/* A guest of zeros. */
void model_init(struct model *m, uint64_t pages, guint32 seed);
/* Frees the model. */
void model_clear(struct model *m);

/* Makes content for these pages of a region, and writes them as one extent. */
int model_put(struct model *m, SnapWriter *w, uint64_t region,
	      const uint16_t *pages, guint n);

/* Makes pages of one byte. */
int model_fill(struct model *m, SnapWriter *w, uint64_t page, uint64_t count,
	       uint8_t fill);

/* Does so many random operations; many pages come again. */
int model_play(struct model *m, SnapWriter *w, guint steps);

/* Commits all of RAM as one block, and a device state of zeros. */
int model_commit(struct model *m, SnapWriter *w, int dirfd, const char *name,
		 GError **error);

/* Reads all of RAM. A page that reads wrong fails the test. Returns 0, or the
 * error of the first read that fails. */
int model_read(const struct model *m, SnapReader *r);

/* Makes a writer to a file on that disk. */
SnapWriter *model_writer(struct crash_disk *disk, uint64_t map_memory);

/* Opens the file on that disk. */
SnapReader *model_open(const struct crash_disk *disk, GByteArray **ret_bytes);
