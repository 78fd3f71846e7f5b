/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/guest/revert-plan.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "tools/cli/print.h"
#include "tools/cli/verb.h"
#include "tools/guest/command.h"
#include "tools/guest/disks.h"
#include "tools/guest/identity.h"
#include "tools/guest/qmp.h"
#include "tools/guest/revert-memory.h"
#include "tools/guest/save-folder.h"
#include "tools/guest/trust.h"
#include "tools/guest/typed.h"

#define BRIDGE "snapfs-bridge"

static const char *const ways[] = {
	[SNAP_WAY_BRIDGE] = "bridge",
	[SNAP_WAY_EAGER] = "eager",
	[SNAP_WAY_MEMORY_FILE] = "memory-file",
};

const char *snap_way_name(enum snap_way way)
{
	return ways[way];
}

void snap_revert_plan_free(SnapRevertPlan *p)
{
	if (!p)
		return;
	g_free(p->path);
	snap_vm_free(p->vm);
	g_free(p->folder);
	g_strfreev(p->bridge_options);
	if (p->command)
		g_ptr_array_unref(p->command);
	g_ptr_array_unref(p->overlays);
	g_free(p);
}

/* ---- the snapshot ---- */

/* Asks for the file by its name: the mount does not list all of them. */
static bool has(const SnapRevertPlan *p, const char *name)
{
	g_autofree char *path = g_build_filename(p->path, name, NULL);

	return access(path, R_OK) == 0;
}

static int parse_way(SnapRevertPlan *p, const char *way, GError **error)
{
	for (guint i = 0; i < G_N_ELEMENTS(ways); i++)
		if (!strcmp(way, ways[i])) {
			p->way = i;
			return 0;
		}
	return snap_usage_error(
		error, "--way=%s: want bridge, eager or memory-file", way);
}

int snap_revert_plan_set_eager(SnapRevertPlan *p, GError **error)
{
	if (!p->has_stream)
		return snap_fail(error, ENOENT,
				 "--way=eager needs the file stream, which %s "
				 "lacks; a mount of snapfs has it, so copy the "
				 "folder there",
				 p->path);
	p->way = SNAP_WAY_EAGER;
	return 0;
}

/* Checks that the folder holds a snapshot and has what the way needs. */
static int choose_way(SnapRevertPlan *p, const char *way, GError **error)
{
	bool parts = has(p, "ram") && has(p, "devstate");
	int r;

	p->has_stream = has(p, "stream");
	if (!p->has_stream && !parts) {
		g_autofree char *why = snap_folder_attribute(p->path, "error");

		return snap_fail(error, ENOENT, "no snapshot in %s%s%s",
				 p->path, why ? ": " : "", why ? why : "");
	}
	if (!way && !parts) {
		snap_print_error("revert: all memory is read first: %s has no "
				 "files ram and devstate",
				 p->path);
		p->way = SNAP_WAY_EAGER;
		return 0;
	}
	r = way ? parse_way(p, way, error) : 0;
	if (r < 0)
		return r;
	if (p->way == SNAP_WAY_EAGER)
		return snap_revert_plan_set_eager(p, error);
	if (!parts)
		return snap_fail(error, EINVAL,
				 "%s has no files ram and devstate; only "
				 "--way=eager works without them",
				 p->path);
	return 0;
}

/* Looks whether the folder is in a mount. Reads vm.json, if there is one. */
static int look_at_folder(SnapRevertPlan *p, int folder, GError **error)
{
	int r;

	p->mounted = snap_trust_in_mount(folder);
	/* One that cannot be read is no reason to use disks as they are now. */
	if (faccessat(folder, SNAP_VM_FILE, F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
	    errno == ENOENT)
		return 0;
	r = snap_vm_read(folder, p->path, &p->vm, error);
	return r == 0 ? snap_identity_check(p->vm, folder, p->path, error) : r;
}

int snap_revert_plan_new(const char *path, const char *way,
			 SnapRevertPlan **ret_plan, GError **error)
{
	g_autoptr(SnapRevertPlan) p = g_new0(SnapRevertPlan, 1);
	snap_autofd int typed = snap_typed_open(path, error);
	snap_autofd int folder = -1;
	char proc[SNAP_PROC_PATH];
	int r;

	p->overlays = g_ptr_array_new_with_free_func(g_free);
	if (typed < 0)
		return typed;
	folder = snap_open_folder(typed);
	if (folder < 0)
		return snap_fail_errno(error, -folder, "%s", path);
	snap_proc_path(proc, folder);
	p->path = g_file_read_link(proc, NULL);
	if (!p->path)
		p->path = g_strdup(path);
	r = choose_way(p, way, error);
	if (r == 0)
		r = look_at_folder(p, folder, error);
	if (r == 0)
		*ret_plan = g_steal_pointer(&p);
	return r;
}

/* ---- the command line ---- */

/* Uses the saved command line. The guest that was saved must have exited: two
 * guests cannot share sockets and logs. */
static int use_saved_command(SnapRevertPlan *p, GError **error)
{
	GStrv words = p->vm ? p->vm->command : NULL;

	if (!words)
		return snap_fail(error, EINVAL,
				 "%s has no " SNAP_VM_FILE " with QEMU's "
				 "command line; type one after --",
				 p->path);
	if (snap_vm_is_running(p->vm))
		return snap_fail(error, EBUSY,
				 "the QEMU that was saved still runs (pid %d); "
				 "end it, or type a command line after --",
				 (int)p->vm->pid);
	p->command = snap_command_new(words, g_strv_length(words));
	p->folder = g_strdup(p->vm->folder);
	return 0;
}

static int make_command(SnapRevertPlan *p, const struct snap_revert_opts *o,
			GError **error)
{
	g_autofree char *socket = snap_command_value(o->socket);
	g_autofree char *qmp =
		g_strconcat("unix:", socket, ",server=on,wait=off", NULL);
	bool given = o->n_command > 0;
	int r = 0;

	if (given)
		p->command = snap_command_new(o->command, o->n_command);
	else
		r = use_saved_command(p, error);
	if (r < 0)
		return r;
	p->stopped = snap_command_strip(p->command);
	/* The -S of the saved line concerned the first start only. */
	if (!given)
		p->stopped = false;
	p->stopped = p->stopped || (p->vm && !snap_vm_ran(p->vm));
	if (p->way == SNAP_WAY_MEMORY_FILE && p->mounted)
		snap_print_error("revert: the guest needs the mount as long as "
				 "it runs: if mount.snapfs ends, even to be "
				 "started again, the guest is lost (SIGBUS)");
	if (p->way == SNAP_WAY_MEMORY_FILE)
		r = snap_revert_memory_map(p->command, p->path, p->vm,
					   &p->bridge_options, error);
	if (!given && p->vm->machine) {
		g_autofree char *type =
			g_strconcat("type=", p->vm->machine, NULL);

		snap_command_add(p->command, "-machine", type, NULL);
	}
	if (p->stopped)
		snap_command_add(p->command, "-S", NULL);
	snap_command_add(p->command, "-qmp", qmp, "-incoming", "defer", NULL);
	return r;
}

/* ---- disks ---- */

/* Makes an overlay over a disk's image in the empty file `fd`. With its size
 * known, qemu-img need not open the image, for which it may lack a key that
 * QEMU has. */
static int make_overlay(const SnapDisk *d, int fd, GError **error)
{
	g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, d->size);
	g_autofree char *path =
		g_strdup_printf("/proc/%d/fd/%d", (int)getpid(), fd);
	const char *words[] = { "qemu-img", "create", "-q", "-f",      "qcow2",
				"-b",	    d->image, "-F", d->format, path,
				NULL,	    NULL,     NULL };
	g_autofree char *output = NULL, *safe = NULL;
	g_autoptr(GError) cause = NULL;
	int status;

	if (d->size) {
		words[10] = size;
		words[11] = "-u";
	}
	if (**d->chain == '/' && access(*d->chain, F_OK) < 0)
		return snap_fail_errno(error, errno, "disk %s: %s",
				       snap_disk_title(d), *d->chain);
	if (!g_spawn_sync(NULL, (char **)words, NULL,
			  G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL,
			  NULL, NULL, NULL, &output, &status, &cause))
		return snap_fail(error, ENOENT, "disk %s: %s",
				 snap_disk_title(d), cause->message);
	if (g_spawn_check_wait_status(status, NULL))
		return 0;
	safe = snap_print_safe(g_strstrip(output));
	return snap_fail(error, EIO, "disk %s: %s", snap_disk_title(d), safe);
}

static int make_disk(SnapRevertPlan *p, const SnapDisk *d, const char *folder,
		     GError **error)
{
	g_autofree char *here = g_get_current_dir();
	g_autofree char *path = NULL;
	snap_autofd int fd = -1;
	int r;

	if (*d->chain == NULL)
		return snap_fail(error, EPROTO,
				 "disk %s: " SNAP_VM_FILE " names no image",
				 snap_disk_title(d));
	path = snap_disk_overlay_path(d, "revert", folder, error);
	if (!path)
		return -EINVAL;
	r = snap_command_replace(p->command, d, path,
				 p->folder ? p->folder : here, error);
	if (r < 0)
		return r;
	/* Another user may be able to put links beside the image. */
	fd = snap_open_named(path, O_RDWR | O_CREAT | O_EXCL, 0644);
	if (fd < 0)
		return snap_fail_errno(error, -fd, "disk %s: %s",
				       snap_disk_title(d), path);
	g_ptr_array_add(p->overlays, g_strdup(path));
	return make_overlay(d, fd, error);
}

int snap_revert_plan_make(SnapRevertPlan *p, const struct snap_revert_opts *o,
			  GError **error)
{
	g_autofree char *folder =
		o->overlays ? g_canonicalize_filename(o->overlays, NULL) : NULL;
	int r = make_command(p, o, error);

	for (guint i = 0; r == 0 && p->vm && i < p->vm->disks->len; i++) {
		const SnapDisk *d = p->vm->disks->pdata[i];

		/* A disk without an overlay was not frozen. */
		if (d->overlay)
			r = make_disk(p, d, folder, error);
	}
	return r;
}

void snap_revert_plan_undo(SnapRevertPlan *p)
{
	for (guint i = 0; i < p->overlays->len; i++)
		unlink(p->overlays->pdata[i]);
}

/* ---- the source for QEMU ---- */

/* Finds the bridge beside this program; if there is none, the shell looks for
 * it. */
static char *bridge_path(void)
{
	g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
	g_autofree char *folder = self ? g_path_get_dirname(self) : NULL;
	g_autofree char *path =
		folder ? g_build_filename(folder, BRIDGE, NULL) : NULL;

	if (path && access(path, X_OK) == 0)
		return g_steal_pointer(&path);
	return g_strdup(BRIDGE);
}

char *snap_revert_plan_uri(const SnapRevertPlan *p, guint qemu)
{
	g_autofree char *stream = g_build_filename(p->path, "stream", NULL);
	g_autofree char *bridge = bridge_path();
	g_autofree char *program = g_shell_quote(bridge);
	g_autofree char *folder = g_shell_quote(p->path);
	g_autofree char *file = g_shell_quote(stream);
	GString *uri;

	if (p->way == SNAP_WAY_EAGER && qemu >= SNAP_QEMU_WITH_FILE)
		return g_strconcat("file:", stream, NULL);
	if (p->way == SNAP_WAY_EAGER)
		return g_strjoin(" ", "exec:exec cat", file, NULL);
	uri = g_string_new("exec:exec ");
	g_string_append(uri, program);
	for (char **word = p->bridge_options; word && *word; word++) {
		g_autofree char *quoted = g_shell_quote(*word);

		g_string_append_printf(uri, " %s", quoted);
	}
	g_string_append_printf(uri, " %s", folder);
	return g_string_free(uri, FALSE);
}
