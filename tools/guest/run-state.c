/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The states are those of RunState in QEMU's qapi/run-state.json. QEMU aborts
 * at a transition that system/runstate.c does not list
 * (runstate_transitions_def):
 *
 *   - A background save goes to "paused" and back to the state that was
 *     before. Only the live states and "paused" can.
 *   - Any other save goes to "finish-migrate" and "postmigrate". From there,
 *     `cont` goes to "running", or to "suspended" if the guest is suspended to
 *     RAM; the latter is not listed.
 */
#include "tools/guest/run-state.h"

#include <string.h>

#include "format/base/error.h"

/* Older ones do not know that a suspended guest is alive while it is stopped
 * (system/runstate.c: vm_was_suspended). */
#define QEMU_KEEPS_SUSPENDED 90000

static const struct snap_run_state states[] = {
	{ "colo", SNAP_SAVE_REFUSED, SNAP_REVERT_WRONG,
	  "the guest runs on two hosts" },
	{ "debug", SNAP_SAVE_STOPPED, SNAP_REVERT_HALTED, NULL },
	{ "finish-migrate", SNAP_SAVE_REFUSED, SNAP_REVERT_WRONG,
	  "a migration of this guest is about to end" },
	{ "guest-panicked", SNAP_SAVE_STOPPED, SNAP_REVERT_HALTED, NULL },
	{ "inmigrate", SNAP_SAVE_REFUSED, SNAP_REVERT_WAITS,
	  "QEMU waits for an incoming guest" },
	{ "internal-error", SNAP_SAVE_STOPPED, SNAP_REVERT_HALTED, NULL },
	{ "io-error", SNAP_SAVE_STOPPED, SNAP_REVERT_HALTED, NULL },
	{ "paused", SNAP_SAVE_ANY_WAY, SNAP_REVERT_STANDS, NULL },
	{ "postmigrate", SNAP_SAVE_REFUSED, SNAP_REVERT_STANDS,
	  "an earlier migration has stopped the guest; QEMU saves it only "
	  "after it has run: first give the monitor cont" },
	{ "prelaunch", SNAP_SAVE_STOPPED, SNAP_REVERT_STANDS, NULL },
	{ "restore-vm", SNAP_SAVE_REFUSED, SNAP_REVERT_WRONG,
	  "QEMU loads a snapshot of its own" },
	{ "running", SNAP_SAVE_ANY_WAY, SNAP_REVERT_RUNS, NULL },
	{ "save-vm", SNAP_SAVE_REFUSED, SNAP_REVERT_WRONG,
	  "QEMU saves a snapshot of its own" },
	{ "shutdown", SNAP_SAVE_STOPPED, SNAP_REVERT_HALTED, NULL },
	{ "suspended", SNAP_SAVE_BACKGROUND, SNAP_REVERT_RUNS, NULL },
	{ "watchdog", SNAP_SAVE_STOPPED, SNAP_REVERT_HALTED, NULL },
};

const struct snap_run_state *snap_run_state_find(const char *name)
{
	for (guint i = 0; i < G_N_ELEMENTS(states); i++)
		if (!strcmp(name, states[i].name))
			return &states[i];
	return NULL;
}

int snap_run_state_check_save(const char *name, guint qemu, GError **error)
{
	const struct snap_run_state *state = snap_run_state_find(name);

	if (!state)
		return snap_fail(error, EOPNOTSUPP,
				 "QEMU's state is %s, in which this program "
				 "does not know how to save",
				 name);
	if (state->save == SNAP_SAVE_REFUSED)
		return snap_fail(error, EBUSY, "QEMU's state is %s: %s", name,
				 state->why);
	if (state->save == SNAP_SAVE_BACKGROUND && qemu < QEMU_KEEPS_SUSPENDED)
		return snap_fail(error, EOPNOTSUPP,
				 "QEMU's state is %s, in which QEMU before 9.0 "
				 "cannot save: first wake the guest",
				 name);
	return 0;
}
