/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/units.h"
#include "tools/jsonin.h"

#define VERSION 1
#define FILE_MAX SNAP_MIB
#define COMMAND_MAX (512 * SNAP_KIB)

SnapDisk *snap_disk_new(void)
{
	return g_new0(SnapDisk, 1);
}

void snap_disk_free(SnapDisk *d)
{
	if (!d)
		return;
	g_free(d->device);
	g_free(d->qdev);
	g_free(d->node);
	g_free(d->image);
	g_free(d->format);
	g_free(d->overlay);
	g_free(d->overlay_node);
	g_strfreev(d->chain);
	g_free(d);
}

SnapVm *snap_vm_new(void)
{
	SnapVm *vm = g_new0(SnapVm, 1);

	vm->disks =
		g_ptr_array_new_with_free_func((GDestroyNotify)snap_disk_free);
	return vm;
}

void snap_vm_free(SnapVm *vm)
{
	if (!vm)
		return;
	g_free(vm->qemu);
	g_free(vm->machine);
	g_free(vm->run_state);
	g_free(vm->way);
	g_free(vm->saved);
	g_free(vm->memory_id);
	g_strfreev(vm->capabilities);
	g_ptr_array_unref(vm->disks);
	g_free(vm->folder);
	g_strfreev(vm->command);
	g_free(vm);
}

bool snap_vm_ran(const SnapVm *vm)
{
	return !g_strcmp0(vm->run_state, "running") ||
	       !g_strcmp0(vm->run_state, "suspended");
}

/* ---- the command line ---- */

/* The words of a process, or NULL. */
static GStrv read_command(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid);
	g_autoptr(GPtrArray) words = g_ptr_array_new();
	g_autofree char *text = NULL;
	gsize size = 0;

	if (pid <= 0 || !g_file_get_contents(path, &text, &size, NULL) ||
	    !size || size > COMMAND_MAX || text[size - 1] != '\0')
		return NULL;
	for (gsize at = 0; at < size; at += strlen(text + at) + 1) {
		/* JSON could not hold it. */
		if (!g_utf8_validate(text + at, -1, NULL))
			return NULL;
		g_ptr_array_add(words, text + at);
	}
	g_ptr_array_add(words, NULL);
	return g_strdupv((GStrv)words->pdata);
}

/* Whether it starts QEMU; who made the socket may be somebody else. */
static bool is_qemu(GStrv command)
{
	g_autofree char *name = g_path_get_basename(*command);

	return g_str_has_prefix(name, "qemu") || !strcmp(name, "kvm");
}

void snap_vm_take_command(SnapVm *vm, pid_t pid, uid_t uid)
{
	g_autofree char *cwd = g_strdup_printf("/proc/%d/cwd", (int)pid);

	vm->pid = pid;
	/* Another user's words are not to be run as ours. */
	if (uid == geteuid() || uid == 0)
		vm->command = read_command(pid);
	if (vm->command && !is_qemu(vm->command))
		g_clear_pointer(&vm->command, g_strfreev);
	vm->folder = pid > 0 ? g_file_read_link(cwd, NULL) : NULL;
	if (vm->folder && !g_utf8_validate(vm->folder, -1, NULL))
		g_clear_pointer(&vm->folder, g_free);
}

bool snap_vm_lives(const SnapVm *vm)
{
	g_auto(GStrv) now = read_command(vm->pid);

	return now && vm->command &&
	       g_strv_equal((const char *const *)now,
			    (const char *const *)vm->command);
}

/* ---- writing ---- */

static void add_text(JsonBuilder *b, const char *name, const char *value)
{
	if (!value || !g_utf8_validate(value, -1, NULL))
		return;
	json_builder_set_member_name(b, name);
	json_builder_add_string_value(b, value);
}

static void add_list(JsonBuilder *b, const char *name, GStrv words)
{
	if (!words)
		return;
	json_builder_set_member_name(b, name);
	json_builder_begin_array(b);
	for (; *words; words++)
		json_builder_add_string_value(b, *words);
	json_builder_end_array(b);
}

static void add_disk(JsonBuilder *b, const SnapDisk *d)
{
	json_builder_begin_object(b);
	add_text(b, "device", d->device);
	add_text(b, "qdev", d->qdev);
	add_text(b, "node", d->node);
	add_text(b, "image", d->image);
	add_text(b, "format", d->format);
	json_builder_set_member_name(b, "read-only");
	json_builder_add_boolean_value(b, d->read_only);
	add_text(b, "overlay", d->overlay);
	add_list(b, "chain", d->chain);
	json_builder_end_object(b);
}

static void add_memory(JsonBuilder *b, const SnapVm *vm)
{
	if (!vm->memory_id || vm->memory_size > G_MAXINT64)
		return;
	json_builder_set_member_name(b, "memory");
	json_builder_begin_object(b);
	add_text(b, "id", vm->memory_id);
	json_builder_set_member_name(b, "size");
	json_builder_add_int_value(b, (gint64)vm->memory_size);
	json_builder_end_object(b);
}

static void add_vm(JsonBuilder *b, const SnapVm *vm)
{
	json_builder_begin_object(b);
	json_builder_set_member_name(b, "snapfs-vm");
	json_builder_add_int_value(b, VERSION);
	add_text(b, "saved", vm->saved);
	add_text(b, "qemu", vm->qemu);
	add_text(b, "machine", vm->machine);
	add_memory(b, vm);
	add_text(b, "run-state", vm->run_state);
	add_text(b, "way", vm->way);
	add_list(b, "capabilities", vm->capabilities);
	json_builder_set_member_name(b, "disks");
	json_builder_begin_array(b);
	for (guint i = 0; i < vm->disks->len; i++)
		add_disk(b, vm->disks->pdata[i]);
	json_builder_end_array(b);
	json_builder_set_member_name(b, "pid");
	json_builder_add_int_value(b, vm->pid);
	add_text(b, "folder", vm->folder);
	add_list(b, "command", vm->command);
	json_builder_end_object(b);
}

int snap_vm_write(const SnapVm *vm, const char *folder, GError **error)
{
	g_autofree char *path = g_build_filename(folder, SNAP_VM_FILE, NULL);
	g_autoptr(JsonBuilder) builder = json_builder_new();
	g_autoptr(GError) cause = NULL;
	g_autoptr(JsonNode) root = NULL;
	g_autofree char *text = NULL, *whole = NULL;

	add_vm(builder, vm);
	root = json_builder_get_root(builder);
	text = json_to_string(root, TRUE);
	whole = g_strconcat(text, "\n", NULL);
	/* A command line may hold what is not for everyone's eyes. */
	if (!g_file_set_contents_full(path, whole, -1,
				      G_FILE_SET_CONTENTS_CONSISTENT |
					      G_FILE_SET_CONTENTS_DURABLE,
				      0600, &cause))
		return snap_fail(error, EIO, "%s", cause->message);
	return 0;
}

/* ---- reading ---- */

static GStrv get_list(JsonObject *object, const char *name)
{
	JsonArray *list = snap_jsonin_list(object, name);
	GPtrArray *words = g_ptr_array_new();

	for (guint i = 0; i < snap_jsonin_length(list); i++) {
		const char *word = snap_jsonin_text_at(list, i);

		if (word)
			g_ptr_array_add(words, g_strdup(word));
	}
	g_ptr_array_add(words, NULL);
	return (GStrv)g_ptr_array_free(words, FALSE);
}

static SnapDisk *get_disk(JsonObject *object)
{
	SnapDisk *d = snap_disk_new();

	d->device = g_strdup(snap_jsonin_text(object, "device"));
	d->qdev = g_strdup(snap_jsonin_text(object, "qdev"));
	d->node = g_strdup(snap_jsonin_text(object, "node"));
	d->image = g_strdup(snap_jsonin_text(object, "image"));
	d->format = g_strdup(snap_jsonin_text(object, "format"));
	d->read_only = snap_jsonin_bool(object, "read-only");
	d->overlay = g_strdup(snap_jsonin_text(object, "overlay"));
	d->chain = get_list(object, "chain");
	return d;
}

static SnapVm *get_vm(JsonObject *o)
{
	JsonObject *memory = snap_jsonin_object(o, "memory");
	JsonArray *disks = snap_jsonin_list(o, "disks");
	SnapVm *vm = snap_vm_new();

	vm->saved = g_strdup(snap_jsonin_text(o, "saved"));
	vm->qemu = g_strdup(snap_jsonin_text(o, "qemu"));
	vm->machine = g_strdup(snap_jsonin_text(o, "machine"));
	vm->run_state = g_strdup(snap_jsonin_text(o, "run-state"));
	vm->way = g_strdup(snap_jsonin_text(o, "way"));
	vm->memory_id = g_strdup(snap_jsonin_text(memory, "id"));
	vm->memory_size =
		(uint64_t)MAX(snap_jsonin_number(memory, "size", 0), 0);
	vm->capabilities = get_list(o, "capabilities");
	for (guint i = 0; i < snap_jsonin_length(disks); i++)
		g_ptr_array_add(vm->disks, get_disk(snap_jsonin_at(disks, i)));
	vm->pid = (pid_t)CLAMP(snap_jsonin_number(o, "pid", 0), 0, G_MAXINT);
	vm->folder = g_strdup(snap_jsonin_text(o, "folder"));
	vm->command = get_list(o, "command");
	if (!*vm->command)
		g_clear_pointer(&vm->command, g_strfreev);
	return vm;
}

static int check_vm(const SnapVm *vm, GError **error)
{
	for (guint i = 0; i < vm->disks->len; i++) {
		const SnapDisk *d = vm->disks->pdata[i];

		if (!d->image || !d->format)
			return snap_fail(error, EPROTO,
					 "disk %u has no image or no format",
					 i);
	}
	return 0;
}

static int parse_vm(const char *text, gsize size, SnapVm **ret_vm,
		    GError **error)
{
	g_autoptr(JsonObject) object = NULL;
	g_autoptr(SnapVm) vm = NULL;
	gint64 version;
	int r = snap_jsonin_parse(text, size, &object, error);

	if (r < 0)
		return r;
	version = snap_jsonin_number(object, "snapfs-vm", -1);
	if (version < 1)
		return snap_fail(error, EPROTO, "not written by snapfs save");
	if (version > VERSION)
		return snap_fail(error, EOPNOTSUPP,
				 "version %" G_GINT64_FORMAT ", this program "
				 "knows %d",
				 version, VERSION);
	vm = get_vm(object);
	r = check_vm(vm, error);
	if (r == 0)
		*ret_vm = g_steal_pointer(&vm);
	return r;
}

/* All of a small file, NUL behind it. */
static int read_all(int fd, char **ret, gsize *ret_size)
{
	g_autofree char *buf = g_malloc(FILE_MAX + 1);
	gsize at = 0;

	while (at <= FILE_MAX) {
		ssize_t n = read(fd, buf + at, FILE_MAX + 1 - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0) {
			buf[at] = '\0';
			*ret = g_steal_pointer(&buf);
			*ret_size = at;
			return 0;
		}
		at += (gsize)n;
	}
	return -EFBIG;
}

int snap_vm_read(const char *folder, SnapVm **ret_vm, GError **error)
{
	g_autofree char *path = g_build_filename(folder, SNAP_VM_FILE, NULL);
	snap_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	g_autofree char *text = NULL;
	struct stat st;
	gsize size = 0;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return snap_fail_errno(error, errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return snap_fail(error, EPROTO, "%s: no ordinary file", path);
	/* It says what is run, and which files a guest gets to see. */
	if ((st.st_uid != geteuid() && st.st_uid != 0) || st.st_mode & 022)
		return snap_fail(error, EPERM,
				 "%s: somebody else could have written it; "
				 "make it yours alone, or remove it",
				 path);
	r = read_all(fd, &text, &size);
	if (r < 0)
		return snap_fail_errno(error, -r, "%s", path);
	r = parse_vm(text, size, ret_vm, error);
	if (r < 0)
		return snap_fail_prefix(error, r, "%s", path);
	return 0;
}
