/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/qemu/forms.h"

#include <string.h>

#include "format/qemu/wire.h"

#define PAGE 4096u

static void form_page(GByteArray *s, const char *name, uint64_t offset,
		      uint32_t seed)
{
	uint8_t data[PAGE];

	stream_pattern(data, PAGE, seed);
	stream_page(s, name, offset, data, PAGE);
}

/* Two devices, the last one with a number that looks like a description's
 * beginning. */
static void form_devices(GByteArray *s, bool footers)
{
	static const uint8_t cpu[] = "registers";
	static const uint8_t disk[] = { 0, 6, 0, 0, 0, 9, '{', '"', 4, 0, 0 };

	stream_device(s, 5, "cpu", cpu, sizeof(cpu), footers);
	stream_device(s, 6, "0000:00:02.0/virtio-blk", disk, sizeof(disk),
		      footers);
}

static void form_ram_start(GByteArray *s, bool footers)
{
	stream_start(s, WIRE_SECTION_START, 2, WIRE_RAM, WIRE_RAM_VERSION);
	stream_total(s, 7 * PAGE);
	stream_block(s, "pc.ram", 4 * PAGE);
	stream_block(s, "/rom@etc/acpi/tables", PAGE);
	stream_block(s, "0000:00:02.0/vga.vram", 2 * PAGE);
	stream_eos(s);
	if (footers)
		stream_footer(s, 2);
}

static void form_eos(GByteArray *s)
{
	stream_eos(s);
	stream_footer(s, 2);
}

/* Precopy of a running guest: pages sent again, zero after data, data after
 * zero, CONTINUE over a section's end, pages in END, command 11. */
static GByteArray *make_precopy(void)
{
	GByteArray *s = g_byte_array_new();

	stream_magic(s);
	stream_configuration(s, "pc-q35-10.0");
	form_ram_start(s, true);
	stream_more(s, WIRE_SECTION_PART, 2);
	form_page(s, "pc.ram", 0, 1);
	stream_fill(s, NULL, PAGE, 0);
	stream_fill(s, NULL, 2 * PAGE, 0);
	form_eos(s);
	stream_more(s, WIRE_SECTION_PART, 2);
	form_page(s, NULL, 3 * PAGE, 2);
	stream_fill(s, "/rom@etc/acpi/tables", 0, 0);
	stream_fill(s, "0000:00:02.0/vga.vram", 0, 0);
	stream_fill(s, NULL, PAGE, 0);
	form_eos(s);
	stream_command(s, WIRE_CMD_SWITCHOVER, NULL, 0);
	stream_more(s, WIRE_SECTION_END, 2);
	form_page(s, "pc.ram", PAGE, 3);
	stream_fill(s, NULL, 3 * PAGE, 0);
	form_eos(s);
	form_devices(s, true);
	stream_description(s, FORM_DESCRIPTION);
	return s;
}

/* background-snapshot: any order, blocks interleaved, no END. */
static GByteArray *make_background(void)
{
	GByteArray *s = g_byte_array_new();

	stream_magic(s);
	stream_configuration(s, "pc-q35-10.0");
	form_ram_start(s, true);
	stream_more(s, WIRE_SECTION_PART, 2);
	form_page(s, "pc.ram", 3 * PAGE, 1);
	form_page(s, "0000:00:02.0/vga.vram", PAGE, 2);
	stream_fill(s, "pc.ram", 0, 0);
	form_eos(s);
	stream_more(s, WIRE_SECTION_PART, 2);
	stream_fill(s, NULL, 2 * PAGE, 0);
	stream_fill(s, NULL, PAGE, 0);
	stream_fill(s, "0000:00:02.0/vga.vram", 0, 0);
	form_page(s, "/rom@etc/acpi/tables", 0, 3);
	form_eos(s);
	form_devices(s, true);
	stream_description(s, FORM_DESCRIPTION);
	return s;
}

/* The form that the synthesizer makes. */
static GByteArray *make_canonical(void)
{
	GByteArray *s = g_byte_array_new();

	stream_magic(s);
	stream_configuration(s, "pc-q35-10.0");
	form_ram_start(s, true);
	stream_more(s, WIRE_SECTION_PART, 2);
	form_page(s, "pc.ram", 0, 1);
	stream_fill(s, NULL, PAGE, 0);
	stream_fill(s, NULL, 2 * PAGE, 0);
	form_page(s, NULL, 3 * PAGE, 2);
	form_eos(s);
	stream_more(s, WIRE_SECTION_PART, 2);
	stream_fill(s, "/rom@etc/acpi/tables", 0, 0);
	form_eos(s);
	stream_more(s, WIRE_SECTION_PART, 2);
	form_page(s, "0000:00:02.0/vga.vram", 0, 3);
	form_page(s, NULL, PAGE, 4);
	form_eos(s);
	stream_command(s, WIRE_CMD_SWITCHOVER, NULL, 0);
	stream_more(s, WIRE_SECTION_END, 2);
	form_eos(s);
	form_devices(s, true);
	stream_description(s, FORM_DESCRIPTION);
	return s;
}

/* Machine types up to 2.3: neither configuration nor footers. */
static GByteArray *make_old(void)
{
	GByteArray *s = g_byte_array_new();

	stream_magic(s);
	form_ram_start(s, false);
	stream_more(s, WIRE_SECTION_PART, 2);
	form_page(s, "pc.ram", 0, 1);
	stream_eos(s);
	stream_more(s, WIRE_SECTION_END, 2);
	stream_fill(s, "/rom@etc/acpi/tables", 0, 0x5a);
	stream_eos(s);
	form_devices(s, false);
	stream_description(s, "{ \"page_size\": 4096, \"devices\": []}");
	return s;
}

static GByteArray *make_undescribed(void)
{
	GByteArray *s = g_byte_array_new();

	stream_magic(s);
	stream_configuration(s, "pc-i440fx-2.4");
	form_ram_start(s, true);
	stream_more(s, WIRE_SECTION_END, 2);
	form_page(s, "pc.ram", 0, 1);
	form_eos(s);
	form_devices(s, true);
	stream_byte(s, WIRE_EOF);
	return s;
}

/* All subsections, 16 KiB target pages, one shared block left out. */
static GByteArray *make_configured(void)
{
	g_autofree uint8_t *data = g_malloc(16384);
	GByteArray *s = g_byte_array_new();

	stream_pattern(data, 16384, 1);
	stream_magic(s);
	stream_configuration(s, "virt-10.0");
	stream_subsection(s, WIRE_CONFIG_PAGE_BITS);
	stream_be32(s, 14);
	stream_subsection(s, WIRE_CONFIG_CAPS);
	stream_be32(s, 1);
	stream_str8(s, WIRE_CAP_IGNORE_SHARED);
	stream_subsection(s, WIRE_CONFIG_UUID);
	stream_bytes(s, data, WIRE_UUID_SIZE);
	stream_start(s, WIRE_SECTION_START, 2, WIRE_RAM, WIRE_RAM_VERSION);
	stream_total(s, 4 * 16384);
	stream_block(s, "mach-virt.ram", 2 * 16384);
	stream_be64(s, 0x40000000);
	stream_block(s, "virt.flash0", 2 * 16384);
	stream_be64(s, 0);
	form_eos(s);
	stream_more(s, WIRE_SECTION_END, 2);
	stream_page(s, "virt.flash0", 16384, data, 16384);
	form_eos(s);
	form_devices(s, true);
	stream_description(s, FORM_DESCRIPTION);
	return s;
}

/* A source with postcopy-ram: commands, and page sizes in the list, the last
 * one at its end. */
static GByteArray *make_huge(void)
{
	static const uint8_t advise[16] = { 0, 0, 0, 0, 0, 0x20, 0x10, 0 };
	GByteArray *s = g_byte_array_new();

	stream_magic(s);
	stream_configuration(s, "pc-q35-10.0");
	stream_command(s, 1, NULL, 0);
	stream_command(s, 2, advise, 4);
	stream_command(s, 3, advise, sizeof(advise));
	stream_start(s, WIRE_SECTION_START, 1, WIRE_RAM, WIRE_RAM_VERSION);
	stream_total(s, 4 * PAGE);
	stream_block(s, "a", PAGE);
	stream_be64(s, 0x200000);
	stream_block(s, "b", PAGE);
	stream_block(s, "c", 2 * PAGE);
	stream_be64(s, 0x40000000);
	stream_be64(s, WIRE_RAM_MULTIFD_FLUSH);
	stream_eos(s);
	stream_footer(s, 1);
	stream_more(s, WIRE_SECTION_PART, 1);
	stream_be64(s, WIRE_RAM_MULTIFD_FLUSH);
	form_page(s, "c", PAGE, 7);
	stream_eos(s);
	stream_footer(s, 1);
	stream_more(s, WIRE_SECTION_END, 1);
	stream_be64(s, WIRE_RAM_MULTIFD_FLUSH);
	stream_eos(s);
	stream_footer(s, 1);
	form_devices(s, true);
	stream_description(s, FORM_DESCRIPTION);
	return s;
}

static void form_dirty_bitmap(GByteArray *s)
{
	static const uint8_t bits[32] = { 1, 0x7e, 3 };

	stream_byte(s, WIRE_DIRTY_EXTRA_FLAGS);
	stream_byte(s, WIRE_DIRTY_START | WIRE_DIRTY_NODE_NAME |
			       WIRE_DIRTY_BITMAP_NAME);
	stream_str8(s, "disk0");
	stream_str8(s, "bitmap0");
	stream_be32(s, 65536);
	stream_byte(s, 1);
	stream_byte(s, WIRE_DIRTY_BITS);
	stream_be64(s, 0);
	stream_be32(s, 128);
	stream_be64(s, sizeof(bits));
	stream_bytes(s, bits, sizeof(bits));
	stream_byte(s, WIRE_DIRTY_BITS | WIRE_DIRTY_ZEROES);
	stream_be64(s, 128);
	stream_be32(s, 128);
	stream_be32(s, 0x80800000 | WIRE_DIRTY_COMPLETE);
	stream_byte(s, WIRE_DIRTY_EOS);
}

static void form_htab(GByteArray *s)
{
	static const uint8_t entries[2 * WIRE_HTAB_ENTRY] = { 0x7e, 9 };

	stream_be32(s, 0);
	stream_be32(s, 77);
	stream_be16(s, 2);
	stream_be16(s, 5);
	stream_bytes(s, entries, sizeof(entries));
	stream_be32(s, 90);
	stream_be16(s, 0);
	stream_be16(s, 1);
	stream_be64(s, 0);
}

static void form_stattrib(GByteArray *s)
{
	stream_be64(s, 0x7000 | WIRE_STATTRIB_MORE);
	stream_be64(s, 5);
	stream_bytes(s, "\x7e\x01\x02\x03\x04", 5);
	stream_be64(s, WIRE_STATTRIB_DONE);
	stream_be64(s, WIRE_STATTRIB_EOS);
}

/* All sections of known size that may come before the end of RAM. */
static GByteArray *make_passengers(void)
{
	GByteArray *s = g_byte_array_new();

	stream_magic(s);
	stream_configuration(s, "pseries-10.0");
	stream_start(s, WIRE_SECTION_START, 1, WIRE_HTAB, WIRE_HTAB_VERSION);
	stream_be32(s, 18);
	stream_footer(s, 1);
	form_ram_start(s, true);
	stream_start(s, WIRE_SECTION_START, 3, WIRE_DIRTY, WIRE_DIRTY_VERSION);
	form_dirty_bitmap(s);
	stream_footer(s, 3);
	stream_start(s, WIRE_SECTION_START, 4, WIRE_STATTRIB,
		     WIRE_STATTRIB_VERSION);
	stream_be64(s, WIRE_STATTRIB_EOS);
	stream_footer(s, 4);
	stream_more(s, WIRE_SECTION_PART, 2);
	form_page(s, "pc.ram", PAGE, 1);
	form_eos(s);
	stream_more(s, WIRE_SECTION_PART, 1);
	form_htab(s);
	stream_footer(s, 1);
	stream_more(s, WIRE_SECTION_PART, 3);
	form_dirty_bitmap(s);
	stream_footer(s, 3);
	stream_more(s, WIRE_SECTION_PART, 4);
	form_stattrib(s);
	stream_footer(s, 4);
	stream_command(s, 99, "unknown", 7);
	stream_more(s, WIRE_SECTION_END, 1);
	stream_be32(s, UINT32_MAX);
	stream_footer(s, 1);
	stream_more(s, WIRE_SECTION_END, 2);
	form_page(s, NULL, 0, 2);
	form_eos(s);
	stream_more(s, WIRE_SECTION_END, 3);
	stream_byte(s, WIRE_DIRTY_EOS);
	stream_footer(s, 3);
	form_devices(s, true);
	stream_description(s, FORM_DESCRIPTION);
	return s;
}

/* -machine none: no RAM and no devices. */
static GByteArray *make_empty(void)
{
	GByteArray *s = g_byte_array_new();

	stream_magic(s);
	stream_configuration(s, "none");
	stream_start(s, WIRE_SECTION_START, 2, WIRE_RAM, WIRE_RAM_VERSION);
	stream_total(s, 0);
	form_eos(s);
	stream_more(s, WIRE_SECTION_END, 2);
	form_eos(s);
	stream_description(s, FORM_DESCRIPTION);
	return s;
}

static void form_rest(GByteArray *s)
{
	stream_more(s, WIRE_SECTION_PART, 2);
	form_page(s, "pc.ram", 0, 1);
	form_eos(s);
	form_devices(s, true);
	stream_description(s, FORM_DESCRIPTION);
}

/* The state of virtio-mem comes before RAM. */
static GByteArray *make_virtio_mem(void)
{
	GByteArray *s = g_byte_array_new();

	stream_magic(s);
	stream_configuration(s, "pc-q35-10.0");
	stream_device(s, 1, "0000:00:03.0/virtio-mem-device-early", "early", 5,
		      true);
	form_ram_start(s, true);
	form_rest(s);
	return s;
}

/* A section of unknown length after RAM's. */
static GByteArray *make_vfio(void)
{
	GByteArray *s = g_byte_array_new();

	stream_magic(s);
	stream_configuration(s, "pc-q35-10.0");
	form_ram_start(s, true);
	stream_start(s, WIRE_SECTION_START, 9, "0000:00:04.0/vfio", 1);
	stream_be64(s, 0xffffffffef100003);
	stream_be64(s, 0xffffffffef100001);
	stream_footer(s, 9);
	form_rest(s);
	return s;
}

static GByteArray *make_new_subsection(void)
{
	GByteArray *s = g_byte_array_new();

	stream_magic(s);
	stream_configuration(s, "pc-q35-20.0");
	stream_subsection(s, "configuration/what-is-this");
	stream_be32(s, 1);
	form_ram_start(s, true);
	form_rest(s);
	return s;
}

static GByteArray *make_new_capability(void)
{
	GByteArray *s = g_byte_array_new();

	stream_magic(s);
	stream_configuration(s, "pc-q35-20.0");
	stream_subsection(s, WIRE_CONFIG_CAPS);
	stream_be32(s, 2);
	stream_str8(s, WIRE_CAP_IGNORE_SHARED);
	stream_str8(s, "x-new");
	form_ram_start(s, true);
	form_rest(s);
	return s;
}

const struct form forms[] = {
	{ "precopy", make_precopy },
	{ "background", make_background },
	{ "canonical", make_canonical, .canonical = true },
	{ "old", make_old },
	{ "undescribed", make_undescribed, .undescribed = true },
	{ "configured", make_configured },
	{ "huge", make_huge },
	{ "passengers", make_passengers },
	{ "empty", make_empty, .canonical = true },
	{ "virtio-mem", make_virtio_mem, .opaque = true },
	{ "vfio", make_vfio, .opaque = true },
	{ "new-subsection", make_new_subsection, .opaque = true },
	{ "new-capability", make_new_capability, .opaque = true },
};
const guint n_forms = G_N_ELEMENTS(forms);

GByteArray *form_make(const char *name)
{
	for (guint i = 0; i < n_forms; i++)
		if (strcmp(forms[i].name, name) == 0)
			return forms[i].make();
	g_assert_not_reached();
}
