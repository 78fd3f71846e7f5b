/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ctrl-C and its like, as something that is read: for verbs that must not be
 * cut off while a file is half made. */
#pragma once

#include <glib.h>

/* Holds SIGINT, SIGTERM and SIGHUP back for good; before any thread is begun.
 * Those that are ignored stay so. A descriptor that can be read when one has
 * come. */
int snap_signals_hold(void);

/* The signal that has come, or 0. */
int snap_signals_came(int fd);

/* Waits until `fd` can be read: 0, or the signal that came before. */
int snap_signals_wait(int signals_fd, int fd);
