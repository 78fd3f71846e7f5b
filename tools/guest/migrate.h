/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Migration as QMP has it: capabilities, and how far it is. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tools/guest/qmp.h"

/* How a migration stands. */
enum snap_migrate_state {
	SNAP_MIGRATE_NONE, /* none, or all are over */
	SNAP_MIGRATE_RUNS,
	SNAP_MIGRATE_DONE,
	SNAP_MIGRATE_FAILED, /* or cancelled */
	SNAP_MIGRATE_PAUSED, /* postcopy has lost its source */
};

typedef struct {
	enum snap_migrate_state state;
	bool postcopy;	/* the guest may run, pages come behind */
	bool cancelled; /* FAILED, because somebody wished so */
	uint64_t pages; /* sent so far */
	uint64_t total; /* bytes of RAM */
	uint64_t done;	/* of those, bytes that were sent */
	char *why;	/* FAILED: QEMU's words; "" where it has none */
} SnapMigrate;

/* Begins as { 0 }. */
void snap_migrate_clear(SnapMigrate *m);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(SnapMigrate, snap_migrate_clear)

/* Asks QEMU; what *ret held is let go of. */
int snap_migrate_query(SnapQmp *qmp, SnapMigrate *ret, GError **error);

/* QEMU's run state: "running", "paused" …; g_free. */
int snap_migrate_run_state(SnapQmp *qmp, char **ret, GError **error);

/* The names of the capabilities that are on; g_strfreev. */
int snap_migrate_capabilities(SnapQmp *qmp, GStrv *ret, GError **error);

/* Switches capabilities, named up to a NULL. */
int snap_migrate_switch(SnapQmp *qmp, const char *const *names, bool on,
			GError **error);
