/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signals that are read like a file, for verbs that must undo what they have
 * half done. */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Blocks SIGINT, SIGTERM and SIGHUP from now on, except those that are ignored.
 * Call it before any thread starts. Returns a descriptor that becomes readable
 * when one of them arrives. */
int snap_signals_hold(void);

/* Takes a signal that has arrived. Returns its number, or 0. */
int snap_signals_take(int fd);

/* Waits until `fd` is readable: 0, or the signal that arrived first. */
int snap_signals_wait(int signals_fd, int fd);

/* Sleeps for `ms`, or until a signal arrives, which it leaves there: then true.
 */
bool snap_signals_sleep(int fd, int ms);

/* Prints the sentence of a verb that a signal has ended, and clears *error.
 * Returns the exit status. */
int snap_signals_exit(int signal, const char *sentence, GError **error);
