/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of pages that a guest needed first; hot.h describes its text. */
#include "format/qemu/hot.h"

#include <inttypes.h>
#include <string.h>

#include "format/base/units.h"

GArray *snap_hot_new(void)
{
	return g_array_new(FALSE, FALSE, sizeof(struct snap_hot_run));
}

static struct snap_hot_run hot_run(const GArray *runs, guint i)
{
	return g_array_index(runs, struct snap_hot_run, i);
}

void snap_hot_add(GArray *runs, guint block, uint64_t offset, uint64_t pages)
{
	struct snap_hot_run run = { block, offset, pages };

	if (runs->len) {
		struct snap_hot_run *last = &g_array_index(
			runs, struct snap_hot_run, runs->len - 1);

		if (last->block == block &&
		    last->offset + last->pages * SNAP_PAGE == offset) {
			last->pages += pages;
			return;
		}
	}
	g_array_append_val(runs, run);
}

uint64_t snap_hot_pages(const GArray *runs)
{
	uint64_t pages = 0;

	for (guint i = 0; i < runs->len; i++)
		pages += hot_run(runs, i).pages;
	return pages;
}

/* Finds the block that a line names, or -1. */
static int find_block(const char *word, const struct snap_ramlist *ram)
{
	char name[256];
	size_t length = 0;

	for (; *word; word++) {
		char c = *word;

		if (length == sizeof(name))
			return -1;
		if (c == '%') {
			int high = g_ascii_xdigit_value(word[1]);
			int low = high < 0 ? -1 : g_ascii_xdigit_value(word[2]);

			if (low < 0)
				return -1;
			c = (char)(high << 4 | low);
			word += 2;
		}
		name[length++] = c;
	}
	return snap_ramlist_find(ram, name, length);
}

/* Adds the pages of a line that lie in their block, at most `room`. Returns
 * their number. */
static uint64_t parse_line(char *line, const struct snap_ramlist *ram,
			   uint64_t room, GArray *runs)
{
	char *save = NULL, *offset_end, *pages_end;
	const char *name = strtok_r(line, " ", &save);
	const char *offset_word = name ? strtok_r(NULL, " ", &save) : NULL;
	const char *pages_word =
		offset_word ? strtok_r(NULL, " ", &save) : NULL;
	uint64_t offset, pages;
	int block;

	if (!pages_word || strtok_r(NULL, " ", &save))
		return 0;
	offset = g_ascii_strtoull(offset_word, &offset_end, 16);
	pages = g_ascii_strtoull(pages_word, &pages_end, 10);
	block = find_block(name, ram);
	if (block < 0 || *offset_end || *pages_end || offset % SNAP_PAGE ||
	    offset >= ram->blocks[block].length)
		return 0;
	pages = MIN(pages, (ram->blocks[block].length - offset) / SNAP_PAGE);
	pages = MIN(pages, room);
	if (pages)
		snap_hot_add(runs, (guint)block, offset, pages);
	return pages;
}

GArray *snap_hot_parse(const char *text, size_t size,
		       const struct snap_ramlist *ram)
{
	const char *at = text, *end = text + size, *newline;
	size_t header = strlen(SNAP_HOT_HEADER);
	GArray *runs = snap_hot_new();
	uint64_t pages = 0;

	if (size < header || memcmp(text, SNAP_HOT_HEADER, header) != 0)
		return runs;
	at += header;
	while (pages < SNAP_HOT_PAGES_MAX &&
	       (newline = memchr(at, '\n', (size_t)(end - at)))) {
		g_autofree char *line = g_strndup(at, (gsize)(newline - at));

		pages +=
			parse_line(line, ram, SNAP_HOT_PAGES_MAX - pages, runs);
		at = newline + 1;
	}
	return runs;
}

static void format_name(GString *out, const char *name)
{
	for (; *name; name++) {
		if (g_ascii_isgraph(*name) && *name != '%')
			g_string_append_c(out, *name);
		else
			g_string_append_printf(out, "%%%02x", (uint8_t)*name);
	}
}

char *snap_hot_format(const GArray *runs, const struct snap_ramlist *ram)
{
	GString *out = g_string_new(SNAP_HOT_HEADER);

	for (guint i = 0; i < runs->len; i++) {
		struct snap_hot_run run = hot_run(runs, i);

		format_name(out, ram->blocks[run.block].name);
		g_string_append_printf(out, " 0x%" PRIx64 " %" PRIu64 "\n",
				       run.offset, run.pages);
	}
	return g_string_free(out, FALSE);
}

/* A page's number in flat RAM, as a hash table's key: never NULL. */
static gpointer page_key(const struct snap_ramlist *ram,
			 const struct snap_hot_run *run, uint64_t page)
{
	uint64_t flat = ram->blocks[run->block].flat + run->offset;

	return (gpointer)(uintptr_t)(flat / SNAP_PAGE + page + 1);
}

/* Adds the pages of `from` that are not in `seen`, at most `room`. */
static void add_unseen(GArray *to, const GArray *from, GHashTable *seen,
		       uint64_t room, const struct snap_ramlist *ram)
{
	for (guint i = 0; i < from->len; i++) {
		struct snap_hot_run run = hot_run(from, i);

		for (uint64_t n = 0; n < run.pages && room; n++) {
			if (!g_hash_table_add(seen, page_key(ram, &run, n)))
				continue;
			snap_hot_add(to, run.block, run.offset + n * SNAP_PAGE,
				     1);
			room--;
		}
	}
}

GArray *snap_hot_merge(const GArray *known, const GArray *asked,
		       const struct snap_ramlist *ram)
{
	g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
	g_autoptr(GArray) fresh = snap_hot_new();
	GArray *merged = snap_hot_new();
	uint64_t room = SNAP_HOT_PAGES_MAX;

	add_unseen(merged, known, seen, SNAP_HOT_PAGES_MAX, ram);
	room -= MIN(snap_hot_pages(merged), SNAP_HOT_PAGES_MAX / 2);
	add_unseen(fresh, asked, seen, room, ram);
	g_hash_table_remove_all(seen);
	g_array_set_size(merged, 0);
	add_unseen(merged, known, seen,
		   SNAP_HOT_PAGES_MAX - snap_hot_pages(fresh), ram);
	add_unseen(merged, fresh, seen, SNAP_HOT_PAGES_MAX, ram);
	return merged;
}
