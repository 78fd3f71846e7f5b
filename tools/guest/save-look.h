/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a save finds in QEMU: the guest, and the migration settings. */
#pragma once

#include "tools/guest/qmp.h"
#include "tools/guest/vm.h"

/* Collects what vm.json says about the guest; its disks only if `disks`.
 * Returns 0, -EBUSY if the guest cannot be saved in its state, or -errno. */
int snap_save_look(SnapQmp *qmp, SnapVm *vm, bool disks, GError **error);

/* Prints what a revert with the saved command line would fail at, if the disks
 * are frozen as planned. */
void snap_save_look_ahead(const SnapVm *vm);

/* QEMU's migration settings from before the save. */
struct snap_save_settings {
	GStrv capabilities; /* those that were on */
	gint64 bandwidth;   /* bytes a second; -1: not known */
	bool changed;	    /* they must be set back */
};

/* Gets the settings. Returns 0 or -errno. */
int snap_save_settings_get(SnapQmp *qmp, struct snap_save_settings *settings,
			   GError **error);

/* Switches off all that would change or slow down the stream. Returns 0 or
 * -errno. */
int snap_save_settings_clear(SnapQmp *qmp, struct snap_save_settings *settings,
			     GError **error);

/* Sets the settings back if they were changed. Returns 0 or -errno. */
int snap_save_settings_restore(SnapQmp *qmp,
			       struct snap_save_settings *settings,
			       GError **error);
void snap_save_settings_free(struct snap_save_settings *settings);
