/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The log of a running store, line by line. format/ never logs; fs/ does, once,
 * where the snapshot's name is known; who runs the program says where to. */
#pragma once

#include <glib.h>

enum snap_log_level {
	SNAP_LOG_ERROR,
	SNAP_LOG_WARNING,
	SNAP_LOG_INFO,
	SNAP_LOG_DEBUG,
};

/* Where lines go; called from any thread, also from several at once. */
typedef void (*snap_log_sink)(enum snap_log_level level, const char *line);

/* To stderr, with the program's name before it. */
void snap_log_to_stderr(enum snap_log_level level, const char *line);
/* To stderr, which is a file, with the time before it. */
void snap_log_to_file(enum snap_log_level level, const char *line);
/* To syslog, as a daemon. */
void snap_log_to_syslog(enum snap_log_level level, const char *line);

/* Says where lines go and which are left out: those above `level`. Called once,
 * before threads are started; until then errors, warnings and what is worth
 * knowing go to stderr. */
void snap_log_open(snap_log_sink sink, enum snap_log_level level);

/* Writes one line. Control characters in it are replaced: a snapshot's name is
 * foreign bytes. */
void snap_log(enum snap_log_level level, const char *format, ...)
	G_GNUC_PRINTF(2, 3);
