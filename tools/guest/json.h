/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON for QEMU, and from QEMU and vm.json. What is read is not trusted: the
 * depth is limited, and a member may be missing or of another type.
 */
#pragma once

#include <json-glib/json-glib.h>
#include <stdbool.h>

/* Parses an object. Returns 0, or -EPROTO if the text is none. */
int snap_json_parse(const char *text, gsize size, JsonObject **ret,
		    GError **error);

/* Makes an object of text members: name, value, name, value, …, NULL. */
JsonObject *snap_json_new(const char *name, ...) G_GNUC_NULL_TERMINATED;

/* Gets a text member; NULL if there is none. */
const char *snap_json_text(JsonObject *object, const char *name);

/* Gets a boolean member; false if there is none. */
bool snap_json_bool(JsonObject *object, const char *name);

/* Gets an integer member; `otherwise` if there is none. */
gint64 snap_json_number(JsonObject *object, const char *name, gint64 otherwise);

/* Gets an object member; NULL if there is none. */
JsonObject *snap_json_object(JsonObject *object, const char *name);

/* Gets a list member; NULL if there is none. */
JsonArray *snap_json_list(JsonObject *object, const char *name);

/* Counts the elements of a list; 0 for NULL. */
guint snap_json_length(JsonArray *list);

/* Gets an element that is an object; NULL if it is of another type. */
JsonObject *snap_json_at(JsonArray *list, guint i);

/* Gets an element that is a text; NULL if it is of another type. */
const char *snap_json_text_at(JsonArray *list, guint i);
