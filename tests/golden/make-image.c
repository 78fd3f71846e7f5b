/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes the golden snapshot files: some that must be readable for ever, and
 * others, made of the first, that must be refused, each with the errno that it
 * is named for. Run by hand when a file is added; what is there already is
 * left alone, since that is what golden means.
 *
 * The increment's parent is the classic one; a copy of it lies in layers/ under
 * its uuid.
 *
 * usage: make-image FOLDER
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "format/base/bytes.h"
#include "format/image/image.h"
#include "format/image/ondisk.h"
#include "tests/lib/crash-file.h"
#include "tests/lib/image-fixup.h"

#define UUID "golden-snapshot"
#define UUID_INCREMENT "golden-increment"

/* The properties of a classic snapshot. */
#define CLASSIC                                                                \
	{                                                                      \
		.form = SNAP_FORM_CLASSIC, .machine = "pc-q35-golden-16",      \
		.pages_at = 99, .ram_section = 2, .target_page = 4096,         \
		.footers = true                                                \
	}

static void put_data(SnapWriter *w, uint64_t region, const uint16_t *pages,
		     guint n, const uint8_t *data)
{
	g_autoptr(SnapCodec) codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	g_autofree void *frame = g_malloc(SNAP_EXTENT_BOUND);
	ssize_t size;

	size = snap_codec_compress(codec, data, n, frame);
	if (size < 0 ||
	    snap_writer_extent(w, region, pages, n, frame, (size_t)size) < 0)
		g_error("extent");
}

static void put(SnapWriter *w, uint64_t region, const uint16_t *pages, guint n,
		uint8_t seed)
{
	g_autofree uint8_t *data = g_malloc((gsize)n * SNAP_PAGE);

	for (guint i = 0; i < n * SNAP_PAGE; i++)
		data[i] = (uint8_t)(seed + i % 61 + i / SNAP_PAGE);
	put_data(w, region, pages, n, data);
}

/* Puts bytes at the beginning of a region. */
static void put_bytes(SnapWriter *w, uint64_t region, const GByteArray *bytes)
{
	static const uint16_t pages[] = { 0, 1, 2, 3 };
	guint n = (guint)snap_div_up(bytes->len, SNAP_PAGE);
	g_autofree uint8_t *data = g_malloc0((gsize)n * SNAP_PAGE);

	memcpy(data, bytes->data, bytes->len);
	put_data(w, region, pages, n, data);
}

static SnapWriter *begin(struct crash_disk *disk, const char *uuid)
{
	struct snap_writer_opts opts = {
		.file = crash_file_new(disk),
		.uuid = (const uint8_t *)uuid,
	};
	SnapWriter *w;

	if (snap_writer_new(&opts, &w, NULL) < 0)
		g_error("writer");
	return w;
}

static void end(SnapWriter *w, struct snap_meta *meta)
{
	GError *error = NULL;

	meta->created = 1234567890123456789;
	if (snap_writer_commit(w, meta, -1, "", &error) < 0)
		g_error("%s", error->message);
	snap_writer_free(w);
	snap_meta_clear(meta);
}

/* All that a classic snapshot can hold: pages that came again, fills, regions
 * of zeros, a second block that is ignored and a third. */
static void make_classic(struct crash_disk *disk)
{
	static const uint16_t first[] = { 0, 1, 2, 3, 7, 8, 100 };
	static const uint16_t again[] = { 2, 7 }, last[] = { 511 };
	struct snap_meta meta = CLASSIC;
	SnapWriter *w = begin(disk, UUID);
	struct snap_block *b;

	put(w, 0, first, G_N_ELEMENTS(first), 1);
	put(w, 0, again, G_N_ELEMENTS(again), 50);
	snap_writer_fill(w, 200, 10, 0xff);
	snap_writer_fill(w, 100, 1, 0);
	put(w, 2, last, 1, 90);
	put(w, 4, first, 1, 120);
	put(w, 5, first, 2, 150);
	b = snap_meta_add_block(&meta, SNAP_BLOCK_RAM, "pc.ram", 3 * 2097152);
	b->page_size = 4096;
	b = snap_meta_add_block(&meta, SNAP_BLOCK_RAM, "shared", 2097152);
	b->ignored = true;
	b->gpa = (uint64_t)1 << 32;
	snap_meta_add_block(&meta, SNAP_BLOCK_RAM, "0000:00:02.0/vga.vram",
			    65536);
	snap_meta_add_block(&meta, SNAP_BLOCK_STATE, "devstate", 5000);
	end(w, &meta);
}

static void make_verbatim(struct crash_disk *disk)
{
	static const uint16_t first[] = { 0, 1 };
	struct snap_meta meta = { .form = SNAP_FORM_VERBATIM,
				  .why = "a section of unknown length" };
	SnapWriter *w = begin(disk, UUID);

	put(w, 0, first, 2, 33);
	snap_meta_add_block(&meta, SNAP_BLOCK_STREAM, "stream", 8191);
	end(w, &meta);
}

/* ---- one saved as mapped-ram, behind libvirt's header ---- */

#define BEFORE_SIZE 6000u
#define RAM_SECTION 2u

static void add(GByteArray *b, const void *data, size_t size)
{
	g_byte_array_append(b, data, (guint)size);
}

static void add_text(GByteArray *b, const char *text)
{
	add(b, text, strlen(text));
}

static void add_be32(GByteArray *b, uint32_t n)
{
	be32 v = snap_to_be32(n);

	add(b, v.b, sizeof(v));
}

static void add_be64(GByteArray *b, uint64_t n)
{
	be64 v = snap_to_be64(n);

	add(b, v.b, sizeof(v));
}

static void add_name(GByteArray *b, const char *name)
{
	uint8_t length = (uint8_t)strlen(name);

	add(b, &length, 1);
	add_text(b, name);
}

static void add_section(GByteArray *b, uint8_t kind, uint32_t id)
{
	add(b, &kind, 1);
	add_be32(b, id);
}

static void add_ram_end(GByteArray *b)
{
	add_be64(b, 0x10);
	add_section(b, 0x7e, RAM_SECTION);
}

/* A devstate as it comes of a guest of two blocks and one device; *ret_pages_at
 * is where the pages stood. */
static GByteArray *make_devstate(const struct snap_meta *meta,
				 uint64_t *ret_pages_at)
{
	static const char description[] = "{\"page_size\":4096}";
	GByteArray *b = g_byte_array_new();
	uint64_t total = meta->blocks[0].length + meta->blocks[1].length;

	add_text(b, "QEVM");
	add_be32(b, 3);
	add_section(b, 7, (uint32_t)strlen(meta->machine));
	add_text(b, meta->machine);
	add_section(b, 1, RAM_SECTION);
	add_name(b, "ram");
	add_be32(b, 0);
	add_be32(b, 4);
	add_be64(b, total | 4);
	for (guint i = 0; i < 2; i++) {
		add_name(b, meta->blocks[i].name);
		add_be64(b, meta->blocks[i].length);
	}
	add_ram_end(b);
	*ret_pages_at = b->len;
	add_section(b, 3, RAM_SECTION);
	add_ram_end(b);
	add_section(b, 4, 9);
	add_name(b, "0000:00:01.0/dev");
	add_be32(b, 0);
	add_be32(b, 1);
	add_text(b, "the state of a device");
	add_section(b, 0x7e, 9);
	add(b, "\0\6", 2);
	add_be32(b, sizeof(description) - 1);
	add_text(b, description);
	return b;
}

static GByteArray *make_before(void)
{
	static const uint8_t unused[BEFORE_SIZE];
	GByteArray *b = g_byte_array_new();
	const uint32_t words[] = { 2, BEFORE_SIZE - 92, 1, 6, 0 };

	add_text(b, "LibvirtQemudPart");
	for (guint i = 0; i < G_N_ELEMENTS(words); i++) {
		le32 v = snap_to_le32(words[i]);

		add(b, v.b, sizeof(v));
	}
	add(b, unused, 56);
	add_text(b, "<domain>golden</domain>");
	add(b, unused, BEFORE_SIZE - b->len);
	return b;
}

static void make_mapped(struct crash_disk *disk)
{
	static const uint16_t some[] = { 0, 1, 2, 63, 64, 200 },
			      last[] = { 15 };
	struct snap_meta meta = { .form = SNAP_FORM_MAPPED,
				  .machine = "pc-q35-golden-16",
				  .ram_section = RAM_SECTION,
				  .target_page = 4096,
				  .footers = true };
	g_autoptr(GByteArray) before = make_before();
	g_autoptr(GByteArray) state = NULL;
	SnapWriter *w = begin(disk, UUID);

	snap_meta_add_block(&meta, SNAP_BLOCK_RAM, "pc.ram", 3 << 20);
	snap_meta_add_block(&meta, SNAP_BLOCK_RAM, "a", 65536);
	put(w, 0, some, G_N_ELEMENTS(some), 1);
	snap_writer_fill(w, 300, 5, 0xff);
	put(w, 1, some, 3, 50);
	put(w, 2, last, 1, 90);
	state = make_devstate(&meta, &meta.pages_at);
	put_bytes(w, 3, state);
	put_bytes(w, 4, before);
	snap_meta_add_block(&meta, SNAP_BLOCK_STATE, "devstate", state->len);
	snap_meta_add_block(&meta, SNAP_BLOCK_PREAMBLE, "before", before->len);
	end(w, &meta);
}

/* ---- an increment ---- */

static void share(SnapWriter *w, SnapReader *r, uint64_t region)
{
	struct snap_node node;
	struct snap_leaf leaf;

	if (snap_reader_node(r, 0, &node) < 0 ||
	    snap_reader_leaf(r, region, &node.entries[region], &leaf) < 0)
		g_error("the parent's map");
	for (guint i = 0; i < leaf.n; i++) {
		struct snap_segment run = leaf.segments[i];

		run.layer = 1;
		if (run.kind == SNAP_SEGMENT_EXTENT &&
		    snap_writer_share(w, region, &run) < 0)
			g_error("share");
	}
}

/* Some of the classic snapshot's pages, some that have changed, a page that has
 * become zero. */
static void make_increment(struct crash_disk *disk,
			   const struct crash_disk *parent)
{
	static const uint16_t changed[] = { 1, 8, 300 };
	struct snap_meta meta = CLASSIC;
	SnapWriter *w = begin(disk, UUID_INCREMENT);
	SnapReader *r;
	uint8_t number;

	if (snap_reader_open(
		    memory_file_new(parent->all->data, parent->all->len), &r,
		    NULL) < 0)
		g_error("parent");
	if (snap_writer_layer(w, r, 0, &number) < 0)
		g_error("layer");
	share(w, r, 0);
	share(w, r, 2);
	put(w, 0, changed, G_N_ELEMENTS(changed), 77);
	snap_writer_fill(w, 3, 1, 0);
	put(w, 3, changed, 1, 150);
	snap_meta_add_block(&meta, SNAP_BLOCK_RAM, "pc.ram", 3 * 2097152);
	snap_meta_add_block(&meta, SNAP_BLOCK_STATE, "devstate", 9000);
	end(w, &meta);
	snap_reader_free(r);
}

/* ---- what must be refused ---- */

struct damaged {
	const char *name;
	void (*damage)(GByteArray *b);
};

static struct snap_disk_superblock *superblock(GByteArray *b)
{
	return (struct snap_disk_superblock *)b->data;
}

static struct snap_disk_trailer *trailer(GByteArray *b)
{
	return (struct snap_disk_trailer *)(b->data + b->len -
					    sizeof(struct snap_disk_trailer));
}

static void be_empty(GByteArray *b)
{
	g_byte_array_set_size(b, 0);
}

static void be_cut(GByteArray *b)
{
	g_byte_array_set_size(b, b->len - 1);
}

static void be_cut_in_half(GByteArray *b)
{
	g_byte_array_set_size(b, b->len / 2);
}

static void be_grown(GByteArray *b)
{
	g_byte_array_append(b, (const guint8 *)"\n", 1);
}

static void have_two_trailers(GByteArray *b)
{
	struct snap_disk_trailer copy = *trailer(b);

	g_byte_array_append(b, (const guint8 *)&copy, sizeof(copy));
}

static void be_text(GByteArray *b)
{
	memset(b->data, 'x', b->len);
}

static void flip_superblock(GByteArray *b)
{
	superblock(b)->uuid[3] ^= 1;
}

static void flip_trailer(GByteArray *b)
{
	trailer(b)->regions.b[0] ^= 1;
}

static void flip_properties(GByteArray *b)
{
	b->data[snap_le64(trailer(b)->properties.where) + 30] ^= 1;
}

static void flip_top(GByteArray *b)
{
	b->data[snap_le64(trailer(b)->top.where) + 30] ^= 1;
}

static void flip_extent(GByteArray *b)
{
	b->data[64 + 40] ^= 1;
}

static void have_a_feature(GByteArray *b)
{
	superblock(b)->incompat = snap_to_le64((uint64_t)1 << 63);
	image_fixup(b->data, b->len);
}

static void be_of_version_2(GByteArray *b)
{
	superblock(b)->version = snap_to_le32(2);
	trailer(b)->version = snap_to_le32(2);
	image_fixup(b->data, b->len);
}

/* The machine's name, of 16 bytes, becomes what was kept for parents before
 * there were any. */
static void be_an_increment(GByteArray *b)
{
	uint8_t *at = b->data + snap_le64(trailer(b)->properties.where) +
		      sizeof(struct snap_disk_frame);

	while (snap_le16(((struct snap_disk_property *)at)->key) !=
	       SNAP_DISK_KEY_MACHINE)
		at += sizeof(struct snap_disk_property) +
		      snap_le32(((struct snap_disk_property *)at)->length);
	((struct snap_disk_property *)at)->key = snap_to_le16(4);
	superblock(b)->incompat = snap_to_le64(SNAP_INCOMPAT_LAYERS);
	image_fixup(b->data, b->len);
}

/* Right sums, and more regions than any file may have. */
static void be_too_large(GByteArray *b)
{
	trailer(b)->regions = snap_to_le64(UINT64_MAX);
	image_fixup(b->data, b->len);
}

/* Right sums, and a place outside of the file. */
static void point_outside(GByteArray *b)
{
	trailer(b)->top.where = snap_to_le64((uint64_t)1 << 47);
	image_fixup(b->data, b->len);
}

/* The record of the increment's parent. */
static struct snap_disk_layer *parent_of(GByteArray *b)
{
	return (struct snap_disk_layer *)trailer(b) - 1;
}

static void have_no_parent(GByteArray *b)
{
	parent_of(b)->uuid[0] ^= 1;
	image_fixup(b->data, b->len);
}

static void have_another_parent(GByteArray *b)
{
	parent_of(b)->crc32c.b[0] ^= 1;
	image_fixup(b->data, b->len);
}

static void hide_the_parent(GByteArray *b)
{
	superblock(b)->incompat = snap_to_le64(0);
	image_fixup(b->data, b->len);
}

static const struct damaged all_of_increment[] = {
	{ "ENOLINK-no-parent", have_no_parent },
	{ "EBADMSG-another-parent", have_another_parent },
	{ "EBADMSG-hidden-parent", hide_the_parent },
};

static const struct damaged all[] = {
	{ "ENODATA-empty", be_empty },
	{ "ENODATA-cut", be_cut },
	{ "ENODATA-cut-in-half", be_cut_in_half },
	{ "ENODATA-grown", be_grown },
	{ "ENODATA-not-ours", be_text },
	{ "EBADMSG-two-trailers", have_two_trailers },
	{ "EBADMSG-flipped-superblock", flip_superblock },
	{ "EBADMSG-flipped-trailer", flip_trailer },
	{ "EBADMSG-flipped-properties", flip_properties },
	{ "EBADMSG-flipped-top", flip_top },
	{ "EBADMSG-flipped-extent", flip_extent },
	{ "EBADMSG-too-large", be_too_large },
	{ "EBADMSG-outside", point_outside },
	{ "EOPNOTSUPP-feature", have_a_feature },
	{ "EOPNOTSUPP-version-2", be_of_version_2 },
	{ "EOPNOTSUPP-increment", be_an_increment },
};

static void write_file(const char *folder, const char *name,
		       const GByteArray *b)
{
	g_autofree char *path = g_strdup_printf("%s/%s.zst", folder, name);
	GError *error = NULL;

	if (g_file_test(path, G_FILE_TEST_EXISTS))
		return;
	if (!g_file_set_contents(path, (const char *)b->data, (gssize)b->len,
				 &error))
		g_error("%s", error->message);
	printf("%s\n", path);
}

static void make(const char *folder, const char *name,
		 void (*make_one)(struct crash_disk *disk),
		 struct crash_disk *disk)
{
	g_autofree char *good = g_build_filename(folder, "good", NULL);

	crash_disk_init(disk);
	make_one(disk);
	write_file(good, name, disk->all);
}

static void damage(const char *folder, const struct crash_disk *disk,
		   const struct damaged *damaged, guint n)
{
	g_autofree char *refused = g_build_filename(folder, "refused", NULL);

	for (guint i = 0; i < n; i++) {
		g_autoptr(GByteArray) b = g_byte_array_new();

		g_byte_array_append(b, disk->all->data, disk->all->len);
		damaged[i].damage(b);
		write_file(refused, damaged[i].name, b);
	}
}

/* Writes a parent under its uuid. */
static void write_parent(const char *folder, const struct crash_disk *disk)
{
	g_autofree char *layers = g_build_filename(folder, "layers", NULL);
	char name[33];

	for (guint i = 0; i < 16; i++)
		g_snprintf(name + 2 * (gsize)i, 3, "%02x", (uint8_t)UUID[i]);
	write_file(layers, name, disk->all);
}

int main(int argc, char **argv)
{
	const char *folder = argc > 1 ? argv[1] : ".";
	g_autofree char *good = g_build_filename(folder, "good", NULL);
	struct crash_disk classic, verbatim, mapped, increment;

	make(folder, "classic", make_classic, &classic);
	make(folder, "verbatim", make_verbatim, &verbatim);
	make(folder, "mapped-ram", make_mapped, &mapped);
	crash_disk_init(&increment);
	make_increment(&increment, &classic);
	write_file(good, "increment", increment.all);
	write_parent(folder, &classic);
	damage(folder, &classic, all, G_N_ELEMENTS(all));
	damage(folder, &increment, all_of_increment,
	       G_N_ELEMENTS(all_of_increment));
	crash_disk_clear(&increment);
	crash_disk_clear(&classic);
	crash_disk_clear(&verbatim);
	crash_disk_clear(&mapped);
	return 0;
}
