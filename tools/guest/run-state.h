/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU's run states: what a save does in each, and what a revert makes of it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

enum snap_save_in {
	SNAP_SAVE_ANY_WAY,
	/* After any other save, QEMU would abort when the guest continues. */
	SNAP_SAVE_BACKGROUND,
	/* QEMU would abort when a background save begins. Afterwards its state
	 * is postmigrate. */
	SNAP_SAVE_STOPPED,
	SNAP_SAVE_REFUSED,
};

/* What it means when QEMU has this state after it has loaded a guest. */
enum snap_revert_in {
	SNAP_REVERT_WAITS,  /* it loads still */
	SNAP_REVERT_RUNS,   /* the guest is there */
	SNAP_REVERT_STANDS, /* it is there, and waits for `cont` */
	SNAP_REVERT_HALTED, /* it is there, and `cont` does not help */
	SNAP_REVERT_WRONG,  /* no revert leads there */
};

struct snap_run_state {
	const char *name;
	enum snap_save_in save;
	enum snap_revert_in revert;
	const char *why; /* SNAP_SAVE_REFUSED: the reason */
};

/* Finds a state by its name; NULL if this program does not know it. */
const struct snap_run_state *snap_run_state_find(const char *name);

/* Checks that a guest can be saved in this state by this version of QEMU.
 * Returns 0, -EBUSY, or -EOPNOTSUPP. */
int snap_run_state_check_save(const char *name, guint qemu, GError **error);
