/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line names an image in one of these ways:
 *
 *   PATH, or -hda PATH, -fda PATH and so on    the format is probed
 *   -drive file=PATH,format=F,…                all in one
 *   -blockdev driver=F,file.filename=PATH,…    all in one, or
 *   -blockdev driver=file,node-name=N,filename=PATH
 *   -blockdev driver=F,file=N,…                in two, or the same in JSON
 *
 * The overlay takes the image's place, and the format becomes qcow2. What only
 * the image's own format understands is removed; the overlay names its backing
 * image itself, with all that opens it.
 */
#include "tools/guest/command.h"

#include <errno.h>
#include <string.h>

#include "format/base/error.h"
#include "tools/guest/disks.h"
#include "tools/guest/json.h"

GPtrArray *snap_command_new(char *const *words, guint n)
{
	GPtrArray *command = g_ptr_array_new_with_free_func(g_free);

	for (guint i = 0; i < n; i++)
		g_ptr_array_add(command, g_strdup(words[i]));
	g_ptr_array_add(command, NULL);
	return command;
}

void snap_command_add(GPtrArray *command, ...)
{
	const char *word;
	va_list args;

	va_start(args, command);
	while ((word = va_arg(args, const char *)))
		g_ptr_array_insert(command, (gint)command->len - 1,
				   g_strdup(word));
	va_end(args);
}

/* Tells whether a word is the option `name`, with one dash or two. */
static bool is_option(const char *word, const char *name)
{
	if (!word || *word != '-')
		return false;
	word += word[1] == '-' ? 2 : 1;
	return !strcmp(word, name);
}

bool snap_command_strip(GPtrArray *command)
{
	bool stopped = false;
	guint i = 1;

	while (i + 1 < command->len) {
		const char *word = command->pdata[i];
		guint n = 0;

		if (is_option(word, "incoming") || is_option(word, "loadvm"))
			n = 2;
		else if (is_option(word, "daemonize") || is_option(word, "S"))
			n = 1;
		stopped = stopped || is_option(word, "S");
		if (n)
			g_ptr_array_remove_range(command, i,
						 MIN(n, command->len - 1 - i));
		else
			i++;
	}
	return stopped;
}

/* ---- values of options: key=value,key=value; ",," means one comma ---- */

/* Splits a value into its parts. */
static GPtrArray *split(const char *text)
{
	GPtrArray *parts = g_ptr_array_new_with_free_func(g_free);
	GString *part = g_string_new(NULL);

	for (; *text; text++) {
		if (*text != ',' || text[1] == ',') {
			g_string_append_c(part, *text);
			text += *text == ',';
			continue;
		}
		g_ptr_array_add(parts, g_string_free(part, FALSE));
		part = g_string_new(NULL);
	}
	g_ptr_array_add(parts, g_string_free(part, FALSE));
	return parts;
}

static char *join(const GPtrArray *parts)
{
	GString *text = g_string_new(NULL);

	for (guint i = 0; i < parts->len; i++) {
		if (i)
			g_string_append_c(text, ',');
		for (const char *at = parts->pdata[i]; *at; at++) {
			g_string_append_c(text, *at);
			if (*at == ',')
				g_string_append_c(text, ',');
		}
	}
	return g_string_free(text, FALSE);
}

/* Gets the value of a part; NULL if its key is another. */
static const char *value_of(const char *part, const char *key)
{
	gsize n = strlen(key);

	return !strncmp(part, key, n) && part[n] == '=' ? part + n + 1 : NULL;
}

static const char *get(const GPtrArray *parts, const char *key)
{
	for (guint i = 0; i < parts->len; i++) {
		const char *value = value_of(parts->pdata[i], key);

		if (value)
			return value;
	}
	return NULL;
}

/* Sets or adds a key; removes it if `value` is NULL. */
static void set(GPtrArray *parts, const char *key, const char *value)
{
	for (guint i = 0; i < parts->len; i++) {
		if (!value_of(parts->pdata[i], key))
			continue;
		if (!value) {
			g_ptr_array_remove_index(parts, i--);
			continue;
		}
		g_free(parts->pdata[i]);
		parts->pdata[i] = g_strconcat(key, "=", value, NULL);
		return;
	}
	if (value)
		g_ptr_array_add(parts, g_strconcat(key, "=", value, NULL));
}

char *snap_command_value(const char *text)
{
	g_auto(GStrv) parts = g_strsplit(text, ",", -1);

	return g_strjoinv(",,", parts);
}

bool snap_command_has(GPtrArray *command, const char *option, const char *key)
{
	for (guint i = 1; i + 2 < command->len; i++) {
		g_autoptr(GPtrArray) parts = NULL;

		if (!is_option(command->pdata[i], option))
			continue;
		parts = split(command->pdata[i + 1]);
		if (!key || get(parts, key))
			return true;
	}
	return false;
}

/* Keys of descriptors, as numbers, in QEMU's qapi/net.json and
 * qapi/sockets.json and of vhost devices. */
static bool has_descriptor(const char *value)
{
	static const char *const keys[] = { "fd", "fds", "vhostfd",
					    "vhostfds" };
	g_autoptr(GPtrArray) parts = split(value);
	g_autoptr(JsonObject) o = NULL;

	if (*value == '{')
		snap_json_parse(value, strlen(value), &o, NULL);
	for (guint i = 0; i < G_N_ELEMENTS(keys); i++)
		if ((o && json_object_has_member(o, keys[i])) ||
		    (!o && get(parts, keys[i])))
			return true;
	return strstr(value, "/dev/fdset/");
}

const char *snap_command_inherits(GPtrArray *command)
{
	for (guint i = 1; i + 2 < command->len; i++) {
		const char *value = command->pdata[i + 1];

		if (is_option(command->pdata[i], "add-fd") ||
		    (*(char *)command->pdata[i] == '-' &&
		     has_descriptor(value)))
			return value;
	}
	return NULL;
}

/* ---- one option ---- */

/* One image to be replaced. */
struct swap {
	const char *image; /* absolute path, or a name with a protocol */
	const char *overlay;
	const char *folder; /* where relative paths start */
	char *node; /* the protocol node that names the image; or NULL */
};

static bool is_image(const struct swap *w, const char *word)
{
	g_autofree char *path = NULL;

	if (!word)
		return false;
	if (!strcmp(word, w->image))
		return true;
	path = g_canonicalize_filename(word, w->folder);
	return !strcmp(path, w->image);
}

/* Options of a format other than qcow2, of its encryption, and a backing node
 * (QEMU's qapi/block-core.json: BlockdevOptionsRaw, …LUKS, …Qcow2). */
static bool is_of_format(const char *key)
{
	static const char *const keys[] = { "backing", "encrypt", "key-secret",
					    "offset",  "size",	  "header" };
	gsize n = strcspn(key, ".=");

	for (guint i = 0; i < G_N_ELEMENTS(keys); i++)
		if (strlen(keys[i]) == n && !strncmp(key, keys[i], n))
			return true;
	return false;
}

static void drop_of_format(GPtrArray *parts)
{
	for (guint i = parts->len; i > 0; i--)
		if (is_of_format(parts->pdata[i - 1]))
			g_ptr_array_remove_index(parts, i - 1);
}

static bool swap_drive(struct swap *w, char **word)
{
	static const char *const keys[] = { "file", "file.filename" };
	g_autoptr(GPtrArray) parts = split(*word);
	bool found = false;

	for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
		if (!is_image(w, get(parts, keys[i])))
			continue;
		set(parts, keys[i], w->overlay);
		found = true;
	}
	if (!found)
		return false;
	set(parts, get(parts, "driver") ? "driver" : "format", "qcow2");
	if (get(parts, "file.driver"))
		set(parts, "file.driver", "file");
	drop_of_format(parts);
	g_free(*word);
	*word = join(parts);
	return true;
}

static bool swap_blockdev(struct swap *w, char **word)
{
	g_autoptr(GPtrArray) parts = split(*word);
	bool whole = is_image(w, get(parts, "file.filename"));

	/* The first part may be the driver's name without its key. */
	if (!strchr(parts->pdata[0], '=')) {
		char *first = g_strconcat("driver=", parts->pdata[0], NULL);

		g_free(parts->pdata[0]);
		parts->pdata[0] = first;
	}
	if (is_image(w, get(parts, "filename"))) {
		w->node = g_strdup(get(parts, "node-name"));
		set(parts, "filename", w->overlay);
		set(parts, "driver", "file");
	} else if (whole) {
		set(parts, "file.filename", w->overlay);
		set(parts, "file.driver", "file");
		set(parts, "driver", "qcow2");
		drop_of_format(parts);
	} else {
		return false;
	}
	g_free(*word);
	*word = join(parts);
	return true;
}

static char *to_text(JsonObject *object)
{
	g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);

	json_node_set_object(node, object);
	return json_to_string(node, FALSE);
}

/* Makes a node's format qcow2. */
static void set_qcow2(JsonObject *o)
{
	g_autoptr(GList) keys = json_object_get_members(o);

	for (GList *at = keys; at; at = at->next)
		if (is_of_format(at->data))
			json_object_remove_member(o, at->data);
	json_object_set_string_member(o, "driver", "qcow2");
}

static bool swap_json(struct swap *w, char **word)
{
	g_autoptr(JsonObject) o = NULL;
	JsonObject *file;

	if (snap_json_parse(*word, strlen(*word), &o, NULL) < 0)
		return false;
	file = snap_json_object(o, "file");
	if (is_image(w, snap_json_text(o, "filename"))) {
		w->node = g_strdup(snap_json_text(o, "node-name"));
		file = o;
	} else if (is_image(w, snap_json_text(file, "filename"))) {
		set_qcow2(o);
	} else {
		return false;
	}
	json_object_set_string_member(file, "filename", w->overlay);
	json_object_set_string_member(file, "driver", "file");
	g_free(*word);
	*word = to_text(o);
	return true;
}

/* If a word defines the format node over w->node, makes its format qcow2. */
static bool swap_format(const struct swap *w, char **word)
{
	g_autoptr(JsonObject) o = NULL;
	g_autoptr(GPtrArray) parts = NULL;
	char *text;

	if (**word == '{') {
		if (snap_json_parse(*word, strlen(*word), &o, NULL) < 0 ||
		    g_strcmp0(snap_json_text(o, "file"), w->node))
			return false;
		set_qcow2(o);
		text = to_text(o);
	} else {
		parts = split(*word);
		if (g_strcmp0(get(parts, "file"), w->node))
			return false;
		if (!strchr(parts->pdata[0], '='))
			g_ptr_array_remove_index(parts, 0);
		set(parts, "driver", "qcow2");
		drop_of_format(parts);
		text = join(parts);
	}
	g_free(*word);
	*word = text;
	return true;
}

/* ---- the whole line ---- */

static bool swap_word(struct swap *w, const char *option, char **word)
{
	static const char *const plain[] = { "hda", "hdb",	"hdc",
					     "hdd", "fda",	"fdb",
					     "sd",  "mtdblock", "pflash" };

	if (is_option(option, "drive"))
		return swap_drive(w, word);
	if (is_option(option, "blockdev"))
		return **word == '{' ? swap_json(w, word)
				     : swap_blockdev(w, word);
	for (guint i = 0; i < G_N_ELEMENTS(plain); i++) {
		if (!is_option(option, plain[i]) || !is_image(w, *word))
			continue;
		g_free(*word);
		*word = g_strdup(w->overlay);
		return true;
	}
	return false;
}

/* Tells whether no value follows an option (QEMU's qemu-options.hx: those
 * without HAS_ARG). */
static bool is_flag(const char *option)
{
	static const char *const flags[] = {
		"S",
		"alt-grab",
		"async-teardown",
		"ctrl-grab",
		"daemonize",
		"enable-fips",
		"enable-hax",
		"enable-kvm",
		"enable-sync-profile",
		"full-screen",
		"jitdump",
		"mem-prealloc",
		"no-acpi",
		"no-fd-bootchk",
		"no-hpet",
		"no-kvm",
		"no-quit",
		"no-reboot",
		"no-shutdown",
		"no-user-config",
		"nodefaults",
		"nographic",
		"old-param",
		"only-migratable",
		"perfmap",
		"portrait",
		"preconfig",
		"s",
		"semihosting",
		"singlestep",
		"snapshot",
		"usb",
		"win2k-hack",
		"xen-attach",
		"xen-domid-restrict",
	};

	for (guint i = 0; i < G_N_ELEMENTS(flags); i++)
		if (is_option(option, flags[i]))
			return true;
	return false;
}

/* If a word stands for itself and not for the value of the option before it, it
 * is a disk's image. */
static bool swap_bare(const struct swap *w, GPtrArray *command, guint i)
{
	const char *before = command->pdata[i - 1];
	char **word = (char **)&command->pdata[i];

	if (**word == '-' || !is_image(w, *word) ||
	    (i > 1 && *before == '-' && !is_flag(before)))
		return false;
	g_free(*word);
	*word = g_strdup(w->overlay);
	return true;
}

/* Replaces one image. Returns 1, 0 if no option names it, or -EINVAL. */
static int swap_image(GPtrArray *command, struct swap *w, GError **error)
{
	bool found = false, format = false;

	for (guint i = 1; i + 1 < command->len; i++)
		if (swap_bare(w, command, i))
			found = true;

	for (guint i = 1; i + 2 < command->len; i++)
		if (swap_word(w, command->pdata[i],
			      (char **)&command->pdata[i + 1]))
			found = true;
	for (guint i = 1; w->node && i + 2 < command->len; i++)
		if (is_option(command->pdata[i], "blockdev") &&
		    swap_format(w, (char **)&command->pdata[i + 1]))
			format = true;
	if (w->node && !format)
		return snap_fail(error, EINVAL,
				 "the command line has no -blockdev with "
				 "file=%s, whose format could become qcow2",
				 w->node);
	return found;
}

int snap_command_replace(GPtrArray *command, const SnapDisk *disk,
			 const char *overlay, const char *folder,
			 GError **error)
{
	for (char **image = disk->chain; *image; image++) {
		struct swap w = { .image = *image,
				  .overlay = overlay,
				  .folder = folder };
		int r = swap_image(command, &w, error);

		g_free(w.node);
		if (r)
			return MIN(r, 0);
	}
	return snap_fail(error, ENOENT,
			 "the command line names no image of disk %s; it needs "
			 "%s after -drive file=, -blockdev, -hda or the like",
			 snap_disk_title(disk), disk->chain[0]);
}
