/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The properties frame: records of key, length and value. A key occurs once,
 * except for blocks. An unknown key is refused, unless its top bit says that it
 * may be ignored.
 */
#include <inttypes.h>
#include <string.h>

#include "format/base/error.h"
#include "format/image/disk-internal.h"
#include "format/image/meta-internal.h"

/* ---- writing ---- */

static void put(GByteArray *out, uint16_t key, const void *value, size_t size)
{
	struct snap_disk_property head = { .key = snap_to_le16(key) };

	head.length = snap_to_le32((uint32_t)size);
	g_byte_array_append(out, (const guint8 *)&head, sizeof(head));
	g_byte_array_append(out, value, (guint)size);
}

static void put_text(GByteArray *out, uint16_t key, const char *text)
{
	if (*text)
		put(out, key, text, strlen(text));
}

static void put_block(GByteArray *out, const struct snap_block *b)
{
	uint8_t value[sizeof(struct snap_disk_block) + sizeof(b->name)];
	struct snap_disk_block d = { 0 };
	size_t name = strlen(b->name);

	d.base = snap_to_le64(b->base);
	d.length = snap_to_le64(b->length);
	d.stored = snap_to_le64(b->stored);
	d.page_size = snap_to_le64(b->page_size);
	d.gpa = snap_to_le64(b->gpa);
	d.kind = (uint8_t)b->kind;
	d.flags = b->ignored ? SNAP_DISK_BLOCK_IGNORED : 0;
	d.name_length = (uint8_t)name;
	memcpy(value, &d, sizeof(d));
	memcpy(value + sizeof(d), b->name, name);
	put(out, SNAP_DISK_KEY_BLOCK, value, sizeof(d) + name);
}

static void put_stream(GByteArray *out, const struct snap_meta *meta)
{
	struct snap_disk_stream d = { 0 };

	d.pages_at = snap_to_le64(meta->pages_at);
	d.ram_section = snap_to_le32(meta->ram_section);
	d.target_page = snap_to_le32(meta->target_page);
	d.flags = snap_to_le32(meta->footers ? SNAP_DISK_STREAM_FOOTERS : 0);
	put(out, SNAP_DISK_KEY_STREAM, &d, sizeof(d));
}

static void put_layer(GByteArray *out, const struct snap_layer *l)
{
	struct snap_disk_layer d = { 0 };

	memcpy(d.uuid, l->uuid, sizeof(d.uuid));
	d.size = snap_to_le64(l->size);
	d.used = snap_to_le64(l->used);
	d.crc32c = snap_to_le32(l->crc32c);
	put(out, SNAP_DISK_KEY_LAYER, &d, sizeof(d));
}

void *snap_properties_put(const struct snap_meta *meta, size_t *ret_size)
{
	le32 form = snap_to_le32((uint32_t)meta->form);
	le64 created = snap_to_le64(meta->created);
	struct snap_disk_frame head = { 0 };
	GByteArray *out = g_byte_array_new();

	g_byte_array_append(out, (const guint8 *)&head, sizeof(head));
	put(out, SNAP_DISK_KEY_FORM, &form, sizeof(form));
	if (meta->created)
		put(out, SNAP_DISK_KEY_CREATED, &created, sizeof(created));
	put_text(out, SNAP_DISK_KEY_MACHINE, meta->machine);
	put_text(out, SNAP_DISK_KEY_WHY, meta->why);
	if (snap_meta_split(meta))
		put_stream(out, meta);
	for (guint i = 0; i < meta->n_blocks; i++)
		put_block(out, &meta->blocks[i]);
	for (guint i = 0; i < meta->n_layers; i++)
		put_layer(out, &meta->layers[i]);
	snap_disk_put_frame((struct snap_disk_frame *)out->data,
			    SNAP_DISK_PROPERTIES, out->len);
	*ret_size = out->len;
	return g_byte_array_free(out, FALSE);
}

/* ---- reading ---- */

/* A record; its value is a cursor. */
struct record {
	uint16_t key;
	struct snap_cursor value;
};

struct parse {
	struct snap_meta *meta;
	uint32_t seen; /* keys that occur once: a bit each */
};

static int damaged(GError **error, const char *what)
{
	return snap_fail(error, EBADMSG, "properties: %s", what);
}

/* Takes a value of exactly this size. */
static bool take(struct record *rec, void *ret, size_t size)
{
	return snap_cursor_left(&rec->value) == size &&
	       snap_cursor_copy(&rec->value, ret, size);
}

/* Takes the rest of a value as text. `ret` holds 256 bytes. */
static bool take_text(struct record *rec, char *ret, size_t at_least)
{
	size_t n = snap_cursor_left(&rec->value);
	const void *text = snap_cursor_take(&rec->value, n);

	if (n < at_least || n > 255 || memchr(text, '\0', n))
		return false;
	memcpy(ret, text, n);
	ret[n] = '\0';
	return true;
}

static int get_form(struct parse *p, struct record *rec, GError **error)
{
	le32 form;

	if (!take(rec, &form, sizeof(form)))
		return damaged(error, "form");
	if (snap_le32(form) < SNAP_FORM_CLASSIC ||
	    snap_le32(form) > SNAP_FORM_MAPPED)
		return snap_fail(error, EOPNOTSUPP,
				 "form %" PRIu32 " of snapshot, which this "
				 "program does not know",
				 snap_le32(form));
	p->meta->form = (enum snap_form)snap_le32(form);
	return 0;
}

static int get_block(struct parse *p, struct record *rec, GError **error)
{
	struct snap_meta *meta = p->meta;
	struct snap_block *b;
	struct snap_disk_block d;

	if (meta->n_blocks >= SNAP_DISK_BLOCKS_MAX)
		return damaged(error, "too many blocks");
	if (!snap_cursor_copy(&rec->value, &d, sizeof(d)) ||
	    d.name_length != snap_cursor_left(&rec->value))
		return damaged(error, "block");
	if (d.flags & ~SNAP_DISK_BLOCK_IGNORED)
		return damaged(error, "block");
	for (size_t i = 0; i < sizeof(d.reserved); i++)
		if (d.reserved[i])
			return damaged(error, "block");
	if (d.kind < SNAP_BLOCK_RAM || d.kind > SNAP_BLOCK_PREAMBLE)
		return snap_fail(error, EOPNOTSUPP,
				 "a block of kind %u, which this program does "
				 "not know",
				 d.kind);
	b = snap_meta_add_block(meta, d.kind, "", snap_le64(d.length));
	if (!b)
		return snap_fail_errno(error, ENOMEM, "properties");
	if (!take_text(rec, b->name, 1))
		return damaged(error, "a block's name");
	b->base = snap_le64(d.base);
	b->stored = snap_le64(d.stored);
	b->page_size = snap_le64(d.page_size);
	b->gpa = snap_le64(d.gpa);
	b->ignored = d.flags & SNAP_DISK_BLOCK_IGNORED;
	return 0;
}

static int get_stream(struct parse *p, struct record *rec, GError **error)
{
	struct snap_disk_stream d;

	if (!take(rec, &d, sizeof(d)) || snap_le32(d.reserved) ||
	    snap_le32(d.flags) & ~SNAP_DISK_STREAM_FOOTERS)
		return damaged(error, "stream");
	p->meta->pages_at = snap_le64(d.pages_at);
	p->meta->ram_section = snap_le32(d.ram_section);
	p->meta->target_page = snap_le32(d.target_page);
	p->meta->footers = snap_le32(d.flags) & SNAP_DISK_STREAM_FOOTERS;
	return 0;
}

static int get_layer(struct parse *p, struct record *rec, GError **error)
{
	struct snap_meta *meta = p->meta;
	struct snap_layer *l = &meta->layers[meta->n_layers];
	struct snap_disk_layer d;

	if (meta->n_layers >= SNAP_LAYERS_MAX)
		return damaged(error, "too many parents");
	if (!take(rec, &d, sizeof(d)) || snap_le32(d.reserved))
		return damaged(error, "a parent");
	memcpy(l->uuid, d.uuid, sizeof(l->uuid));
	l->size = snap_le64(d.size);
	l->used = snap_le64(d.used);
	l->crc32c = snap_le32(d.crc32c);
	meta->n_layers++;
	return 0;
}

static int get_created(struct parse *p, struct record *rec, GError **error)
{
	le64 created;

	if (!take(rec, &created, sizeof(created)))
		return damaged(error, "time of creation");
	p->meta->created = snap_le64(created);
	return 0;
}

static int get_machine(struct parse *p, struct record *rec, GError **error)
{
	return take_text(rec, p->meta->machine, 0) ? 0
						   : damaged(error, "machine");
}

static int get_why(struct parse *p, struct record *rec, GError **error)
{
	return take_text(rec, p->meta->why, 0) ? 0 : damaged(error, "why");
}

static const struct {
	uint16_t key;
	bool once;
	int (*get)(struct parse *p, struct record *rec, GError **error);
} keys[] = {
	{ SNAP_DISK_KEY_FORM, true, get_form },
	{ SNAP_DISK_KEY_BLOCK, false, get_block },
	{ SNAP_DISK_KEY_STREAM, true, get_stream },
	{ SNAP_DISK_KEY_LAYER, false, get_layer },
	{ SNAP_DISK_KEY_MACHINE, true, get_machine },
	{ SNAP_DISK_KEY_CREATED, true, get_created },
	{ SNAP_DISK_KEY_WHY, true, get_why },
};

static int get_record(struct parse *p, struct record *rec, GError **error)
{
	for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
		if (keys[i].key != rec->key)
			continue;
		if (keys[i].once && p->seen >> i & 1)
			return damaged(error, "a key comes twice");
		p->seen |= 1u << i;
		return keys[i].get(p, rec, error);
	}
	if (rec->key & SNAP_DISK_KEY_IGNORABLE)
		return 0;
	return snap_fail(error, EOPNOTSUPP,
			 "property %u, which this program does not know",
			 rec->key);
}

static int get_records(struct parse *p, struct snap_cursor *c, GError **error)
{
	while (snap_cursor_left(c)) {
		struct snap_disk_property head;
		struct record rec;
		const void *value;
		int r;

		if (!snap_cursor_copy(c, &head, sizeof(head)) ||
		    snap_le16(head.reserved))
			return damaged(error, "a record's head");
		value = snap_cursor_take(c, snap_le32(head.length));
		if (!value)
			return damaged(error, "a record is cut");
		rec.key = snap_le16(head.key);
		rec.value = snap_cursor(value, snap_le32(head.length));
		r = get_record(p, &rec, error);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool was_seen(const struct parse *p, uint16_t key)
{
	for (guint i = 0; i < G_N_ELEMENTS(keys); i++)
		if (keys[i].key == key)
			return p->seen >> i & 1;
	return false;
}

int snap_properties_get(const void *frame, size_t size,
			struct snap_meta *ret_meta, GError **error)
{
	struct snap_cursor c = snap_cursor(frame, size);
	struct snap_meta meta = { 0 };
	struct parse p = { .meta = &meta };
	const struct snap_disk_frame *head =
		snap_cursor_take(&c, sizeof(*head));
	int r;

	if (!head || !snap_disk_is_frame(head, SNAP_DISK_PROPERTIES, size))
		return damaged(error, "no such frame");
	r = get_records(&p, &c, error);
	if (r == 0 &&
	    (!was_seen(&p, SNAP_DISK_KEY_FORM) ||
	     was_seen(&p, SNAP_DISK_KEY_STREAM) != snap_meta_split(&meta)))
		r = damaged(error, "form or stream is missing");
	if (r == 0)
		r = snap_meta_check(&meta, error);
	if (r < 0) {
		snap_meta_clear(&meta);
		return r;
	}
	*ret_meta = meta;
	return 0;
}
