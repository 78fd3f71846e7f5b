/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The extended attributes user.snapfs.* of a snapshot: a line in a table each.
 */
#include "fs/view/view-internal.h"

#include <string.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"

#define OURS "user.snapfs."

/* The sources of an attribute. */
struct about {
	const SnapSealed *sealed;     /* NULL: no snapshot */
	const struct snap_meta *meta; /* NULL: it cannot be read */
	SnapNode *folder;
};

static char *number(uint64_t n)
{
	return g_strdup_printf("%" G_GUINT64_FORMAT, n);
}

/* Each of these returns the value of an attribute, or NULL. */

static char *get_form(const struct about *a)
{
	if (!a->meta)
		return NULL;
	return g_strdup(snap_form_name(a->meta->form));
}

static char *get_why(const struct about *a)
{
	return a->meta && *a->meta->why ? g_strdup(a->meta->why) : NULL;
}

static char *get_uuid(const struct about *a)
{
	return a->meta ? snap_uuid_dup(a->meta->uuid) : NULL;
}

static char *get_parents(const struct about *a)
{
	return a->meta ? snap_meta_parents(a->meta) : NULL;
}

static char *get_created(const struct about *a)
{
	g_autoptr(GDateTime) t = NULL;

	if (!a->meta || !a->meta->created)
		return NULL;
	t = g_date_time_new_from_unix_utc(
		(gint64)(a->meta->created / 1000000000));
	return t ? g_date_time_format(t, "%Y-%m-%dT%H:%M:%SZ") : NULL;
}

static char *get_machine(const struct about *a)
{
	return a->meta && *a->meta->machine ? g_strdup(a->meta->machine) : NULL;
}

/* Bytes of the blocks, or with `stored` of their pages that are stored. */
static uint64_t sum_blocks(const struct about *a, bool ram_only, bool stored)
{
	uint64_t sum = 0;

	for (guint i = 0; i < a->meta->n_blocks; i++) {
		const struct snap_block *b = &a->meta->blocks[i];

		if (!ram_only || b->kind == SNAP_BLOCK_RAM)
			sum += stored ? b->stored : b->length;
	}
	return sum;
}

static char *get_preamble(const struct about *a)
{
	uint64_t size = a->sealed ? snap_preamble_size(a->sealed) : 0;

	return size ? number(size) : NULL;
}

static char *get_logical(const struct about *a)
{
	return a->meta ? number(sum_blocks(a, false, false)) : NULL;
}

static char *get_physical(const struct about *a)
{
	return a->sealed ? number(a->sealed->key.size) : NULL;
}

static char *get_ratio(const struct about *a)
{
	char text[G_ASCII_DTOSTR_BUF_SIZE];

	if (!a->meta || !a->sealed->key.size)
		return NULL;
	g_ascii_formatd(text, sizeof(text), "%.2f",
			(double)sum_blocks(a, false, false) /
				(double)a->sealed->key.size);
	return g_strdup(text);
}

static char *get_ram(const struct about *a)
{
	if (!a->meta || !snap_meta_split(a->meta))
		return NULL;
	return number(sum_blocks(a, true, false));
}

static char *get_pages(const struct about *a)
{
	if (!a->meta || !snap_meta_split(a->meta))
		return NULL;
	return number(sum_blocks(a, true, false) / SNAP_PAGE);
}

static char *get_pages_zero(const struct about *a)
{
	if (!a->meta || !snap_meta_split(a->meta))
		return NULL;
	return number((sum_blocks(a, true, false) - sum_blocks(a, true, true)) /
		      SNAP_PAGE);
}

static char *get_error(const struct about *a)
{
	snap_autofd int at = -1;

	if (a->sealed && a->sealed->why)
		return g_strdup(a->sealed->why);
	at = snap_store_open(a->folder);
	return snap_catalog_noted(at);
}

struct attribute {
	const char *name; /* without OURS */
	char *(*get)(const struct about *a);
	bool local;
};

/* The preamble is local, as it may be copied after the rest; and so is
 * `logical`, which counts it. */
static const struct attribute attributes[] = {
	{ "form", get_form },
	{ "why", get_why },
	{ "uuid", get_uuid, .local = true },
	{ "parents", get_parents, .local = true },
	{ "created", get_created, .local = true },
	{ "machine", get_machine },
	{ "preamble", get_preamble, .local = true },
	{ "logical", get_logical, .local = true },
	{ "physical", get_physical, .local = true },
	{ "ratio", get_ratio, .local = true },
	{ "ram", get_ram },
	{ "pages", get_pages },
	{ "pages_zero", get_pages_zero },
	{ "error", get_error, .local = true },
};

static struct about about(const SnapSealed *sealed, SnapNode *folder)
{
	return (struct about){ .sealed = sealed,
			       .meta = sealed ? snap_sealed_meta(sealed) : NULL,
			       .folder = folder };
}

bool snap_attribute_is(const char *name)
{
	return g_str_has_prefix(name, OURS);
}

static const struct attribute *find(const char *name)
{
	if (!snap_attribute_is(name))
		return NULL;
	for (guint i = 0; i < G_N_ELEMENTS(attributes); i++)
		if (!strcmp(name + strlen(OURS), attributes[i].name))
			return &attributes[i];
	return NULL;
}

bool snap_attribute_is_local(const char *name)
{
	const struct attribute *attribute = find(name);

	return attribute && attribute->local;
}

char *snap_attribute_get(const SnapSealed *sealed, SnapNode *folder,
			 const char *name)
{
	const struct attribute *attribute = find(name);
	struct about a = about(sealed, folder);

	return attribute ? attribute->get(&a) : NULL;
}

void snap_attribute_list(const SnapSealed *sealed, SnapNode *folder,
			 GString *names)
{
	struct about a = about(sealed, folder);

	for (guint i = 0; i < G_N_ELEMENTS(attributes); i++) {
		g_autofree char *value = attributes[i].get(&a);

		if (value)
			g_string_append_printf(names, OURS "%s%c",
					       attributes[i].name, '\0');
	}
}
