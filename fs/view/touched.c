/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages of a mapped file a process has touched: those it has in its page
 * tables, as /proc/PID/maps and /proc/PID/pagemap tell (proc(5), and the
 * kernel's Documentation/admin-guide/mm/pagemap.rst for the bits).
 *
 * The kernel maps up to 64 KiB around a page that is touched, as far as that is
 * in memory (fault_around_bytes); so that is how exact it is.
 */
#include "fs/view/view-internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PAGEMAP_SWAPPED ((uint64_t)1 << 62)
#define PAGEMAP_PRESENT ((uint64_t)1 << 63)

/* Entries that are read at once: 128 KiB. */
#define ENTRIES 16384u

struct mapping {
	uint64_t start; /* addresses */
	uint64_t end;
	uint64_t offset; /* in the file, of the start */
};

/* Reads what a line of maps says of a mapping of that inode. */
static bool parse_mapping(const char *line, uint64_t ino, struct mapping *ret)
{
	uint64_t found;

	return sscanf(line,
		      "%" SCNx64 "-%" SCNx64 " %*4s %" SCNx64
		      " %*x:%*x %" SCNu64,
		      &ret->start, &ret->end, &ret->offset, &found) == 4 &&
	       found == ino && ret->start < ret->end;
}

/* Notes the units of the file that have a page in these entries, which begin at
 * `offset`. */
static void note_entries(const uint64_t *entries, size_t n, uint64_t offset,
			 uint64_t page, GArray *units)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t unit = (offset + i * page) / SNAP_HOT_UNIT;
		uint64_t last = units->len ? g_array_index(units, uint64_t,
							   units->len - 1)
					   : UINT64_MAX;

		if (entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED) &&
		    unit != last)
			g_array_append_val(units, unit);
	}
}

static void scan_mapping(int pagemap, const struct mapping *m, GArray *units)
{
	g_autofree uint64_t *entries = g_new(uint64_t, ENTRIES);
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t at = m->start;

	while (at < m->end) {
		size_t want = MIN(ENTRIES, (m->end - at) / page);
		ssize_t n = pread(pagemap, entries, want * sizeof(*entries),
				  (off_t)(at / page * sizeof(*entries)));
		size_t got = n > 0 ? (size_t)n / sizeof(*entries) : 0;

		if (got == 0)
			return;
		note_entries(entries, got, at - m->start + m->offset, page,
			     units);
		at += got * page;
	}
}

static FILE *open_proc(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return fopen(path, "re");
}

GArray *snap_touched_units(pid_t pid, uint64_t ino)
{
	GArray *units = g_array_new(FALSE, FALSE, sizeof(uint64_t));
	FILE *maps = open_proc(pid, "maps");
	FILE *pagemap = open_proc(pid, "pagemap");
	bool mapped = false;
	struct mapping m;
	size_t room = 0;
	char *line = NULL;

	while (maps && pagemap && getline(&line, &room, maps) > 0) {
		if (!parse_mapping(line, ino, &m))
			continue;
		mapped = true;
		scan_mapping(fileno(pagemap), &m, units);
	}
	free(line);
	if (maps)
		(void)fclose(maps);
	if (pagemap)
		(void)fclose(pagemap);
	if (!mapped)
		g_clear_pointer(&units, g_array_unref);
	return units;
}
