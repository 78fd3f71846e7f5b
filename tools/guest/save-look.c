/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/guest/save-look.h"

#include <errno.h>
#include <string.h>

#include "format/base/error.h"
#include "tools/cli/print.h"
#include "tools/guest/command.h"
#include "tools/guest/disks.h"
#include "tools/guest/migrate.h"
#include "tools/guest/run-state.h"

/* ---- the guest ---- */

/* Gets a property of the machine; NULL if there is none; g_free. */
static char *machine_property(SnapQmp *qmp, const char *name)
{
	JsonObject *arguments =
		snap_json_new("path", "/machine", "property", name, NULL);
	g_autoptr(JsonObject) answer = NULL;

	if (snap_qmp_call(qmp, "qom-get", arguments, &answer, NULL) < 0)
		return NULL;
	return g_strdup(snap_json_text(answer, "value"));
}

static void look_at_machine(SnapQmp *qmp, SnapVm *vm)
{
	g_autofree char *backend = machine_property(qmp, "memory-backend");
	g_autoptr(JsonObject) memory = NULL;

	vm->qemu = g_strdup(snap_qmp_peer(qmp)->version_text);
	vm->machine = machine_property(qmp, "type");
	if (vm->machine && g_str_has_suffix(vm->machine, "-machine"))
		vm->machine[strlen(vm->machine) - strlen("-machine")] = '\0';
	if (backend && *backend)
		vm->memory_id = g_path_get_basename(backend);
	if (snap_qmp_call(qmp, "query-memory-size-summary", NULL, &memory,
			  NULL) == 0)
		vm->memory_size = (uint64_t)MAX(
			snap_json_number(memory, "base-memory", 0), 0);
}

int snap_save_look(SnapQmp *qmp, SnapVm *vm, bool disks, GError **error)
{
	g_auto(SnapMigrate) m = { 0 };
	int r = snap_migrate_run_state(qmp, &vm->run_state, error);

	if (r == 0)
		r = snap_migrate_query(qmp, &m, error);
	if (r < 0)
		return r;
	if (m.state == SNAP_MIGRATE_RUNS || m.state == SNAP_MIGRATE_PAUSED)
		return snap_fail(error, EBUSY,
				 "a migration of this guest is running");
	r = snap_run_state_check_save(vm->run_state,
				      snap_qmp_peer(qmp)->version, error);
	if (r < 0)
		return r;
	look_at_machine(qmp, vm);
	snap_vm_read_command(vm, snap_qmp_peer(qmp)->pid,
			     snap_qmp_peer(qmp)->uid);
	return disks ? snap_disks_list(qmp, vm, error) : 0;
}

static void warn(const char *why)
{
	snap_print_error("save: a revert will not find its way with QEMU's "
			 "command line: %s; type another one then",
			 why);
}

void snap_save_look_ahead(const SnapVm *vm)
{
	g_autoptr(GPtrArray) command =
		vm->command ? snap_command_new(vm->command,
					       g_strv_length(vm->command))
			    : NULL;
	const char *value = command ? snap_command_inherits(command) : NULL;

	if (value) {
		g_autofree char *why = g_strconcat(
			value, " names a file that another program opened",
			NULL);

		warn(why);
	}
	for (guint i = 0; command && i < vm->disks->len; i++) {
		const SnapDisk *d = vm->disks->pdata[i];
		g_autoptr(GError) error = NULL;

		if (d->overlay && snap_command_replace(command, d, d->overlay,
						       vm->folder, &error) < 0)
			warn(error->message);
	}
}

/* ---- settings ---- */

static int set_bandwidth(SnapQmp *qmp, gint64 bandwidth, GError **error)
{
	JsonObject *arguments = json_object_new();

	json_object_set_int_member(arguments, "max-bandwidth", bandwidth);
	return snap_qmp_call(qmp, "migrate-set-parameters", arguments, NULL,
			     error);
}

int snap_save_settings_get(SnapQmp *qmp, struct snap_save_settings *s,
			   GError **error)
{
	g_autoptr(JsonObject) parameters = NULL;
	int r = snap_migrate_capabilities(qmp, &s->capabilities, error);

	if (r == 0)
		r = snap_qmp_call(qmp, "query-migrate-parameters", NULL,
				  &parameters, error);
	if (r == 0)
		s->bandwidth =
			snap_json_number(parameters, "max-bandwidth", -1);
	return r;
}

/* Lists the capabilities to switch off: all but those that cannot change the
 * stream. */
static GStrv to_switch_off(const struct snap_save_settings *s)
{
	GPtrArray *names = g_ptr_array_new();

	for (char **at = s->capabilities; *at; at++)
		if (strcmp(*at, "events"))
			g_ptr_array_add(names, g_strdup(*at));
	g_ptr_array_add(names, NULL);
	return (GStrv)g_ptr_array_free(names, FALSE);
}

int snap_save_settings_clear(SnapQmp *qmp, struct snap_save_settings *s,
			     GError **error)
{
	g_auto(GStrv) names = to_switch_off(s);
	int r;

	s->changed = true;
	r = snap_migrate_switch(qmp, (const char *const *)names, false, error);
	return r == 0 ? set_bandwidth(qmp, 0, error) : r;
}

int snap_save_settings_restore(SnapQmp *qmp, struct snap_save_settings *s,
			       GError **error)
{
	static const char *const background[] = { "background-snapshot", NULL };
	int r = 0;

	if (!s->changed)
		return 0;
	s->changed = false;
	/* QEMU before 6.0 does not have it. */
	snap_migrate_switch(qmp, background, false, NULL);
	r = snap_migrate_switch(qmp, (const char *const *)s->capabilities, true,
				error);
	if (r == 0 && s->bandwidth >= 0)
		r = set_bandwidth(qmp, s->bandwidth, error);
	return r;
}

void snap_save_settings_free(struct snap_save_settings *s)
{
	g_strfreev(s->capabilities);
}
