/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/qemu/describe.h"

#include <glib.h>
#include <string.h>

#include "format/qemu/wire.h"

#define BEGIN "{\"configuration\": {"
#define LIST "\"subsections\": ["
#define CAPS "{\"vmsd_name\": \"" WIRE_CONFIG_CAPS "\", "
#define PAGE_BITS "{\"vmsd_name\": \"" WIRE_CONFIG_PAGE_BITS "\", "
#define ELEMENT                                                                \
	CAPS "\"version\": 1, \"fields\": [{\"name\": \"caps_count\", "        \
	     "\"type\": \"uint32\", \"size\": 4}, {\"name\": "                 \
	     "\"capabilities\", \"type\": \"capability\", \"size\": 11}]}"
#define LENGTH (sizeof(ELEMENT) - 1)

G_STATIC_ASSERT(sizeof(", " LIST ELEMENT "]") <= SNAP_DESCRIPTION_CHANGE_MAX);

/* The object that describes the configuration, as offsets in the text. */
struct config {
	size_t end;   /* of its closing brace */
	size_t list;  /* behind the bracket of its subsections; 0: none */
	size_t caps;  /* of the known element; 0: none */
	bool foreign; /* there is another list of capabilities */
};

/* The offset of the bracket that closes the one at `at`; `size`: none. */
static size_t find_close(const char *text, size_t size, size_t at)
{
	size_t depth = 0;
	bool quoted = false;

	for (; at < size; at++) {
		char c = text[at];

		if (quoted && c == '\\')
			at++;
		else if (c == '"')
			quoted = !quoted;
		else if (!quoted && (c == '{' || c == '['))
			depth++;
		else if (!quoted && (c == '}' || c == ']') && --depth == 0)
			break;
	}
	return MIN(at, size);
}

/* The offset of `what` in [from, to) of the text; 0: it is not there. */
static size_t find(const char *text, size_t from, size_t to, const char *what)
{
	const char *found = memmem(text + from, to - from, what, strlen(what));

	return found ? (size_t)(found - text) : 0;
}

static bool stands(const char *text, size_t size, size_t at, const char *what)
{
	size_t n = strlen(what);

	return at <= size && size - at >= n && memcmp(text + at, what, n) == 0;
}

static bool read_config(const char *text, size_t size, struct config *ret)
{
	struct config c = { 0 };
	size_t begin = strlen(BEGIN), list;

	if (!stands(text, size, 0, BEGIN))
		return false;
	c.end = find_close(text, size, begin - 1);
	if (c.end == size)
		return false;
	list = find(text, begin, c.end, LIST);
	c.list = list ? list + strlen(LIST) : 0;
	c.caps = list ? find(text, c.list, c.end, ELEMENT) : 0;
	c.foreign = list && !c.caps && find(text, c.list, c.end, CAPS);
	*ret = c;
	return true;
}

static bool change(struct snap_description_change *ret, size_t from, size_t to,
		   const char *bytes)
{
	ret->from = from;
	ret->to = to;
	ret->size = strlen(bytes);
	memcpy(ret->bytes, bytes, ret->size);
	return true;
}

/* The element with the comma that stands between it and its neighbour. */
static void with_comma(const char *text, const struct config *c,
		       size_t *ret_from, size_t *ret_to)
{
	size_t from = c->caps, to = from + LENGTH;

	if (stands(text, c->end, from - 2, ", "))
		from -= 2;
	else if (stands(text, c->end, to, ", "))
		to += 2;
	*ret_from = from;
	*ret_to = to;
}

bool snap_description_hide(const void *data, size_t size,
			   struct snap_description_change *ret)
{
	struct config c;
	size_t from, to;

	if (!read_config(data, size, &c) || !c.caps)
		return false;
	with_comma(data, &c, &from, &to);
	ret->from = from;
	ret->to = to;
	ret->size = to - from;
	memset(ret->bytes, ' ', ret->size);
	return true;
}

/* Shows what was hidden behind the spaces at `at`. */
static bool show_again(const char *text, const struct config *c, size_t at,
		       struct snap_description_change *ret)
{
	size_t end = at;

	while (end < c->end && text[end] == ' ')
		end++;
	if (end - at == LENGTH)
		return change(ret, at, end, ELEMENT);
	if (end - at != LENGTH + 2)
		return false;
	return change(ret, at, end,
		      text[at - 1] == '}' ? ", " ELEMENT : ELEMENT ", ");
}

bool snap_description_show(const void *data, size_t size,
			   struct snap_description_change *ret)
{
	const char *text = data;
	g_autofree char *spaces = g_strnfill(LENGTH, ' ');
	struct config c;
	size_t at;

	if (!read_config(text, size, &c) || c.caps || c.foreign)
		return false;
	if (!c.list)
		return change(ret, c.end, c.end, ", " LIST ELEMENT "]");
	at = find(text, c.list, c.end, spaces);
	if (at)
		return show_again(text, &c, at, ret);
	/* The configuration has the list behind the target page's bits. */
	if (stands(text, c.end, c.list, PAGE_BITS)) {
		at = find_close(text, c.end, c.list) + 1;
		return at <= c.end && change(ret, at, at, ", " ELEMENT);
	}
	return text[c.list] == '{' && change(ret, c.list, c.list, ELEMENT ", ");
}

bool snap_description_drop(const void *data, size_t size,
			   struct snap_description_change *ret)
{
	const char *text = data;
	struct config c;
	size_t from, to;

	if (!read_config(text, size, &c) || !c.caps)
		return false;
	with_comma(text, &c, &from, &to);
	if (to - from == LENGTH) {
		from = c.list - strlen(", " LIST);
		to += 1;
	}
	return change(ret, from, to, "");
}
