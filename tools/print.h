/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What snapfs prints: tables, JSON and errors. Names are foreign bytes, and
 * none reaches a terminal that could take it for a command.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Text fit for a terminal and for JSON: control characters and bytes that are
 * no UTF-8 are written \xNN. g_free. */
char *snap_print_safe(const char *text);

/* "snapfs: sentence", to standard error. */
void snap_print_error(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* "Label:     value", to standard output. */
void snap_print_field(const char *label, const char *format, ...)
	G_GNUC_PRINTF(2, 3);

/* A time (ns since 1970) as people read it, or as programs do; g_free. */
char *snap_print_time(uint64_t ns);
char *snap_print_time_iso(uint64_t ns);

/* How many times smaller `small` is than `large`: "2.66", or "-" where that
 * means nothing; g_free. */
char *snap_print_ratio(uint64_t large, uint64_t small);

/* ---- tables ---- */

typedef struct SnapTable SnapTable;

/* A table with these headings, NULL behind the last; columns whose heading
 * begins with '>' are set flush right. */
SnapTable *snap_table_new(const char *const *headings);

/* Adds a row of as many cells as there are headings; they are copied. */
void snap_table_add(SnapTable *table, const char *const *cells);

/* Rows so far. */
guint snap_table_rows(const SnapTable *table);

/* Prints it to standard output. */
void snap_table_print(const SnapTable *table);
void snap_table_free(SnapTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapTable, snap_table_free)

/* ---- JSON ---- */

typedef struct SnapJson SnapJson;

/* A document, in which an object has been begun. */
SnapJson *snap_json_new(void);
void snap_json_free(SnapJson *json);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapJson, snap_json_free)

/* Members of the object that was begun last (`key` NULL: elements of the
 * list). Text is made safe. */
void snap_json_text(SnapJson *json, const char *key, const char *value);
void snap_json_number(SnapJson *json, const char *key, uint64_t value);
void snap_json_bool(SnapJson *json, const char *key, bool value);
/* Begins an object or a list, which is then the innermost. */
void snap_json_object(SnapJson *json, const char *key);
void snap_json_list(SnapJson *json, const char *key);
/* Ends the innermost object or list. */
void snap_json_end(SnapJson *json);

/* A name: member `key`; where it is not UTF-8, also `key`_base64, its true
 * bytes. */
void snap_json_name(SnapJson *json, const char *key, const char *value);

/* Ends the document and prints it to standard output. */
void snap_json_print(SnapJson *json);
