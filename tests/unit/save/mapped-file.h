/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file of a mapped-ram stream, and the writes that make it. */
#pragma once

#include "tests/unit/save/world.h"

/* Where a block's parts lie. */
struct file_block {
	uint64_t bitmap;
	uint64_t bytes; /* of the bitmap */
	uint64_t pages;
	uint64_t length;
};

struct file {
	uint64_t begin; /* of the stream */
	uint32_t page;	/* target page */
	struct file_block ram;
	struct file_block rom;
	uint64_t devices; /* where they begin */
};

/* Fills w->ram: pages of noise, of one byte, and every third one zero. */
void file_fill_ram(struct world *w);

/* Makes the file of w->ram, with what w->stream has before it; `*f` has the
 * target page. */
void file_make(struct world *w, struct file *f);

/* A classic stream of w->ram, behind what w->stream has. */
void file_make_classic(struct world *w);

/* Writes in the order they come. */
struct cut {
	uint64_t offset;
	uint64_t size;
};
GArray *cuts_new(void);
/* [from, to) in pieces of `step` bytes. */
void cuts_add(GArray *cuts, uint64_t from, uint64_t to, uint64_t step);
/* The pages of a block that are not zero, `run` target pages at most in one
 * write. */
void cuts_add_pages(GArray *cuts, const struct world *w, const struct file *f,
		    const struct file_block *b, guint run);
/* All but the parts of blocks, up to the devices; or from there to the end. */
void cuts_add_stream(GArray *cuts, const struct file *f);
void cuts_add_devices(GArray *cuts, const struct world *w,
		      const struct file *f);
void cuts_add_bitmaps(GArray *cuts, const struct file *f);
/* As QEMU does without multifd. */
GArray *cuts_of_qemu(const struct world *w, const struct file *f);

/* Puts them, one after the other; the first that fails ends it. */
ssize_t put_cuts(struct world *w, const GArray *cuts);
