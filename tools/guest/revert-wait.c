/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU does not say how much memory has arrived. But the bridge is a child of
 * QEMU, and /proc says how much it has written.
 */
#include "tools/guest/revert-wait.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "format/base/error.h"
#include "format/base/units.h"
#include "tools/guest/migrate.h"
#include "tools/cli/print.h"
#include "tools/cli/signals.h"
#include "tools/cli/progress.h"
#include "tools/guest/save-folder.h"

#define STEP 50 /* ms */

/* Finds the bridge's process; 0 if there is none. */
static int find_bridge(GPid qemu)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/children",
						(int)qemu, (int)qemu);
	g_autofree char *text = NULL;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return 0;
	return (int)g_ascii_strtoll(text, NULL, 10);
}

/* Gets how many bytes a process has written. */
static uint64_t written(int pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/io", pid);
	g_autofree char *text = NULL;
	const char *line;

	if (!pid || !g_file_get_contents(path, &text, NULL, NULL))
		return 0;
	line = strstr(text, "wchar: ");
	return line ? g_ascii_strtoull(line + strlen("wchar: "), NULL, 10) : 0;
}

static uint64_t attribute(const SnapRevertPlan *p, const char *name)
{
	g_autofree char *text = snap_folder_attribute(p->path, name);

	return text ? g_ascii_strtoull(text, NULL, 10) : 0;
}

/* Gets how many bytes the bridge will send; 0 if not known. */
static uint64_t bytes_to_send(const SnapRevertPlan *p)
{
	uint64_t pages = attribute(p, "pages");
	uint64_t zero = attribute(p, "pages_zero");

	return pages > zero ? (pages - zero) * SNAP_PAGE : 0;
}

int snap_revert_wait_stalled(const SnapRevertPlan *p, GError **error)
{
	return snap_fail(
		error, EIO,
		"the guest needs memory that cannot be read; it waits. "
		"Once the memory can be read again, \"snapfs-bridge "
		"--resume %s\" continues, see snapfs-bridge(1)",
		p->path);
}

int snap_revert_wait(SnapQemuRun *run, const SnapRevertPlan *plan, int signals,
		     GError **error)
{
	g_autoptr(SnapProgress) progress = snap_progress_new(plan->path);
	static const char *const names[] = { "postcopy-ram", "events", NULL };
	uint64_t all = bytes_to_send(plan);
	int bridge = find_bridge(run->pid);

	for (;;) {
		g_auto(SnapMigrate) m = { 0 };
		int r = snap_migrate_query(run->qmp, &m, error);

		if (r < 0)
			return r;
		if (m.state == SNAP_MIGRATE_PAUSED ||
		    m.state == SNAP_MIGRATE_FAILED)
			return snap_revert_wait_stalled(plan, error);
		if (m.state != SNAP_MIGRATE_RUNS)
			break;
		snap_progress_show(progress, written(bridge), all);
		if (snap_signals_sleep(signals, STEP))
			return -EINTR;
	}
	/* With it on, QEMU would not save in the background. */
	snap_migrate_switch(run->qmp, names, false, NULL);
	return 0;
}
