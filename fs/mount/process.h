/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The process of a mount: background, log, limits. Inside fs/mount. */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "fs/mount/options.h"

/* Forks into the background. Returns 0 in the child, with a descriptor for
 * snap_process_detach(), or -errno. The parent exits: with 0 when the child has
 * detached, else with the child's exit code. */
int snap_process_fork(int *ret_tell, GError **error);

/* Tells the parent that the mount works, and closes the terminal or pipe that
 * the program was started with; stderr too, unless the log goes there. */
void snap_process_detach(int tell, int errors, bool keep_stderr);

/* Sets up the log, limits and signals. *ret_stderr becomes a descriptor for
 * errors during the start. Returns 0 or -errno. */
int snap_process_prepare(const struct snap_mount_opts *opts, int *ret_stderr,
			 GError **error);

/* Enters the mount namespace at the path `ns`. Returns 0 or -errno. */
int snap_process_enter(const char *ns, GError **error);

/* True when mount(8) called this program. */
bool snap_process_from_mount(void);
