/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A process that stays outside of what the mount gives up, and does for it what
 * it cannot do itself any more. When the mount's main thread has ended, however
 * it ended, this process ends the mount's connection to the kernel, and then
 * itself. Inside fs/mount.
 */
#pragma once

#include <glib.h>
#include <sys/types.h>

/* Starts the process, which knows the mount point from now on. For the main
 * thread, while no other runs. Returns 0 or -errno. */
int snap_outside_start(const char *point, GError **error);

/* Opens /proc/PID/NAME for reading: status, maps, pagemap or stat. Returns a
 * descriptor or -errno. */
int snap_outside_open_proc(pid_t pid, const char *name);

/* The mount point is mounted now. */
void snap_outside_mounted(void);

/* Unmounts the mount point, if the mount there has lost its program: after the
 * session has closed its connection. Returns 0 or -errno. */
int snap_outside_unmount(void);

/* The same when the mount's main thread has ended. Does not wait. */
void snap_outside_unmount_later(void);
