/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The process of a mount: background, log, limits. Inside fs/mount. */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "fs/mount/options.h"

/* Goes to the background: returns in the child, with a descriptor that tells
 * the parent. The parent ends with 0 when told, else with the child's own exit
 * code. -errno. */
int snap_process_fork(int *ret_tell, GError **error);

/* Tells the parent that all is well, and lets go of what it was started with:
 * the terminal, or a pipe; of stderr too unless the log goes there. */
void snap_process_detach(int tell, int errors, bool keep_stderr);

/* Sets up the log, limits and signals. *ret_stderr is where errors of the start
 * still go. */
int snap_process_prepare(const struct snap_mount_opts *opts, int *ret_stderr,
			 GError **error);

/* Enters the mount namespace `ns`, a path. */
int snap_process_enter(const char *ns, GError **error);

/* True when mount(8) called this program. */
bool snap_process_from_mount(void);
