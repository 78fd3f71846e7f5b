/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migration streams for tests: made piece by piece, split by the parser, and
 * put together again by the synthesizer.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format/qemu/synth.h"

/* Pieces, each put at the end of `s`. A name of NULL stands for CONTINUE. */
void stream_be16(GByteArray *s, uint16_t n);
void stream_be32(GByteArray *s, uint32_t n);
void stream_be64(GByteArray *s, uint64_t n);
void stream_byte(GByteArray *s, uint8_t n);
void stream_bytes(GByteArray *s, const void *data, size_t size);
void stream_str8(GByteArray *s, const char *text);
void stream_magic(GByteArray *s);
void stream_configuration(GByteArray *s, const char *machine);
void stream_subsection(GByteArray *s, const char *name);
void stream_start(GByteArray *s, uint8_t type, uint32_t id, const char *name,
		  uint32_t version);
void stream_more(GByteArray *s, uint8_t type, uint32_t id);
void stream_footer(GByteArray *s, uint32_t id);
void stream_command(GByteArray *s, uint16_t number, const void *data,
		    uint16_t size);
void stream_total(GByteArray *s, uint64_t total);
void stream_block(GByteArray *s, const char *name, uint64_t length);

/* What a stream begins with, up to the end of its list: the blocks "pc.ram" and
 * "pc.rom" in section 2. */
void stream_list(GByteArray *s, uint64_t ram, uint64_t rom);

/* A block's mapped-ram header, with places of your own. */
void stream_mapped_header(GByteArray *s, uint32_t version, uint64_t page,
			  uint64_t bitmap, uint64_t pages);

/* What QEMU puts behind a block's entry in the list of a mapped-ram stream in
 * the file `s`: the header, a bitmap of the pages of 4 KiB that are not zero,
 * and at the next multiple of `align` (QEMU's is 1 MiB) the pages, from `ram`,
 * `length` bytes. */
void stream_mapped(GByteArray *s, const uint8_t *ram, uint64_t length,
		   uint64_t align);
void stream_page(GByteArray *s, const char *name, uint64_t offset,
		 const void *data, size_t size);
void stream_fill(GByteArray *s, const char *name, uint64_t offset,
		 uint8_t fill);
void stream_eos(GByteArray *s);
void stream_device(GByteArray *s, uint32_t id, const char *name,
		   const void *data, size_t size, bool footer);
void stream_description(GByteArray *s, const char *text);

/* `size` bytes that depend on `seed` and hold every value. */
void stream_pattern(uint8_t *ret, size_t size, uint32_t seed);

/* A stream, taken apart. */
struct stream_split {
	SnapParser *parser;
	const struct snap_stream_info *info;
	int r;		   /* of the steps: 0, or what the last one answered */
	char *error;	   /* its sentence */
	int end;	   /* of snap_parser_end() */
	char *end_error;   /* its sentence */
	bool complete;	   /* after the last byte */
	GByteArray *state; /* devstate */
	uint8_t *ram;	   /* flat RAM; NULL until the list is known */
	size_t ram_size;
	uint8_t *sent; /* a byte for each 4 KiB of it: came it? */
	char *why;     /* of OPAQUE */
	guint lists;   /* how often RAM came */
	guint jumps;
	uint64_t pages; /* bytes that came as pages, repeats included */
	uint64_t fills; /* and as fill */
};

/* Feeds `size` bytes, `cut` and then `step` at a time (0: all that is left),
 * to a new parser, and gathers what it gives. */
void stream_split(struct stream_split *ret, const void *data, size_t size,
		  size_t cut, size_t step);

/* The same of a file in which the stream begins at `begin`; where it jumps,
 * bytes are taken from there on. RAM is filled in from the file, as the bitmaps
 * say. */
void stream_split_at(struct stream_split *ret, const void *data, size_t size,
		     uint64_t begin, size_t cut, size_t step);

/* The same with a parser that expects no pages. */
void stream_split_devstate(struct stream_split *ret, const void *data,
			   size_t size);
void stream_split_clear(struct stream_split *split);

/* The two came out the same: state, RAM, list, verdicts. */
bool stream_split_equal(const struct stream_split *a,
			const struct stream_split *b);

/* What the split says of the stream, with `stored` counted in its RAM; the
 * block list is a copy, for snap_ramlist_clear(). */
struct snap_stream_info stream_info(const struct stream_split *split);

/* The bytes [offset, offset + size) of the stream that a layout describes,
 * written to `ret`; false when it has no such bytes. */
bool stream_read(const struct stream_split *split,
		 const struct snap_stream_info *info, const SnapLayout *layout,
		 uint64_t offset, uint8_t *ret, size_t size);

/* The same stream built from its beginning, without a layout: the reference. */
GByteArray *stream_canonical(const struct stream_split *split);

/* The layout of its mapped-ram form. */
int stream_layout_mapped(const struct stream_split *split,
			 const struct snap_stream_info *info, uint64_t begin,
			 SnapLayout **ret_layout, GError **error);
