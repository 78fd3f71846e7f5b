/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extended attributes: those of ordinary files and folders are the store's;
 * user.snapfs.* are ours, on the views of a snapshot and on its folder, and
 * nobody can set them.
 */
#include "fs/view/writing-internal.h"

#include <string.h>
#include <sys/xattr.h>

#include "format/base/error.h"

#define OURS "user.snapfs."

/* What an attribute is made of. */
struct about {
	const SnapSealed *sealed;     /* NULL without a snapshot */
	const struct snap_meta *meta; /* NULL when it cannot be read */
	SnapNode *folder;
};

static char *number(uint64_t n)
{
	return g_strdup_printf("%" G_GUINT64_FORMAT, n);
}

/* Each of these gives the value of an attribute, or NULL where there is
 * none. */

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
	const uint8_t *u;

	if (!a->meta)
		return NULL;
	u = a->meta->uuid;
	return g_strdup_printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
			       "%02x%02x%02x%02x%02x%02x",
			       u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7],
			       u[8], u[9], u[10], u[11], u[12], u[13], u[14],
			       u[15]);
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

/* Bytes of the blocks of the snapshot, and of their pages that are stored. */
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
	if (a->sealed && a->sealed->why)
		return g_strdup(a->sealed->why);
	return snap_catalog_noted(snap_store_node(a->folder)->fd);
}

static const struct {
	const char *name; /* behind OURS */
	char *(*get)(const struct about *a);
} attributes[] = {
	{ "form", get_form },	    { "why", get_why },
	{ "uuid", get_uuid },	    { "created", get_created },
	{ "machine", get_machine }, { "preamble", get_preamble },
	{ "logical", get_logical }, { "physical", get_physical },
	{ "ratio", get_ratio },	    { "ram", get_ram },
	{ "pages", get_pages },	    { "pages_zero", get_pages_zero },
	{ "error", get_error },
};

/* Finds what the attributes of a node are about; false where it has none of
 * ours. *ret_held is to be let go of. */
static bool find_about(SnapNode *node, struct about *ret, SnapSealed **ret_held)
{
	*ret_held = NULL;
	memset(ret, 0, sizeof(*ret));
	if (node->ops == &snap_view_ops) {
		ret->folder = ((SnapViewNode *)node)->folder;
		ret->sealed = ((SnapViewNode *)node)->sealed;
	} else if (node->ops == &snap_incoming_ops) {
		ret->folder = ((SnapIncoming *)node)->folder;
	} else if (snap_is_folder(node)) {
		ret->folder = node;
		if (snap_sealed_get(node, ret_held) == 0)
			ret->sealed = *ret_held;
	} else {
		return false;
	}
	ret->meta = ret->sealed ? snap_sealed_meta(ret->sealed) : NULL;
	return true;
}

/* The value of one of ours, or NULL. */
static char *get_ours(SnapNode *node, const char *name)
{
	g_autoptr(SnapSealed) held = NULL;
	struct about about;

	if (!find_about(node, &about, &held))
		return NULL;
	for (guint i = 0; i < G_N_ELEMENTS(attributes); i++)
		if (!strcmp(name, attributes[i].name))
			return attributes[i].get(&about);
	return NULL;
}

static bool is_ours(const char *name)
{
	return g_str_has_prefix(name, OURS);
}

/* True for lists of who may what: permissions are checked by the mode alone. */
static bool is_acl(const char *name)
{
	return g_str_has_prefix(name, "system.posix_acl_");
}

/* A path that the kernel takes for a node of the store. Symbolic links have
 * none. */
static int store_path(SnapNode *node, char ret[SNAP_PROC_PATH])
{
	if (!node->ops->is_store)
		return -ENODATA;
	if (S_ISLNK(snap_store_node(node)->type))
		return -EOPNOTSUPP;
	snap_proc_path(ret, snap_store_node(node)->fd);
	return 0;
}

/* Copies a value as getxattr(2) does. */
static ssize_t give(const void *value, size_t length, void *ret, size_t size)
{
	if (size && length > size)
		return -ERANGE;
	if (size)
		memcpy(ret, value, length);
	return (ssize_t)length;
}

ssize_t snap_node_getxattr(SnapNode *node, const char *name, void *ret,
			   size_t size)
{
	g_autofree char *value = NULL;
	char path[SNAP_PROC_PATH];
	ssize_t n;

	snap_count(node->tree, SNAP_COUNT_XATTR);
	if (is_ours(name)) {
		value = get_ours(node, name + strlen(OURS));
		return value ? give(value, strlen(value), ret, size) : -ENODATA;
	}
	n = is_acl(name) ? -EOPNOTSUPP : store_path(node, path);
	if (n == 0)
		n = getxattr(path, name, ret, size);
	return n == -1 ? -errno : n;
}

/* Appends the names of ours that a node has. */
static void list_ours(SnapNode *node, GString *names)
{
	g_autoptr(SnapSealed) held = NULL;
	struct about about;

	if (!find_about(node, &about, &held))
		return;
	for (guint i = 0; i < G_N_ELEMENTS(attributes); i++) {
		g_autofree char *value = attributes[i].get(&about);

		if (value)
			g_string_append_printf(names, OURS "%s%c",
					       attributes[i].name, '\0');
	}
}

/* Takes names out that getxattr does not know. */
static void drop_acls(GString *names, gsize from)
{
	while (from < names->len) {
		gsize length = strlen(names->str + from) + 1;

		if (is_acl(names->str + from))
			g_string_erase(names, (gssize)from, (gssize)length);
		else
			from += length;
	}
}

/* Appends the names that the store has for a node. */
static int list_theirs(SnapNode *node, GString *names)
{
	char path[SNAP_PROC_PATH];
	gsize had = names->len;
	ssize_t n;

	if (store_path(node, path) < 0)
		return 0;
	do {
		n = listxattr(path, NULL, 0);
		if (n <= 0)
			break;
		g_string_set_size(names, had + (gsize)n);
		n = listxattr(path, names->str + had, (size_t)n);
	} while (n < 0 && errno == ERANGE);
	if (n < 0)
		n = errno == EOPNOTSUPP ? 0 : -errno;
	g_string_truncate(names, had + (gsize)MAX(n, 0));
	drop_acls(names, had);
	return n < 0 ? (int)n : 0;
}

ssize_t snap_node_listxattr(SnapNode *node, char *ret, size_t size)
{
	GString *names = g_string_new(NULL);
	ssize_t n;

	snap_count(node->tree, SNAP_COUNT_XATTR);
	n = list_theirs(node, names);
	if (n == 0) {
		list_ours(node, names);
		n = give(names->str, names->len, ret, size);
	}
	g_string_free(names, TRUE);
	return n;
}

/* True for one of ours that has the value already: a copy sets them all. */
static bool has_ours(SnapNode *node, const char *name, const void *value,
		     size_t size)
{
	g_autofree char *has =
		is_ours(name) ? get_ours(node, name + strlen(OURS)) : NULL;

	return has && strlen(has) == size && !memcmp(has, value, size);
}

/* Whether an attribute may be changed; the path to do it by. */
static int check_change(SnapNode *node, const char *name,
			char ret_path[SNAP_PROC_PATH])
{
	snap_count(node->tree, SNAP_COUNT_XATTR);
	if (node->tree->read_only)
		return -EROFS;
	if (is_ours(name))
		return -EPERM;
	if (!node->ops->is_store || is_acl(name))
		return -EOPNOTSUPP;
	return store_path(node, ret_path);
}

int snap_node_setxattr(SnapNode *node, const char *name, const void *value,
		       size_t size, int flags)
{
	char path[SNAP_PROC_PATH];
	int r = check_change(node, name, path);

	if (r == -EPERM && has_ours(node, name, value, size))
		return 0;
	if (r < 0)
		return r;
	return setxattr(path, name, value, size, flags) < 0 ? -errno : 0;
}

int snap_node_removexattr(SnapNode *node, const char *name)
{
	char path[SNAP_PROC_PATH];
	int r = check_change(node, name, path);

	if (r < 0)
		return r;
	return removexattr(path, name) < 0 ? -errno : 0;
}
