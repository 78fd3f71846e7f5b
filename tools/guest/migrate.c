/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/guest/migrate.h"

#include <string.h>

#include "format/base/error.h"
#include "tools/cli/print.h"

void snap_migrate_clear(SnapMigrate *m)
{
	g_clear_pointer(&m->why, g_free);
}

static enum snap_migrate_state state_of(const char *status)
{
	static const struct {
		const char *status;
		enum snap_migrate_state state;
	} states[] = {
		{ "none", SNAP_MIGRATE_NONE },
		{ "completed", SNAP_MIGRATE_DONE },
		{ "failed", SNAP_MIGRATE_FAILED },
		{ "cancelled", SNAP_MIGRATE_FAILED },
		{ "postcopy-paused", SNAP_MIGRATE_PAUSED },
	};

	for (guint i = 0; status && i < G_N_ELEMENTS(states); i++)
		if (!strcmp(status, states[i].status))
			return states[i].state;
	return status ? SNAP_MIGRATE_RUNS : SNAP_MIGRATE_NONE;
}

static uint64_t amount(JsonObject *object, const char *name)
{
	return (uint64_t)MAX(snap_json_number(object, name, 0), 0);
}

int snap_migrate_query(SnapQmp *qmp, SnapMigrate *ret, GError **error)
{
	g_autoptr(JsonObject) answer = NULL;
	const char *status, *why;
	JsonObject *ram;
	int r = snap_qmp_call(qmp, "query-migrate", NULL, &answer, error);

	if (r < 0)
		return r;
	snap_migrate_clear(ret);
	status = snap_json_text(answer, "status");
	why = snap_json_text(answer, "error-desc");
	ram = snap_json_object(answer, "ram");
	*ret = (SnapMigrate){
		.state = state_of(status),
		.postcopy = status && (g_str_has_prefix(status, "postcopy-") ||
				       !strcmp(status, "completed")),
		.cancelled = status && !strcmp(status, "cancelled"),
		.total = amount(ram, "total"),
		.why = snap_print_safe(why ? why : ""),
	};
	/* The sum wraps only for numbers that no guest reaches. */
	ret->pages = amount(ram, "normal") + amount(ram, "duplicate");
	ret->done = ret->pages * amount(ram, "page-size");
	return 0;
}

int snap_migrate_run_state(SnapQmp *qmp, char **ret, GError **error)
{
	g_autoptr(JsonObject) answer = NULL;
	const char *state;
	int r = snap_qmp_call(qmp, "query-status", NULL, &answer, error);

	if (r < 0)
		return r;
	state = snap_json_text(answer, "status");
	if (!state)
		return snap_fail(error, EPROTO,
				 "QEMU does not say whether the guest runs");
	*ret = snap_print_safe(state);
	return 0;
}

int snap_migrate_capabilities(SnapQmp *qmp, GStrv *ret, GError **error)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(JsonObject) answer = NULL;
	JsonArray *list;
	int r = snap_qmp_call(qmp, "query-migrate-capabilities", NULL, &answer,
			      error);

	if (r < 0)
		return r;
	list = snap_json_list(answer, "list");
	for (guint i = 0; i < snap_json_length(list); i++) {
		JsonObject *one = snap_json_at(list, i);
		const char *name = snap_json_text(one, "capability");

		if (name && snap_json_bool(one, "state"))
			g_ptr_array_add(names, g_strdup(name));
	}
	g_ptr_array_add(names, NULL);
	*ret = g_strdupv((GStrv)names->pdata);
	return 0;
}

int snap_migrate_switch(SnapQmp *qmp, const char *const *names, bool on,
			GError **error)
{
	JsonObject *arguments = json_object_new();
	JsonArray *list = json_array_new();

	for (; *names; names++) {
		JsonObject *one = snap_json_new("capability", *names, NULL);

		json_object_set_boolean_member(one, "state", on);
		json_array_add_object_element(list, one);
	}
	if (!json_array_get_length(list)) {
		json_array_unref(list);
		json_object_unref(arguments);
		return 0;
	}
	json_object_set_array_member(arguments, "capabilities", list);
	return snap_qmp_call(qmp, "migrate-set-capabilities", arguments, NULL,
			     error);
}
