/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU's migration over QMP: its state and its capabilities. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tools/guest/qmp.h"

enum snap_migrate_state {
	SNAP_MIGRATE_NONE, /* there was none */
	SNAP_MIGRATE_RUNS,
	SNAP_MIGRATE_DONE,
	SNAP_MIGRATE_FAILED, /* or cancelled */
	SNAP_MIGRATE_PAUSED, /* postcopy has lost its source */
};

typedef struct {
	enum snap_migrate_state state;
	bool postcopy;	/* the guest may run while pages still arrive */
	bool cancelled; /* the state is FAILED because of a cancel */
	uint64_t pages; /* sent so far */
	uint64_t total; /* bytes of RAM */
	uint64_t done;	/* bytes of RAM that were sent */
	char *why;	/* QEMU's error if the state is FAILED; may be "" */
} SnapMigrate;

/* Frees the content; a SnapMigrate starts as { 0 }. */
void snap_migrate_clear(SnapMigrate *m);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(SnapMigrate, snap_migrate_clear)

/* Asks QEMU for the state and replaces the content of *ret. Returns 0 or
 * -errno. */
int snap_migrate_query(SnapQmp *qmp, SnapMigrate *ret, GError **error);

/* Asks QEMU for the guest's run state ("running", "paused" …); g_free. Returns
 * 0 or -errno. */
int snap_migrate_run_state(SnapQmp *qmp, char **ret, GError **error);

/* Gets the names of the capabilities that are on; g_strfreev. Returns 0 or
 * -errno. */
int snap_migrate_capabilities(SnapQmp *qmp, GStrv *ret, GError **error);

/* Switches capabilities on or off; NULL is the last name. Returns 0 or -errno.
 */
int snap_migrate_switch(SnapQmp *qmp, const char *const *names, bool on,
			GError **error);
