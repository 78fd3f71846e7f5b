/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The log of a running store, line by line. format/ never logs. fs/ logs each
 * event once, where the snapshot's name is known. The program decides where the
 * lines go. */
#pragma once

#include <glib.h>

enum snap_log_level {
	SNAP_LOG_ERROR,
	SNAP_LOG_WARNING,
	SNAP_LOG_INFO,
	SNAP_LOG_DEBUG,
};

/* Writes a line. Called from any thread, also from several at once. */
typedef void (*snap_log_sink)(enum snap_log_level level, const char *line);

/* Writes to stderr, with the program's name in front. */
void snap_log_to_stderr(enum snap_log_level level, const char *line);
/* Writes to stderr, which is a log file, with the time in front. */
void snap_log_to_file(enum snap_log_level level, const char *line);
/* Writes to syslog as a daemon. */
void snap_log_to_syslog(enum snap_log_level level, const char *line);

/* Sets where lines go. Lines above `level` are dropped. To be called once,
 * before threads start; until then errors, warnings and information go to
 * stderr. */
void snap_log_open(snap_log_sink sink, enum snap_log_level level);

/* Writes one line to the log. Control characters are replaced, because the name
 * of a snapshot may have any byte. */
void snap_log(enum snap_log_level level, const char *format, ...)
	G_GNUC_PRINTF(2, 3);
