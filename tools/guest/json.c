/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/guest/json.h"

#include "format/base/error.h"
#include "tools/guest/verbs.h"

/* The parser recurses once for each level. */
#define DEPTH_MAX 64

/* Tells whether the nesting is within the limit. The library also accepts
 * comments and single quotes, where brackets do not count; so they are refused.
 */
static bool is_shallow(const char *text, gsize size)
{
	bool quoted = false;
	guint depth = 0;

	for (gsize i = 0; i < size; i++) {
		char c = text[i];

		if (quoted && c == '\\')
			i++;
		else if (c == '"')
			quoted = !quoted;
		else if (quoted)
			continue;
		else if (c == '/' || c == '\'')
			return false;
		else if ((c == '{' || c == '[') && ++depth > DEPTH_MAX)
			return false;
		else if ((c == '}' || c == ']') && depth)
			depth--;
	}
	return true;
}

int snap_json_parse(const char *text, gsize size, JsonObject **ret,
		    GError **error)
{
	g_autoptr(JsonParser) parser = json_parser_new();
	g_autoptr(GError) cause = NULL;
	JsonNode *root;

	if (size > G_MAXSSIZE || !is_shallow(text, size))
		return snap_fail(error, EPROTO,
				 "this is not JSON, or nested too deep");
	if (!g_utf8_validate(text, (gssize)size, NULL))
		return snap_fail(error, EPROTO,
				 "this is not JSON: it is not UTF-8");
	if (!json_parser_load_from_data(parser, text, (gssize)size, &cause))
		return snap_fail(error, EPROTO, "this is not JSON: %s",
				 cause->message);
	root = json_parser_get_root(parser);
	if (!root || !JSON_NODE_HOLDS_OBJECT(root))
		return snap_fail(error, EPROTO,
				 "this is JSON, but not an object");
	*ret = json_node_dup_object(root);
	return 0;
}

/* ---- members ---- */

JsonObject *snap_json_new(const char *name, ...)
{
	JsonObject *object = json_object_new();
	va_list args;

	va_start(args, name);
	for (; name; name = va_arg(args, const char *))
		json_object_set_string_member(object, name,
					      va_arg(args, const char *));
	va_end(args);
	return object;
}

static bool is_value(JsonNode *node, GType type)
{
	return node && JSON_NODE_HOLDS_VALUE(node) &&
	       json_node_get_value_type(node) == type;
}

static JsonNode *member(JsonObject *object, const char *name)
{
	return object ? json_object_get_member(object, name) : NULL;
}

const char *snap_json_text(JsonObject *object, const char *name)
{
	JsonNode *node = member(object, name);

	return is_value(node, G_TYPE_STRING) ? json_node_get_string(node)
					     : NULL;
}

bool snap_json_bool(JsonObject *object, const char *name)
{
	JsonNode *node = member(object, name);

	return is_value(node, G_TYPE_BOOLEAN) && json_node_get_boolean(node);
}

gint64 snap_json_number(JsonObject *object, const char *name, gint64 otherwise)
{
	JsonNode *node = member(object, name);

	return is_value(node, G_TYPE_INT64) ? json_node_get_int(node)
					    : otherwise;
}

JsonObject *snap_json_object(JsonObject *object, const char *name)
{
	JsonNode *node = member(object, name);

	return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node)
						    : NULL;
}

JsonArray *snap_json_list(JsonObject *object, const char *name)
{
	JsonNode *node = member(object, name);

	return node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node)
						   : NULL;
}

/* ---- elements ---- */

guint snap_json_length(JsonArray *list)
{
	return list ? json_array_get_length(list) : 0;
}

JsonObject *snap_json_at(JsonArray *list, guint i)
{
	JsonNode *node = json_array_get_element(list, i);

	return JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

const char *snap_json_text_at(JsonArray *list, guint i)
{
	JsonNode *node = json_array_get_element(list, i);

	return is_value(node, G_TYPE_STRING) ? json_node_get_string(node)
					     : NULL;
}

/* The library that runs does not tell its version. */
char *snap_json_library(void)
{
	return g_strdup("json-glib " JSON_VERSION_S " (when built)");
}
