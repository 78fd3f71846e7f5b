/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A snapshot file of chosen pages, and what its page space must read as. */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "format/image/image.h"

struct image_fixture {
	char *folder;	/* of its own */
	int fd;		/* of the folder */
	uint64_t pages; /* in RAM; devstate follows on the next region */
	uint64_t state_base;
	uint64_t size;	/* of the page space as far as `bytes` reaches */
	uint8_t *bytes; /* what the page space must read as */
};

/* Writes "snapshot.zst" with `pages` pages of RAM in one block, about a third
 * of them zero, some of one byte, some sent twice, and 5000 bytes of devstate;
 * `seed` decides which. */
void image_fixture_make(struct image_fixture *f, uint64_t pages, guint32 seed);

/* Opens what was written. */
SnapReader *image_fixture_open(const struct image_fixture *f);

/* Removes it all. */
void image_fixture_clear(struct image_fixture *f);
