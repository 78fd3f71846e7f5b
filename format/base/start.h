/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What every program of snapfs does first. */
#pragma once

/* Opens /dev/null in place of each standard descriptor that is closed: else the
 * next file that the program opens, such as a lock or a pipe, would take its
 * number. And ignores the signals by which the kernel tells that a write
 * failed, so that the write returns its error. Returns 0 or -errno. */
int snap_start(void);

/* Undoes the second part, for a program that is to be executed.
 * Async-signal-safe. */
void snap_start_undo(void);
