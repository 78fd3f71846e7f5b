/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The log of a running store: one line each, to stderr in the foreground and
 * to syslog behind it. format/ never logs; fs/ does, once, where the
 * snapshot's name is known. */
#pragma once

#include <glib.h>

enum snap_log_level {
	SNAP_LOG_ERROR,
	SNAP_LOG_WARNING,
	SNAP_LOG_INFO,
	SNAP_LOG_DEBUG,
};

/* Says where lines go (syslog or stderr) and which are left out (those above
 * `level`). Called once, before threads are started. */
void snap_log_open(gboolean use_syslog, enum snap_log_level level);

/* Writes one line. Control characters in it are escaped: a snapshot's name is
 * foreign bytes. */
void snap_log(enum snap_log_level level, const char *format, ...)
	G_GNUC_PRINTF(2, 3);
