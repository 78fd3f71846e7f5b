/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file of a mapped-ram stream, and the writes that make it. */
#pragma once

#include "tests/unit/save/world.h"

/* The offsets of a block's parts. */
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
	uint64_t devices; /* where the devices begin */
	bool no_parts;	  /* without RAM's empty PART section */
};

/* Fills w->ram: pages of noise, pages of one byte, and every third page
 * zero. */
void file_fill_ram(struct world *w);

/* Appends the file of w->ram to w->stream; `*f` has the target page. */
void file_make(struct world *w, struct file *f);

/* Appends a classic stream of w->ram to w->stream. */
void file_make_classic(struct world *w);

/* The devstate of that stream. */
void file_make_devstate(struct world *w);

/* Writes in their order. */
struct cut {
	uint64_t offset;
	uint64_t size;
};
GArray *cuts_new(void);
/* Adds [from, to) in pieces of `step` bytes. */
void cuts_add(GArray *cuts, uint64_t from, uint64_t to, uint64_t step);
/* Adds the pages of a block that are not zero, at most `run` target pages per
 * write. */
void cuts_add_pages(GArray *cuts, const struct world *w, const struct file *f,
		    const struct file_block *b, guint run);
/* Adds everything but the parts of blocks, up to the devices; or from the
 * devices on. */
void cuts_add_stream(GArray *cuts, const struct file *f);
void cuts_add_devices(GArray *cuts, const struct world *w,
		      const struct file *f);
void cuts_add_bitmaps(GArray *cuts, const struct file *f);
/* The writes of QEMU without multifd. */
GArray *cuts_of_qemu(const struct world *w, const struct file *f);

/* Does the writes in order; stops at the first that fails. */
ssize_t put_cuts(struct world *w, const GArray *cuts);
