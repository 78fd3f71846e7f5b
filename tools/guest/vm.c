/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/guest/vm.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "format/base/units.h"
#include "tools/cli/json-writer.h"
#include "tools/guest/json.h"
#include "tools/guest/run-state.h"
#include "tools/guest/trust.h"

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
	g_free(vm->uuid);
	g_free(vm->devstate);
	g_free(vm->stream_end);
	g_free(vm->memory_id);
	g_strfreev(vm->capabilities);
	g_ptr_array_unref(vm->disks);
	g_free(vm->folder);
	g_strfreev(vm->command);
	g_free(vm);
}

bool snap_vm_ran(const SnapVm *vm)
{
	const struct snap_run_state *state =
		vm->run_state ? snap_run_state_find(vm->run_state) : NULL;

	return state && state->revert == SNAP_REVERT_RUNS;
}

/* ---- the command line ---- */

/* Reads the command line of a process; NULL if that fails. */
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
		/* JSON cannot hold it. */
		if (!g_utf8_validate(text + at, -1, NULL))
			return NULL;
		g_ptr_array_add(words, text + at);
	}
	g_ptr_array_add(words, NULL);
	return g_strdupv((GStrv)words->pdata);
}

/* Tells whether a command line starts QEMU. The socket may have been made by
 * another program, such as libvirt. */
static bool is_qemu(GStrv command)
{
	g_autofree char *name = g_path_get_basename(*command);

	return g_str_has_prefix(name, "qemu") || !strcmp(name, "kvm");
}

void snap_vm_read_command(SnapVm *vm, pid_t pid, uid_t uid)
{
	g_autofree char *cwd = g_strdup_printf("/proc/%d/cwd", (int)pid);

	vm->pid = pid;
	/* A revert runs it as the caller, so another user must not choose it.
	 */
	if (uid == geteuid() || uid == 0)
		vm->command = read_command(pid);
	if (vm->command && !is_qemu(vm->command))
		g_clear_pointer(&vm->command, g_strfreev);
	vm->folder = pid > 0 ? g_file_read_link(cwd, NULL) : NULL;
	if (vm->folder && !g_utf8_validate(vm->folder, -1, NULL))
		g_clear_pointer(&vm->folder, g_free);
}

bool snap_vm_is_running(const SnapVm *vm)
{
	g_auto(GStrv) now = read_command(vm->pid);

	return now && vm->command &&
	       g_strv_equal((const char *const *)now,
			    (const char *const *)vm->command);
}

/* ---- writing ---- */

/* A text that is not UTF-8 could not be read back, so it is left out. */
static void add_text(SnapJsonWriter *w, const char *key, const char *value)
{
	if (value && g_utf8_validate(value, -1, NULL))
		snap_json_writer_text(w, key, value);
}

static void add_list(SnapJsonWriter *w, const char *key, GStrv words)
{
	if (!words)
		return;
	snap_json_writer_list(w, key);
	for (; *words; words++)
		snap_json_writer_text(w, NULL, *words);
	snap_json_writer_end(w);
}

static void add_disk(SnapJsonWriter *w, const SnapDisk *d)
{
	snap_json_writer_object(w, NULL);
	add_text(w, "device", d->device);
	add_text(w, "qdev", d->qdev);
	add_text(w, "node", d->node);
	add_text(w, "image", d->image);
	add_text(w, "format", d->format);
	if (d->size && d->size <= G_MAXINT64)
		snap_json_writer_number(w, "size", d->size);
	snap_json_writer_bool(w, "read-only", d->read_only);
	add_text(w, "overlay", d->overlay);
	add_list(w, "chain", d->chain);
	snap_json_writer_end(w);
}

static void add_memory(SnapJsonWriter *w, const SnapVm *vm)
{
	if (!vm->memory_id || vm->memory_size > G_MAXINT64)
		return;
	snap_json_writer_object(w, "memory");
	add_text(w, "id", vm->memory_id);
	snap_json_writer_number(w, "size", vm->memory_size);
	snap_json_writer_end(w);
}

static char *vm_text(const SnapVm *vm)
{
	g_autoptr(SnapJsonWriter) w = snap_json_writer_new();

	snap_json_writer_number(w, "snapfs-vm", VERSION);
	add_text(w, "saved", vm->saved);
	add_text(w, "uuid", vm->uuid);
	add_text(w, "devstate", vm->devstate);
	add_text(w, "stream-end", vm->stream_end);
	add_text(w, "qemu", vm->qemu);
	add_text(w, "machine", vm->machine);
	add_memory(w, vm);
	add_text(w, "run-state", vm->run_state);
	add_text(w, "way", vm->way);
	add_list(w, "capabilities", vm->capabilities);
	snap_json_writer_list(w, "disks");
	for (guint i = 0; i < vm->disks->len; i++)
		add_disk(w, vm->disks->pdata[i]);
	snap_json_writer_end(w);
	snap_json_writer_number(w, "pid", (uint64_t)vm->pid);
	add_text(w, "folder", vm->folder);
	add_list(w, "command", vm->command);
	return snap_json_writer_finish(w);
}

int snap_vm_write(const SnapVm *vm, int folder_fd, GError **error)
{
	g_autofree char *text = vm_text(vm);
	g_autofree char *temporary =
		g_strdup_printf("." SNAP_VM_FILE ".%d", (int)getpid());
	struct snap_replace how = {
		.dirfd = folder_fd,
		.name = SNAP_VM_FILE,
		.tmp_dirfd = folder_fd,
		.tmp_name = temporary,
		.like_fd = -1,
		.mode = 0600, /* a command line may hold secrets */
		.durable = true,
	};
	int r = snap_replace_file(&how, text, strlen(text));

	return r < 0 ? snap_fail_errno(error, -r, SNAP_VM_FILE) : 0;
}

/* ---- reading ---- */

static GStrv get_list(JsonObject *object, const char *name)
{
	JsonArray *list = snap_json_list(object, name);
	GPtrArray *words = g_ptr_array_new();

	for (guint i = 0; i < snap_json_length(list); i++) {
		const char *word = snap_json_text_at(list, i);

		if (word)
			g_ptr_array_add(words, g_strdup(word));
	}
	g_ptr_array_add(words, NULL);
	return (GStrv)g_ptr_array_free(words, FALSE);
}

static SnapDisk *get_disk(JsonObject *object)
{
	SnapDisk *d = snap_disk_new();

	d->device = g_strdup(snap_json_text(object, "device"));
	d->qdev = g_strdup(snap_json_text(object, "qdev"));
	d->node = g_strdup(snap_json_text(object, "node"));
	d->image = g_strdup(snap_json_text(object, "image"));
	d->format = g_strdup(snap_json_text(object, "format"));
	d->size = (uint64_t)MAX(snap_json_number(object, "size", 0), 0);
	d->read_only = snap_json_bool(object, "read-only");
	d->overlay = g_strdup(snap_json_text(object, "overlay"));
	d->chain = get_list(object, "chain");
	return d;
}

static SnapVm *get_vm(JsonObject *o)
{
	JsonObject *memory = snap_json_object(o, "memory");
	JsonArray *disks = snap_json_list(o, "disks");
	SnapVm *vm = snap_vm_new();

	vm->saved = g_strdup(snap_json_text(o, "saved"));
	vm->uuid = g_strdup(snap_json_text(o, "uuid"));
	vm->devstate = g_strdup(snap_json_text(o, "devstate"));
	vm->stream_end = g_strdup(snap_json_text(o, "stream-end"));
	vm->qemu = g_strdup(snap_json_text(o, "qemu"));
	vm->machine = g_strdup(snap_json_text(o, "machine"));
	vm->run_state = g_strdup(snap_json_text(o, "run-state"));
	vm->way = g_strdup(snap_json_text(o, "way"));
	vm->memory_id = g_strdup(snap_json_text(memory, "id"));
	vm->memory_size = (uint64_t)MAX(snap_json_number(memory, "size", 0), 0);
	vm->capabilities = get_list(o, "capabilities");
	for (guint i = 0; i < snap_json_length(disks); i++)
		g_ptr_array_add(vm->disks, get_disk(snap_json_at(disks, i)));
	vm->pid = (pid_t)CLAMP(snap_json_number(o, "pid", 0), 0, G_MAXINT);
	vm->folder = g_strdup(snap_json_text(o, "folder"));
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
	int r = snap_json_parse(text, size, &object, error);

	if (r < 0)
		return r;
	version = snap_json_number(object, "snapfs-vm", -1);
	if (version < 1)
		return snap_fail(error, EPROTO,
				 "it was not written by snapfs save");
	if (version > VERSION)
		return snap_fail(error, EOPNOTSUPP,
				 "it has version %" G_GINT64_FORMAT "; this "
				 "program knows up to %d",
				 version, VERSION);
	vm = get_vm(object);
	r = check_vm(vm, error);
	if (r == 0)
		*ret_vm = g_steal_pointer(&vm);
	return r;
}

int snap_vm_read(int folder, const char *path, SnapVm **ret_vm, GError **error)
{
	g_autofree char *name = g_build_filename(path, SNAP_VM_FILE, NULL);
	snap_autofd int fd = snap_open_regular(folder, SNAP_VM_FILE, NULL);
	g_autofree char *text = NULL;
	gsize size = 0;
	int r;

	if (fd == -EINVAL)
		return snap_fail(error, EPROTO, "%s is not a regular file",
				 name);
	if (fd < 0)
		return snap_fail_errno(error, -fd, "%s", name);
	/* It names the program to run and the files that the guest sees. */
	r = snap_trust_check(fd, name, error);
	if (r < 0)
		return r;
	r = snap_read_fd(fd, FILE_MAX, &text, &size);
	if (r < 0)
		return snap_fail_errno(error, -r, "%s", name);
	r = parse_vm(text, size, ret_vm, error);
	return r < 0 ? snap_fail_prefix(error, r, "%s", name) : 0;
}
