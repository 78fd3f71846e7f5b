/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON that others wrote: QEMU's answers, and the file beside a snapshot. Its
 * depth is bounded, and no member is taken to be there, or to be what it should
 * be.
 */
#pragma once

#include <json-glib/json-glib.h>
#include <stdbool.h>

/* An object from text. -EPROTO where it is none. */
int snap_json_parse(const char *text, gsize size, JsonObject **ret,
		    GError **error);

/* Members; without one of that kind NULL, false, or `otherwise`. */
const char *snap_json_text(JsonObject *object, const char *name);
bool snap_json_bool(JsonObject *object, const char *name);
gint64 snap_json_number(JsonObject *object, const char *name, gint64 otherwise);
JsonObject *snap_json_object(JsonObject *object, const char *name);
JsonArray *snap_json_list(JsonObject *object, const char *name);

/* Elements of a list, which may be NULL: how many, and one as an object or as
 * text, or NULL. */
guint snap_json_length(JsonArray *list);
JsonObject *snap_json_at(JsonArray *list, guint i);
const char *snap_json_text_at(JsonArray *list, guint i);
