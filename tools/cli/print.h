/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What snapfs prints: lines, tables and errors. Names come from outside, so
 * each text is made safe: it cannot act as a command to the terminal.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Tells whether a terminal could take a character for a command. */
bool snap_print_is_control(gunichar c);

/* Makes a text safe: control characters and bytes that are not UTF-8 become
 * \xNN; g_free. */
char *snap_print_safe(const char *text);

/* Prints "snapfs: SENTENCE" to standard error. */
void snap_print_error(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Prints "LABEL:     VALUE" to standard output. */
void snap_print_field(const char *label, const char *format, ...)
	G_GNUC_PRINTF(2, 3);

/* Writes a time (ns since 1970) as local time, for people; g_free. */
char *snap_print_time(uint64_t ns);

/* Writes a time (ns since 1970) in UTC by ISO 8601, for programs; g_free. */
char *snap_print_time_iso(uint64_t ns);

/* Writes large / small as "2.66", or "-" if one of them is 0; g_free. */
char *snap_print_ratio(uint64_t large, uint64_t small);

typedef struct SnapTable SnapTable;

/* Makes a table with these headings, of which NULL is the last; a heading that
 * begins with '>' makes its column flush right. */
SnapTable *snap_table_new(const char *const *headings);

/* Adds a row with one cell for each heading; the cells are copied. */
void snap_table_add(SnapTable *table, const char *const *cells);

/* Counts the rows so far. */
guint snap_table_rows(const SnapTable *table);

/* Prints the table to standard output. */
void snap_table_print(const SnapTable *table);
void snap_table_free(SnapTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapTable, snap_table_free)
