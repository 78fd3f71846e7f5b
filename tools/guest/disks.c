/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/guest/disks.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "format/base/error.h"
#include "tools/cli/print.h"

#define CHAIN_MAX 256
#define MERGE_STEP (20 * G_TIME_SPAN_MILLISECOND)
#define MERGE_SECONDS 600

const char *snap_disk_title(const SnapDisk *d)
{
	if (d->device && *d->device)
		return d->device;
	return d->node ? d->node : d->image;
}

/* ---- listing ---- */

/* Makes a path absolute; a name with a protocol ("nbd:…") stays as it is. */
static char *whole_path(const char *name, const char *folder)
{
	const char *colon = strchr(name, ':'), *slash = strchr(name, '/');

	if (*name == '/' || !folder || (colon && (!slash || colon < slash)))
		return g_strdup(name);
	return g_canonicalize_filename(name, folder);
}

/* Nodes that show what is below them, and are no format. */
static bool is_filter(const char *driver)
{
	static const char *const names[] = { "throttle", "copy-on-read",
					     "compress", "preallocate" };

	for (guint i = 0; driver && i < G_N_ELEMENTS(names); i++)
		if (!strcmp(driver, names[i]))
			return true;
	return false;
}

/* An image, as QEMU describes it. */
struct image {
	char *path;   /* of its file; or a name with a protocol */
	char *name;   /* by which QEMU opens it with all that is below it */
	char *format; /* NULL: as QEMU says */
};

/* Tells whether the path and the format of an image do not suffice to open it:
 * it needs a key, lies at an offset, has another backing image, … */
static bool is_complex(JsonObject *at)
{
	g_autoptr(GList) keys = json_object_get_members(at);
	JsonObject *file = snap_json_object(at, "file");

	for (GList *key = keys; key; key = key->next)
		if (strcmp(key->data, "driver") && strcmp(key->data, "file") &&
		    (file || strcmp(key->data, "filename")))
			return true;
	return file &&
	       (is_filter(snap_json_text(file, "driver")) || is_complex(file));
}

static char *json_name(JsonObject *object)
{
	g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
	g_autofree char *text = NULL;

	json_node_set_object(node, object);
	text = json_to_string(node, FALSE);
	return g_strconcat("json:", text, NULL);
}

/* Parses an image that QEMU describes by JSON. Filters above it are left out:
 * the command line has them. False if it names no file. */
static bool parse_json(const char *text, const char *folder,
		       struct image *ret_image)
{
	g_autoptr(JsonObject) object = NULL;
	JsonObject *top, *file;
	const char *name;

	if (snap_json_parse(text, strlen(text), &object, NULL) < 0)
		return false;
	top = object;
	while (is_filter(snap_json_text(top, "driver")) &&
	       snap_json_object(top, "file"))
		top = snap_json_object(top, "file");
	for (file = top; snap_json_object(file, "file");)
		file = snap_json_object(file, "file");
	name = snap_json_text(file, "filename");
	if (!name)
		return false;
	ret_image->path = whole_path(name, folder);
	ret_image->format = g_strdup(snap_json_text(top, "driver"));
	json_object_set_string_member(file, "filename", ret_image->path);
	ret_image->name =
		is_complex(top) ? json_name(top) : g_strdup(ret_image->path);
	return true;
}

/* Describes an image; false if QEMU does not name it. */
static bool parse_image(JsonObject *about, const char *folder,
			struct image *ret_image)
{
	const char *name = snap_json_text(about, "filename");

	if (!name)
		return false;
	if (g_str_has_prefix(name, "json:") &&
	    parse_json(name + strlen("json:"), folder, ret_image))
		return true;
	ret_image->path = whole_path(name, folder);
	ret_image->name = g_strdup(ret_image->path);
	return true;
}

/* Sets d->image, d->format, d->size and d->chain. */
static void set_chain(SnapDisk *d, JsonObject *about, const char *folder)
{
	g_autoptr(GPtrArray) chain = g_ptr_array_new();

	d->size = (uint64_t)MAX(snap_json_number(about, "virtual-size", 0), 0);
	for (guint i = 0; about && i < CHAIN_MAX; i++) {
		struct image image = { 0 };

		if (parse_image(about, folder, &image))
			g_ptr_array_add(chain, image.path);
		if (i == 0 && is_filter(d->format) && image.format) {
			g_free(d->format);
			d->format = g_steal_pointer(&image.format);
		}
		if (i == 0)
			d->image = g_steal_pointer(&image.name);
		g_free(image.name);
		g_free(image.format);
		about = snap_json_object(about, "backing-image");
	}
	g_ptr_array_add(chain, NULL);
	d->chain = (GStrv)g_ptr_array_free(g_steal_pointer(&chain), FALSE);
}

/* If a filter is on top, makes its image's own node the disk's: an overlay
 * there leaves the filter where it is. */
static int step_below(SnapQmp *qmp, SnapDisk *d, const char *driver,
		      const char *folder, GError **error)
{
	g_autoptr(JsonObject) answer = NULL;
	const char *node = NULL;
	JsonArray *list;
	guint n = 0;
	int r;

	if (!is_filter(driver) || !*d->chain)
		return 0;
	r = snap_qmp_call(qmp, "query-named-block-nodes", NULL, &answer, error);
	list = snap_json_list(answer, "list");
	for (guint i = 0; i < snap_json_length(list); i++) {
		JsonObject *o = snap_json_at(list, i);
		const char *file = snap_json_text(o, "file");
		g_autofree char *path = file ? whole_path(file, folder) : NULL;

		if (g_strcmp0(snap_json_text(o, "drv"), d->format) ||
		    g_strcmp0(path, *d->chain))
			continue;
		node = snap_json_text(o, "node-name");
		n++;
	}
	if (n != 1 || !node)
		return r;
	g_free(d->node);
	d->node = g_strdup(node);
	g_clear_pointer(&d->device, g_free);
	return 0;
}

int snap_disks_list(SnapQmp *qmp, SnapVm *vm, GError **error)
{
	g_autoptr(JsonObject) answer = NULL;
	JsonArray *list;
	int r = snap_qmp_call(qmp, "query-block", NULL, &answer, error);

	if (r < 0)
		return r;
	list = snap_json_list(answer, "list");
	for (guint i = 0; i < snap_json_length(list); i++) {
		JsonObject *o = snap_json_at(list, i);
		JsonObject *inserted = snap_json_object(o, "inserted");
		SnapDisk *d;

		if (!inserted)
			continue;
		d = snap_disk_new();
		d->device = g_strdup(snap_json_text(o, "device"));
		d->qdev = g_strdup(snap_json_text(o, "qdev"));
		d->node = g_strdup(snap_json_text(inserted, "node-name"));
		d->format = g_strdup(snap_json_text(inserted, "drv"));
		d->read_only = snap_json_bool(inserted, "ro");
		set_chain(d, snap_json_object(inserted, "image"), vm->folder);
		g_ptr_array_add(vm->disks, d);
		if (!d->image || !d->format || !*d->chain)
			return snap_fail(error, EPROTO,
					 "QEMU does not name the image of disk "
					 "%u",
					 i);
		r = step_below(qmp, d, snap_json_text(inserted, "drv"),
			       vm->folder, error);
		if (r < 0)
			return r;
	}
	return 0;
}

bool snap_disks_writable(const SnapVm *vm)
{
	for (guint i = 0; i < vm->disks->len; i++)
		if (!((SnapDisk *)vm->disks->pdata[i])->read_only)
			return true;
	return false;
}

/* ---- overlays ---- */

/* Makes the name of a new overlay: the image's, with a new mark and time. */
static char *overlay_name(const char *image, const char *mark)
{
	static guint count;
	g_autofree char *base = g_path_get_basename(image);
	g_autofree char *marked = g_strconcat(".", mark, "-", NULL);
	g_autoptr(GDateTime) now = g_date_time_new_now_utc();
	g_autofree char *time = g_date_time_format(now, "%Y%m%dT%H%M%S");
	char *end = strstr(base, marked);

	if (!end)
		end = strrchr(base, '.');
	if (end && end != base)
		*end = '\0';
	return g_strdup_printf("%s%s%s-%u.qcow2", base, marked, time, ++count);
}

char *snap_disk_overlay_path(const SnapDisk *d, const char *mark,
			     const char *folder, GError **error)
{
	const char *image = d->chain[0];
	g_autofree char *beside = g_path_get_dirname(image);

	if (!folder && *image != '/') {
		snap_fail(error, EINVAL,
			  "disk %s: %s is not a file, so there is no place for "
			  "an overlay; name a folder by --overlay-dir",
			  snap_disk_title(d), image);
		return NULL;
	}
	for (;;) {
		g_autofree char *name = overlay_name(image, mark);
		g_autofree char *path =
			g_build_filename(folder ? folder : beside, name, NULL);

		if (access(path, F_OK) < 0)
			return g_steal_pointer(&path);
	}
}

int snap_disks_plan(SnapVm *vm, const char *folder, GError **error)
{
	for (guint i = 0; i < vm->disks->len; i++) {
		SnapDisk *d = vm->disks->pdata[i];
		const char *path = d->chain[0];

		if (d->read_only)
			continue;
		if (*path == '/' && access(path, F_OK) < 0 && errno == ENOENT)
			return snap_fail(error, EINVAL,
					 "disk %s cannot be frozen: its image "
					 "%s does not exist (snapshot=on?); "
					 "--no-disks saves without disks",
					 snap_disk_title(d), path);
		d->overlay = snap_disk_overlay_path(d, "snapfs", folder, error);
		if (!d->overlay)
			return -EINVAL;
		d->overlay_node =
			g_strdup_printf("snapfs-%" G_GINT64_MODIFIER "x-%u",
					(guint64)g_get_real_time(), i);
	}
	return 0;
}

char *snap_disk_summary(const SnapDisk *d)
{
	g_autofree char *text = NULL;

	if (!d->overlay)
		return NULL;
	text = g_strdup_printf("disk %s: frozen in %s, continues in %s",
			       snap_disk_title(d), d->chain[0], d->overlay);
	return snap_print_safe(text);
}

/* ---- freezing ---- */

static bool is_named(const SnapDisk *d)
{
	return d->device && *d->device;
}

static JsonObject *freeze_action(const SnapDisk *d)
{
	JsonObject *action =
		snap_json_new("type", "blockdev-snapshot-sync", NULL);
	JsonObject *data =
		snap_json_new(is_named(d) ? "device" : "node-name",
			      is_named(d) ? d->device
			      : d->node	  ? d->node
					  : "",
			      "snapshot-file", d->overlay, "snapshot-node-name",
			      d->overlay_node, "format", "qcow2", NULL);

	json_object_set_object_member(action, "data", data);
	return action;
}

int snap_disks_freeze(SnapQmp *qmp, const SnapVm *vm, GError **error)
{
	JsonObject *arguments = json_object_new();
	JsonArray *actions = json_array_new();
	int r;

	for (guint i = 0; i < vm->disks->len; i++) {
		const SnapDisk *d = vm->disks->pdata[i];

		if (d->overlay)
			json_array_add_object_element(actions,
						      freeze_action(d));
	}
	json_object_set_array_member(arguments, "actions", actions);
	r = snap_qmp_call(qmp, "transaction", arguments, NULL, error);
	if (r == 0)
		return 0;
	/* QEMU uses none of them, but may have made some. */
	for (guint i = 0; i < vm->disks->len; i++) {
		const SnapDisk *d = vm->disks->pdata[i];

		if (d->overlay && r == -EREMOTEIO)
			unlink(d->overlay);
	}
	return snap_fail_prefix(error, r, "the disks cannot be frozen");
}

/* ---- merging ---- */

static int call_job(SnapQmp *qmp, const char *command, const char *job,
		    GError **error)
{
	return snap_qmp_call(qmp, command, snap_json_new("id", job, NULL), NULL,
			     error);
}

/* Waits until a job has the status `wanted`. Returns 0, or -errno with its
 * error. */
static int wait_job(SnapQmp *qmp, const char *job, const char *wanted,
		    GError **error)
{
	gint64 end = g_get_monotonic_time() + MERGE_SECONDS * G_USEC_PER_SEC;

	while (g_get_monotonic_time() < end) {
		g_autoptr(JsonObject) answer = NULL;
		const char *status = NULL, *why = NULL;
		JsonArray *list;
		int r = snap_qmp_call(qmp, "query-jobs", NULL, &answer, error);

		if (r < 0)
			return r;
		list = snap_json_list(answer, "list");
		for (guint i = 0; i < snap_json_length(list); i++) {
			JsonObject *o = snap_json_at(list, i);

			if (g_strcmp0(snap_json_text(o, "id"), job))
				continue;
			status = snap_json_text(o, "status");
			why = snap_json_text(o, "error");
		}
		if (!status || why)
			return snap_fail(error, EREMOTEIO, "%s",
					 why ? why : "the job has vanished");
		if (!strcmp(status, wanted))
			return 0;
		g_usleep(MERGE_STEP);
	}
	return snap_fail(error, ETIMEDOUT, "the merge takes too long");
}

static int merge(SnapQmp *qmp, const SnapDisk *d, GError **error)
{
	g_autofree char *job = g_strconcat("merge-", d->overlay_node, NULL);
	JsonObject *arguments =
		snap_json_new("job-id", job, "device",
			      is_named(d) ? d->device : d->overlay_node,
			      "base-node", d->node ? d->node : "", NULL);
	int r;

	json_object_set_boolean_member(arguments, "auto-dismiss", FALSE);
	r = snap_qmp_call(qmp, "block-commit", arguments, NULL, error);
	if (r < 0)
		return r;
	r = wait_job(qmp, job, "ready", error);
	if (r == 0)
		r = call_job(qmp, "job-complete", job, error);
	if (r == 0)
		r = wait_job(qmp, job, "concluded", error);
	if (r < 0)
		call_job(qmp, "job-cancel", job, NULL);
	call_job(qmp, "job-dismiss", job, NULL);
	return r;
}

void snap_disks_merge(SnapQmp *qmp, SnapVm *vm)
{
	for (guint i = 0; i < vm->disks->len; i++) {
		SnapDisk *d = vm->disks->pdata[i];
		g_autoptr(GError) error = NULL;

		if (!d->overlay)
			continue;
		if (merge(qmp, d, &error) < 0)
			snap_print_error(
				"disk %s continues in %s, over %s, which "
				"must not change: %s",
				snap_disk_title(d), d->overlay, d->chain[0],
				error->message);
		else
			unlink(d->overlay);
		g_clear_pointer(&d->overlay, g_free);
	}
}
