/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/lib/stream.h"

#include "format/qemu/describe.h"

#include <string.h>
#include <sys/mman.h>

#include "format/base/bytes.h"
#include "format/base/units.h"
#include "format/base/zero.h"
#include "format/qemu/wire.h"

void stream_bytes(GByteArray *s, const void *data, size_t size)
{
	g_byte_array_append(s, data, (guint)size);
}

void stream_byte(GByteArray *s, uint8_t n)
{
	stream_bytes(s, &n, 1);
}

void stream_be16(GByteArray *s, uint16_t n)
{
	be16 v = snap_to_be16(n);

	stream_bytes(s, v.b, sizeof(v));
}

void stream_be32(GByteArray *s, uint32_t n)
{
	be32 v = snap_to_be32(n);

	stream_bytes(s, v.b, sizeof(v));
}

void stream_be64(GByteArray *s, uint64_t n)
{
	be64 v = snap_to_be64(n);

	stream_bytes(s, v.b, sizeof(v));
}

void stream_str8(GByteArray *s, const char *text)
{
	stream_byte(s, (uint8_t)strlen(text));
	stream_bytes(s, text, (uint8_t)strlen(text));
}

void stream_magic(GByteArray *s)
{
	stream_be32(s, WIRE_MAGIC);
	stream_be32(s, WIRE_VERSION);
}

void stream_configuration(GByteArray *s, const char *machine)
{
	stream_byte(s, WIRE_CONFIGURATION);
	stream_be32(s, (uint32_t)strlen(machine));
	stream_bytes(s, machine, strlen(machine));
}

void stream_subsection(GByteArray *s, const char *name)
{
	stream_byte(s, WIRE_SUBSECTION);
	stream_str8(s, name);
	stream_be32(s, WIRE_CONFIG_VERSION);
}

void stream_start(GByteArray *s, uint8_t type, uint32_t id, const char *name,
		  uint32_t version)
{
	stream_more(s, type, id);
	stream_str8(s, name);
	stream_be32(s, 0);
	stream_be32(s, version);
}

void stream_more(GByteArray *s, uint8_t type, uint32_t id)
{
	stream_byte(s, type);
	stream_be32(s, id);
}

void stream_footer(GByteArray *s, uint32_t id)
{
	stream_more(s, WIRE_FOOTER, id);
}

void stream_command(GByteArray *s, uint16_t number, const void *data,
		    uint16_t size)
{
	stream_byte(s, WIRE_COMMAND);
	stream_be16(s, number);
	stream_be16(s, size);
	stream_bytes(s, data, size);
}

void stream_total(GByteArray *s, uint64_t total)
{
	stream_be64(s, total | WIRE_RAM_MEM_SIZE);
}

void stream_block(GByteArray *s, const char *name, uint64_t length)
{
	stream_str8(s, name);
	stream_be64(s, length);
}

void stream_list(GByteArray *s, uint64_t ram, uint64_t rom)
{
	stream_magic(s);
	stream_configuration(s, "pc-q35-test");
	stream_start(s, 1, 2, "ram", 4);
	stream_total(s, ram + rom);
	stream_block(s, "pc.ram", ram);
	stream_block(s, "pc.rom", rom);
	stream_eos(s);
	stream_footer(s, 2);
}

void stream_mapped_header(GByteArray *s, uint32_t version, uint64_t page,
			  uint64_t bitmap, uint64_t pages)
{
	stream_be32(s, version);
	stream_be64(s, page);
	stream_be64(s, bitmap);
	stream_be64(s, pages);
}

/* The bits of the target pages that are not zero. */
static GByteArray *bitmap_of(const uint8_t *ram, uint64_t length, uint32_t page)
{
	GByteArray *bits = g_byte_array_new();

	for (uint64_t i = 0; i < length / page; i++) {
		if (i % 64 == 0)
			stream_be64(bits, 0);
		if (!snap_is_zero(ram + i * page, page))
			bits->data[i / 8] |= (uint8_t)(1 << i % 8);
	}
	return bits;
}

void stream_mapped(GByteArray *s, const uint8_t *ram, uint64_t length,
		   uint64_t align)
{
	g_autoptr(GByteArray) bits = bitmap_of(ram, length, SNAP_PAGE);
	uint64_t bitmap = s->len + WIRE_MAPPED_HEADER;
	uint64_t pages = snap_round_up(bitmap + bits->len, align);
	guint end;

	stream_mapped_header(s, WIRE_MAPPED_VERSION, SNAP_PAGE, bitmap, pages);
	stream_bytes(s, bits->data, bits->len);
	end = s->len;
	g_byte_array_set_size(s, (guint)pages);
	memset(s->data + end, 0, pages - end);
	stream_bytes(s, ram, length);
}

static void stream_record(GByteArray *s, const char *name, uint64_t offset,
			  uint64_t flags)
{
	stream_be64(s, offset | flags | (name ? 0 : WIRE_RAM_CONTINUE));
	if (name)
		stream_str8(s, name);
}

void stream_page(GByteArray *s, const char *name, uint64_t offset,
		 const void *data, size_t size)
{
	stream_record(s, name, offset, WIRE_RAM_PAGE);
	stream_bytes(s, data, size);
}

void stream_fill(GByteArray *s, const char *name, uint64_t offset, uint8_t fill)
{
	stream_record(s, name, offset, WIRE_RAM_ZERO);
	stream_byte(s, fill);
}

void stream_eos(GByteArray *s)
{
	stream_be64(s, WIRE_RAM_EOS);
}

void stream_device(GByteArray *s, uint32_t id, const char *name,
		   const void *data, size_t size, bool footer)
{
	stream_start(s, WIRE_SECTION_FULL, id, name, 1);
	stream_bytes(s, data, size);
	if (footer)
		stream_footer(s, id);
}

void stream_description(GByteArray *s, const char *text)
{
	stream_byte(s, WIRE_EOF);
	stream_byte(s, WIRE_DESCRIPTION);
	stream_be32(s, (uint32_t)strlen(text));
	stream_bytes(s, text, strlen(text));
}

void stream_pattern(uint8_t *ret, size_t size, uint32_t seed)
{
	uint32_t n = seed * 2654435761u + 12345;

	for (size_t i = 0; i < size; i++) {
		n = n * 1664525u + 1013904223u;
		ret[i] = (uint8_t)(n >> 24);
	}
}

/* RAM as large as a guest's is only address space until it is touched. */
static void split_list(struct stream_split *split)
{
	split->lists++;
	split->ram_size = split->info->ram.flat_size + SNAP_PAGE;
	split->ram = mmap(NULL, split->ram_size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	g_assert(split->ram != MAP_FAILED);
	split->sent =
		mmap(NULL, split->ram_size / SNAP_PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	g_assert(split->sent != MAP_FAILED);
}

/* Checks that pages lie in their block, and puts them there. */
static void split_pages(struct stream_split *split, const struct snap_event *ev)
{
	const struct snap_ram_block *block;
	uint32_t page = split->info->target_page;
	uint64_t at;

	g_assert(split->ram && !split->why);
	g_assert(ev->block < split->info->ram.n);
	block = &split->info->ram.blocks[ev->block];
	g_assert(ev->size > 0 && ev->size % page == 0);
	g_assert(ev->offset % page == 0 && ev->offset <= block->length);
	g_assert(ev->size <= block->length - ev->offset);
	at = block->flat + ev->offset;
	memset(split->sent + at / SNAP_PAGE, 1, ev->size / SNAP_PAGE);
	if (ev->kind == SNAP_EVENT_PAGE) {
		g_assert(ev->size == page);
		memcpy(split->ram + at, ev->data, ev->size);
		split->pages += ev->size;
		return;
	}
	split->fills += ev->size;
	for (size_t i = 0; i < ev->size; i += SNAP_PAGE)
		if (ev->fill || !snap_is_zero(split->ram + at + i, SNAP_PAGE))
			memset(split->ram + at + i, ev->fill, SNAP_PAGE);
}

static void split_event(struct stream_split *split, const struct snap_event *ev)
{
	switch (ev->kind) {
	case SNAP_EVENT_RAM:
		split_list(split);
		return;
	case SNAP_EVENT_PAGE:
	case SNAP_EVENT_FILL:
		split_pages(split, ev);
		return;
	case SNAP_EVENT_STATE:
		g_assert(ev->size > 0);
		stream_bytes(split->state, ev->data, ev->size);
		g_assert(split->info->state_size == split->state->len);
		return;
	case SNAP_EVENT_JUMP:
		g_assert(split->info->mapped && !split->lists);
		g_assert(ev->block == split->info->ram.n - 1);
		g_assert(ev->offset == split->info->size);
		split->jumps++;
		return;
	case SNAP_EVENT_OPAQUE:
		g_assert(split->pages == 0 && split->fills == 0);
		g_assert(!split->why && ev->why);
		split->why = g_strdup(ev->why);
		return;
	}
	g_assert_not_reached();
}

/* The pages of a mapped-ram file that lie in it and whose bit is set. */
static void split_mapped(struct stream_split *split, const uint8_t *file,
			 size_t size)
{
	uint32_t page = split->info->target_page;

	for (guint i = 0; split->ram && i < split->info->ram.n; i++) {
		const struct snap_ram_block *b = &split->info->ram.blocks[i];

		for (uint64_t n = 0; b->pages && n < b->length / page; n++) {
			uint64_t bit = b->bitmap + n / 8;
			uint64_t at = b->pages + n * page;

			if (at >= size || page > size - at)
				break;
			if (bit < size && (file[bit] >> n % 8 & 1))
				memcpy(split->ram + b->flat + n * page,
				       file + at, page);
		}
	}
}

static void split_feed(struct stream_split *split, const uint8_t *data,
		       size_t size)
{
	g_autoptr(GError) error = NULL;
	struct snap_event ev;

	snap_parser_feed(split->parser, data, size);
	while ((split->r = snap_parser_step(split->parser, &ev, &error)) > 0)
		split_event(split, &ev);
	if (split->r < 0)
		split->error = g_strdup(error->message);
}

static void split_run(struct stream_split *split, const uint8_t *data,
		      size_t size, uint64_t begin, size_t cut, size_t step)
{
	g_autoptr(GError) error = NULL;
	size_t at = (size_t)begin;

	split->info = snap_parser_info(split->parser);
	split->state = g_byte_array_new();
	while (at < size && split->r == 0) {
		size_t n = at == begin && cut ? cut : step;
		guint jumps = split->jumps;
		g_autofree uint8_t *copy = NULL;

		n = n ? MIN(n, size - at) : size - at;
		/* A copy of its own size, so that reading past the end of
		 * what was fed shows. */
		copy = g_memdup2(data + at, n);
		split_feed(split, copy, n);
		at += n;
		/* What lay between was dropped. */
		if (split->jumps > jumps)
			at = split->info->size;
	}
	if (split->r == 0)
		g_assert(split->info->size == MAX(size, at));
	split_mapped(split, data, size);
	split->complete = snap_parser_complete(split->parser);
	split->end = snap_parser_end(split->parser, &error);
	if (split->end < 0)
		split->end_error = g_strdup(error->message);
}

void stream_split(struct stream_split *ret, const void *data, size_t size,
		  size_t cut, size_t step)
{
	stream_split_at(ret, data, size, 0, cut, step);
}

void stream_split_at(struct stream_split *ret, const void *data, size_t size,
		     uint64_t begin, size_t cut, size_t step)
{
	*ret = (struct stream_split){ .parser = snap_parser_new() };
	snap_parser_begin_at(ret->parser, begin);
	split_run(ret, data, size, begin, cut, step);
}

void stream_split_devstate(struct stream_split *ret, const void *data,
			   size_t size)
{
	*ret = (struct stream_split){ .parser = snap_parser_new() };
	snap_parser_expect_devstate(ret->parser);
	split_run(ret, data, size, 0, 0, 0);
}

void stream_split_clear(struct stream_split *split)
{
	if (split->ram) {
		munmap(split->ram, split->ram_size);
		munmap(split->sent, split->ram_size / SNAP_PAGE);
	}
	g_byte_array_unref(split->state);
	snap_parser_free(split->parser);
	g_free(split->error);
	g_free(split->end_error);
	g_free(split->why);
	*split = (struct stream_split){ 0 };
}

static bool split_ram_equal(const struct stream_split *a,
			    const struct stream_split *b)
{
	const struct snap_ramlist *x = &a->info->ram, *y = &b->info->ram;

	if (x->n != y->n || a->lists != b->lists || a->ram_size != b->ram_size)
		return false;
	if (x->n &&
	    memcmp(x->blocks, y->blocks, x->n * sizeof(*x->blocks)) != 0)
		return false;
	for (guint i = 0; a->ram && i < x->n; i++)
		if (memcmp(a->ram + x->blocks[i].flat,
			   b->ram + x->blocks[i].flat,
			   x->blocks[i].length) != 0)
			return false;
	return true;
}

bool stream_split_equal(const struct stream_split *a,
			const struct stream_split *b)
{
	return a->r == b->r && g_strcmp0(a->error, b->error) == 0 &&
	       a->end == b->end && a->complete == b->complete &&
	       g_strcmp0(a->end_error, b->end_error) == 0 &&
	       g_strcmp0(a->why, b->why) == 0 && a->pages == b->pages &&
	       a->fills == b->fills && a->jumps == b->jumps &&
	       strcmp(a->info->machine, b->info->machine) == 0 &&
	       a->info->target_page == b->info->target_page &&
	       a->info->ram_section == b->info->ram_section &&
	       a->info->footers == b->info->footers &&
	       a->info->pages_at == b->info->pages_at &&
	       a->state->len == b->state->len &&
	       (a->state->len == 0 ||
		memcmp(a->state->data, b->state->data, a->state->len) == 0) &&
	       split_ram_equal(a, b);
}

struct snap_stream_info stream_info(const struct stream_split *split)
{
	struct snap_stream_info info = *split->info;
	uint32_t page = info.target_page;

	info.ram.blocks = g_memdup2(split->info->ram.blocks,
				    info.ram.n * sizeof(*info.ram.blocks));
	for (guint i = 0; split->ram && i < info.ram.n; i++) {
		struct snap_ram_block *block = &info.ram.blocks[i];

		block->stored = 0;
		for (uint64_t at = 0; at < block->length; at += page)
			if (!snap_is_zero(split->ram + block->flat + at, page))
				block->stored += page;
	}
	return info;
}

/* The records of a block up to where they no longer touch [offset, offset +
 * size) of the run. A walk, as a test can afford it. */
static void stream_read_records(const struct stream_split *split,
				const struct snap_stream_info *info,
				guint index, uint64_t offset, uint8_t *ret,
				size_t size)
{
	const struct snap_ram_block *block = &info->ram.blocks[index];
	uint32_t page = info->target_page;
	g_autofree uint8_t *record =
		g_malloc(SNAP_RECORD_HEADER_MAX + (size_t)page);
	uint64_t at = 0;

	for (uint64_t from = 0; from < block->length && at < offset + size;
	     from += page) {
		const uint8_t *data = split->ram + block->flat + from;
		bool zero = snap_is_zero(data, page);
		size_t n = snap_record_header(info, index, from, zero, record);
		uint64_t first, last;

		if (!zero) {
			memcpy(record + n, data, page);
			n += page;
		}
		first = MAX(at, offset);
		last = MIN(at + n, offset + size);
		if (first < last)
			memcpy(ret + (first - offset), record + (first - at),
			       last - first);
		at += n;
	}
}

static void stream_read_bitmap(const struct stream_split *split,
			       const struct snap_ram_block *block,
			       uint64_t offset, uint8_t *ret, size_t size)
{
	g_autoptr(GByteArray) bits =
		bitmap_of(split->ram + block->flat, block->length,
			  split->info->target_page);

	memcpy(ret, bits->data + offset, size);
}

/* The bytes [offset, offset + size) of a run. */
static void stream_read_run(const struct stream_split *split,
			    const struct snap_stream_info *info,
			    const struct snap_run *run, uint64_t offset,
			    uint8_t *ret, size_t size)
{
	const struct snap_ram_block *block = &info->ram.blocks[run->block];

	switch (run->kind) {
	case SNAP_RUN_STATE:
		memcpy(ret, split->state->data + run->state + offset, size);
		return;
	case SNAP_RUN_LITERAL:
		memcpy(ret, run->data + offset, size);
		return;
	case SNAP_RUN_RECORDS:
		stream_read_records(split, info, run->block, offset, ret, size);
		return;
	case SNAP_RUN_BITMAP:
		stream_read_bitmap(split, block, offset, ret, size);
		return;
	case SNAP_RUN_PAGES:
		memcpy(ret, split->ram + block->flat + offset, size);
		return;
	case SNAP_RUN_ZERO:
		memset(ret, 0, size);
		return;
	}
	g_assert_not_reached();
}

bool stream_read(const struct stream_split *split,
		 const struct snap_stream_info *info, const SnapLayout *layout,
		 uint64_t offset, uint8_t *ret, size_t size)
{
	while (size > 0) {
		struct snap_run run;
		uint64_t in;
		size_t n;

		if (!snap_layout_find(layout, offset, &run))
			return false;
		g_assert(run.offset <= offset);
		in = offset - run.offset;
		g_assert(in < run.length);
		n = (size_t)MIN(size, run.length - in);
		stream_read_run(split, info, &run, in, ret, n);
		offset += n;
		ret += n;
		size -= n;
	}
	return true;
}

GByteArray *stream_canonical(const struct stream_split *split)
{
	const struct snap_stream_info *info = split->info;
	GByteArray *s = g_byte_array_new();

	stream_bytes(s, split->state->data, info->pages_at);
	for (guint i = 0; i < info->ram.n; i++) {
		const struct snap_ram_block *block = &info->ram.blocks[i];
		uint32_t page = info->target_page;

		if (block->ignored || block->length == 0)
			continue;
		stream_more(s, WIRE_SECTION_PART, info->ram_section);
		for (uint64_t at = 0; at < block->length; at += page) {
			const uint8_t *data = split->ram + block->flat + at;
			const char *name = at ? NULL : block->name;

			if (snap_is_zero(data, page))
				stream_fill(s, name, at, 0);
			else
				stream_page(s, name, at, data, page);
		}
		stream_eos(s);
		if (info->footers)
			stream_footer(s, info->ram_section);
	}
	stream_bytes(s, split->state->data + info->pages_at,
		     info->state_size - info->pages_at);
	return s;
}

int stream_layout_mapped(const struct stream_split *split,
			 const struct snap_stream_info *info, uint64_t begin,
			 SnapLayout **ret_layout, GError **error)
{
	uint64_t at = info->description_at;

	return snap_layout_mapped(
		info, split->state->data, (size_t)info->pages_at,
		at ? split->state->data + at : NULL,
		at ? MIN(split->state->len - at, SNAP_DESCRIPTION_HEAD + 4) : 0,
		begin, ret_layout, error);
}
