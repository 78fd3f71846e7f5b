/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/save/mapped-file.h"

#include <string.h>

#include "format/base/zero.h"
#include "format/qemu/wire.h"
#include "tests/lib/stream.h"

void file_fill_ram(struct world *w)
{
	w->ram = g_malloc0(FLAT_SIZE);
	for (uint32_t p = 0; p < RAM_PAGES; p++) {
		uint8_t *at = w->ram + (size_t)p * SNAP_PAGE;

		if (p % 50 == 7)
			memset(at, 0xff, SNAP_PAGE);
		else if (p % 3 && (p < 600 || p > 800))
			stream_pattern(at + 100, SNAP_PAGE - 1000, p);
	}
	stream_pattern(w->ram + ROM_FLAT, ROM_SIZE, 4711);
}

static void add_block(struct world *w, const struct file *f, const char *name,
		      const uint8_t *ram, struct file_block *b)
{
	guint pages = (guint)(b->length / f->page), end;

	stream_block(w->stream, name, b->length);
	b->bitmap = w->stream->len + WIRE_MAPPED_HEADER;
	b->bytes = snap_div_up(pages, 64) * 8;
	b->pages = snap_round_up(b->bitmap + b->bytes, WIRE_MAPPED_ALIGN);
	stream_mapped_header(w->stream, WIRE_MAPPED_VERSION, f->page, b->bitmap,
			     b->pages);
	end = w->stream->len;
	g_byte_array_set_size(w->stream, (guint)b->pages);
	memset(w->stream->data + end, 0, b->pages - end);
	for (guint i = 0; i < pages; i++)
		if (!snap_is_zero(ram + (size_t)i * f->page, f->page))
			w->stream->data[b->bitmap + i / 8] |=
				(uint8_t)(1 << i % 8);
	stream_bytes(w->stream, ram, b->length);
}

static void add_end(struct world *w)
{
	uint8_t device[30000];

	stream_more(w->stream, 3, 2);
	stream_eos(w->stream);
	stream_footer(w->stream, 2);
	stream_pattern(device, sizeof(device), 99);
	stream_device(w->stream, 7, "cpu", device, sizeof(device), true);
	stream_description(w->stream, "{\"devices\": []}");
}

static void add_capabilities(GByteArray *s)
{
	stream_subsection(s, WIRE_CONFIG_CAPS);
	stream_be32(s, 1);
	stream_str8(s, WIRE_CAP_MAPPED_RAM);
}

static void add_page_bits(GByteArray *s, uint32_t page)
{
	stream_subsection(s, WIRE_CONFIG_PAGE_BITS);
	stream_be32(s, (uint32_t)__builtin_ctz(page));
}

void file_make(struct world *w, struct file *f)
{
	if (!w->stream)
		w->stream = g_byte_array_new();
	f->begin = w->stream->len;
	f->ram.length = RAM_SIZE / f->page * f->page;
	f->rom.length = ROM_SIZE;
	stream_magic(w->stream);
	stream_configuration(w->stream, "pc-q35-test");
	if (f->page != SNAP_PAGE)
		add_page_bits(w->stream, f->page);
	add_capabilities(w->stream);
	stream_start(w->stream, 1, 2, "ram", 4);
	stream_total(w->stream, f->ram.length + f->rom.length);
	add_block(w, f, "pc.ram", w->ram, &f->ram);
	add_block(w, f, "pc.rom", w->ram + ROM_FLAT, &f->rom);
	stream_eos(w->stream);
	stream_footer(w->stream, 2);
	/* QEMU sends at least one PART, which is empty. */
	if (!f->no_parts) {
		stream_more(w->stream, 2, 2);
		stream_eos(w->stream);
		stream_footer(w->stream, 2);
	}
	f->devices = w->stream->len;
	add_end(w);
}

static void add_list(struct world *w)
{
	stream_list(w->stream, RAM_SIZE, ROM_SIZE);
}

void file_make_devstate(struct world *w)
{
	add_list(w);
	add_end(w);
}

void file_make_classic(struct world *w)
{
	const char *name = "pc.ram";

	add_list(w);
	stream_more(w->stream, 2, 2);
	for (uint64_t at = 0; at < RAM_SIZE; at += SNAP_PAGE) {
		stream_page(w->stream, name, at, w->ram + at, SNAP_PAGE);
		name = NULL;
	}
	name = "pc.rom";
	for (uint64_t at = 0; at < ROM_SIZE; at += SNAP_PAGE) {
		stream_page(w->stream, name, at, w->ram + ROM_FLAT + at,
			    SNAP_PAGE);
		name = NULL;
	}
	stream_eos(w->stream);
	stream_footer(w->stream, 2);
	add_end(w);
}

/* ---- writes ---- */

GArray *cuts_new(void)
{
	return g_array_new(FALSE, FALSE, sizeof(struct cut));
}

void cuts_add(GArray *cuts, uint64_t from, uint64_t to, uint64_t step)
{
	for (uint64_t at = from; at < to; at += step) {
		struct cut c = { at, MIN(step, to - at) };

		g_array_append_val(cuts, c);
	}
}

void cuts_add_pages(GArray *cuts, const struct world *w, const struct file *f,
		    const struct file_block *b, guint run)
{
	const uint8_t *data = w->stream->data + b->pages;

	for (uint64_t at = 0; at < b->length;) {
		uint64_t from = at;

		while (at < b->length && at - from < (uint64_t)run * f->page &&
		       !snap_is_zero(data + at, f->page))
			at += f->page;
		if (at > from)
			cuts_add(cuts, b->pages + from, b->pages + at,
				 at - from);
		else
			at += f->page;
	}
}

void cuts_add_stream(GArray *cuts, const struct file *f)
{
	cuts_add(cuts, f->begin, f->ram.bitmap, 32768);
	cuts_add(cuts, f->ram.pages + f->ram.length, f->rom.bitmap, 32768);
	cuts_add(cuts, f->rom.pages + f->rom.length, f->devices, 32768);
}

void cuts_add_devices(GArray *cuts, const struct world *w, const struct file *f)
{
	cuts_add(cuts, f->devices, w->stream->len, 32768);
}

void cuts_add_bitmaps(GArray *cuts, const struct file *f)
{
	cuts_add(cuts, f->ram.bitmap, f->ram.bitmap + f->ram.bytes, 1 << 20);
	cuts_add(cuts, f->rom.bitmap, f->rom.bitmap + f->rom.bytes, 1 << 20);
}

GArray *cuts_of_qemu(const struct world *w, const struct file *f)
{
	GArray *cuts = cuts_new();

	cuts_add_stream(cuts, f);
	cuts_add_pages(cuts, w, f, &f->ram, 1);
	cuts_add_pages(cuts, w, f, &f->rom, 1);
	cuts_add_bitmaps(cuts, f);
	cuts_add_devices(cuts, w, f);
	return cuts;
}

ssize_t put_cuts(struct world *w, const GArray *cuts)
{
	for (guint i = 0; i < cuts->len; i++) {
		const struct cut *c = &g_array_index(cuts, struct cut, i);
		ssize_t r =
			put(w, w->stream->data + c->offset, c->size, c->offset);

		if (r < 0)
			return r;
		assert_int_equal(r, c->size);
	}
	return 0;
}
