/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The properties of a snapshot and their rules.
 *
 * The blocks lie one after the other, each on a 2 MiB boundary. In the classic
 * and mapped-ram forms they are the RAM blocks and the device state, in the
 * verbatim form the stream. The preamble may follow.
 */
#include <inttypes.h>
#include <string.h>

#include "format/base/error.h"
#include "format/image/disk-internal.h"
#include "format/image/meta-internal.h"

#define SPACE_MAX (SNAP_DISK_REGIONS_MAX * SNAP_REGION)

void snap_meta_clear(struct snap_meta *meta)
{
	g_clear_pointer(&meta->blocks, g_free);
	meta->n_blocks = 0;
}

/* The end of the page space in bytes. */
static uint64_t space_end(const struct snap_meta *meta)
{
	const struct snap_block *last;

	if (!meta->n_blocks)
		return 0;
	last = &meta->blocks[meta->n_blocks - 1];
	return last->base + last->length;
}

struct snap_block *snap_meta_add_block(struct snap_meta *meta,
				       enum snap_block_kind kind,
				       const char *name, uint64_t length)
{
	uint64_t base = snap_round_up(space_end(meta), SNAP_REGION);
	struct snap_block *b;

	b = g_try_renew(struct snap_block, meta->blocks, meta->n_blocks + 1);
	if (!b)
		return NULL;
	meta->blocks = b;
	b = &meta->blocks[meta->n_blocks++];
	memset(b, 0, sizeof(*b));
	b->kind = kind;
	g_strlcpy(b->name, name, sizeof(b->name));
	b->base = base;
	b->length = length;
	return b;
}

const struct snap_block *snap_meta_find(const struct snap_meta *meta,
					enum snap_block_kind kind)
{
	for (guint i = 0; i < meta->n_blocks; i++)
		if (meta->blocks[i].kind == kind)
			return &meta->blocks[i];
	return NULL;
}

void snap_uuid_text(const uint8_t uuid[16], char ret[SNAP_UUID_TEXT])
{
	const uint8_t *u = uuid;

	g_snprintf(ret, SNAP_UUID_TEXT,
		   "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
		   "%02x%02x%02x%02x%02x%02x",
		   u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9],
		   u[10], u[11], u[12], u[13], u[14], u[15]);
}

char *snap_uuid_dup(const uint8_t uuid[16])
{
	char text[SNAP_UUID_TEXT];

	snap_uuid_text(uuid, text);
	return g_strdup(text);
}

char *snap_meta_parents(const struct snap_meta *meta)
{
	GString *text = g_string_new(NULL);

	for (guint i = 0; i < meta->n_layers; i++) {
		char uuid[SNAP_UUID_TEXT];

		snap_uuid_text(meta->layers[i].uuid, uuid);
		g_string_append_printf(text, "%s%s", i ? "\n" : "", uuid);
	}
	return g_string_free(text, !text->len);
}

const char *snap_form_name(enum snap_form form)
{
	switch (form) {
	case SNAP_FORM_CLASSIC:
		return "classic";
	case SNAP_FORM_VERBATIM:
		return "verbatim";
	case SNAP_FORM_MAPPED:
		return "mapped-ram";
	}
	return "unknown";
}

uint64_t snap_meta_end(const struct snap_meta *meta, enum snap_block_kind kind)
{
	for (guint i = meta->n_blocks; i > 0; i--)
		if (meta->blocks[i - 1].kind == kind)
			return meta->blocks[i - 1].base +
			       meta->blocks[i - 1].length;
	return 0;
}

uint64_t snap_meta_regions(const struct snap_meta *meta)
{
	return snap_div_up(space_end(meta), SNAP_REGION);
}

/* ---- the rules ---- */

/* Checks a block. *base is where it must begin, and becomes where the next one
 * must begin. */
static int check_block(const struct snap_block *b, uint64_t *base,
		       GError **error)
{
	if (!*b->name)
		return snap_fail(error, EBADMSG, "a block without a name");
	if (b->base != *base || b->length > SPACE_MAX - *base)
		return snap_fail(error, EBADMSG,
				 "block %s: %" PRIu64 " bytes at %" PRIu64
				 ", expected at %" PRIu64,
				 b->name, b->length, b->base, *base);
	if (b->stored % SNAP_PAGE ||
	    b->stored > snap_round_up(b->length, SNAP_PAGE))
		return snap_fail(error, EBADMSG,
				 "block %s: %" PRIu64
				 " bytes stored of %" PRIu64,
				 b->name, b->stored, b->length);
	if (b->ignored && (b->kind != SNAP_BLOCK_RAM || b->stored))
		return snap_fail(error, EBADMSG,
				 "block %s: pages that lie elsewhere", b->name);
	*base = snap_round_up(b->base + b->length, SNAP_REGION);
	return 0;
}

static int check_stream(const struct snap_meta *meta, GError **error)
{
	const struct snap_block *state = snap_meta_find(meta, SNAP_BLOCK_STATE);
	uint32_t page = meta->target_page;

	if (page < SNAP_PAGE || page > 65536 || (page & (page - 1)))
		return snap_fail(error, EBADMSG,
				 "target pages of %" PRIu32 " bytes", page);
	if (meta->pages_at > state->length)
		return snap_fail(error, EBADMSG,
				 "pages at %" PRIu64 " of %" PRIu64
				 " bytes of device state",
				 meta->pages_at, state->length);
	return 0;
}

/* The number of blocks without the preamble. */
static guint blocks_needed(const struct snap_meta *meta)
{
	guint n = meta->n_blocks;

	return n && meta->blocks[n - 1].kind == SNAP_BLOCK_PREAMBLE ? n - 1 : n;
}

/* The kind that block `i` of `n` must have. */
static enum snap_block_kind kind_at(enum snap_form form, guint i, guint n)
{
	if (i == n)
		return SNAP_BLOCK_PREAMBLE;
	if (form == SNAP_FORM_VERBATIM)
		return SNAP_BLOCK_STREAM;
	return i + 1 < n ? SNAP_BLOCK_RAM : SNAP_BLOCK_STATE;
}

/* No parent comes twice, and something of each is in use. */
static int check_layers(const struct snap_meta *meta, GError **error)
{
	const uint64_t least = sizeof(struct snap_disk_superblock) +
			       sizeof(struct snap_disk_trailer);

	for (guint i = 0; i < meta->n_layers; i++) {
		const struct snap_layer *l = &meta->layers[i];
		bool is_wrong = l->size < least ||
				l->size > (uint64_t)1 << SNAP_DISK_WHERE_BITS ||
				!l->used || l->used > l->size - least;

		for (guint j = 0; j < i; j++)
			is_wrong |= !memcmp(l->uuid, meta->layers[j].uuid,
					    sizeof(l->uuid));
		if (is_wrong)
			return snap_fail(error, EBADMSG,
					 "parent %u: its record is wrong",
					 i + 1);
	}
	return 0;
}

int snap_meta_check(const struct snap_meta *meta, GError **error)
{
	guint needed = blocks_needed(meta);
	uint64_t base = 0;
	int r;

	if (meta->form < SNAP_FORM_CLASSIC || meta->form > SNAP_FORM_MAPPED)
		return snap_fail(error, EBADMSG, "form %d of snapshot",
				 (int)meta->form);
	if (needed < 1 || meta->n_blocks > SNAP_DISK_BLOCKS_MAX ||
	    (meta->form == SNAP_FORM_VERBATIM && needed != 1))
		return snap_fail(error, EBADMSG, "%u blocks", meta->n_blocks);
	for (guint i = 0; i < meta->n_blocks; i++) {
		const struct snap_block *b = &meta->blocks[i];

		if (b->kind != kind_at(meta->form, i, needed))
			return snap_fail(error, EBADMSG,
					 "block %s: of kind %d, in this place",
					 b->name, (int)b->kind);
		r = check_block(b, &base, error);
		if (r < 0)
			return r;
	}
	r = snap_meta_split(meta) ? check_stream(meta, error) : 0;
	return r < 0 ? r : check_layers(meta, error);
}
