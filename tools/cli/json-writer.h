/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes JSON: one object, with two spaces for each level. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct SnapJsonWriter SnapJsonWriter;

/* Starts the document: its outermost object is open. */
SnapJsonWriter *snap_json_writer_new(void);
void snap_json_writer_free(SnapJsonWriter *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapJsonWriter, snap_json_writer_free)

/* The functions below add to the innermost open object or list. `key` is the
 * member's name; it is NULL in a list. */

/* Adds a text; bytes that are not UTF-8 are written as \xNN. */
void snap_json_writer_text(SnapJsonWriter *w, const char *key,
			   const char *value);

/* Adds a name to an object; if it is not UTF-8, also adds the member
 * `key`_base64 with its bytes. */
void snap_json_writer_name(SnapJsonWriter *w, const char *key,
			   const char *value);

/* Adds a number. */
void snap_json_writer_number(SnapJsonWriter *w, const char *key,
			     uint64_t value);

/* Adds true or false. */
void snap_json_writer_bool(SnapJsonWriter *w, const char *key, bool value);

/* Opens an object. */
void snap_json_writer_object(SnapJsonWriter *w, const char *key);

/* Opens a list. */
void snap_json_writer_list(SnapJsonWriter *w, const char *key);

/* Closes the innermost object or list. */
void snap_json_writer_end(SnapJsonWriter *w);

/* Closes all that is open and returns the document; g_free. */
char *snap_json_writer_finish(SnapJsonWriter *w);
