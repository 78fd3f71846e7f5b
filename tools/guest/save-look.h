/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a save finds in QEMU: the guest, and settings to be left as they were.
 */
#pragma once

#include "tools/guest/qmp.h"
#include "tools/guest/vm.h"

/* Takes down all that vm.json tells of a guest. -EBUSY where it is in no state
 * to be saved. */
int snap_save_look(SnapQmp *qmp, SnapVm *vm, bool disks, GError **error);

/* Settings of migration, as they were before. */
struct snap_save_had {
	GStrv capabilities; /* those that were on */
	gint64 bandwidth;   /* -1: not known */
	bool changed;
};

/* Takes them down. */
int snap_save_had_get(SnapQmp *qmp, struct snap_save_had *had, GError **error);

/* Switches off what would change the stream, or throttle it. */
int snap_save_had_clear(SnapQmp *qmp, struct snap_save_had *had,
			GError **error);

/* Sets everything as it was. */
int snap_save_had_restore(SnapQmp *qmp, struct snap_save_had *had,
			  GError **error);
void snap_save_had_free(struct snap_save_had *had);
