/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A process that stays outside of what the mount gives up, and does two things
 * for it. It ends with the mount's process. Inside fs/mount.
 */
#pragma once

#include <glib.h>
#include <sys/types.h>

/* Starts the process, which knows the mount point from now on. No other thread
 * may run yet. Returns 0 or -errno. */
int snap_outside_start(const char *point, GError **error);

/* Opens /proc/PID/NAME for reading: status, maps or pagemap. Returns a
 * descriptor or -errno. */
int snap_outside_open_proc(pid_t pid, const char *name);

/* Unmounts the mount point, if the mount there has lost its program: after the
 * session has closed its connection. Returns 0 or -errno. */
int snap_outside_unmount(void);
