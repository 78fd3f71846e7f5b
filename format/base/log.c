/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/base/log.h"

#include <stdio.h>
#include <syslog.h>

static snap_log_sink log_sink = snap_log_to_stderr;
static enum snap_log_level log_level = SNAP_LOG_INFO;

void snap_log_to_stderr(enum snap_log_level level, const char *line)
{
	fprintf(stderr, "mount.snapfs: %s\n", line);
}

void snap_log_to_file(enum snap_log_level level, const char *line)
{
	g_autoptr(GDateTime) now = g_date_time_new_now_utc();
	g_autofree char *time = g_date_time_format(now, "%FT%T.%fZ");

	fprintf(stderr, "%s %s\n", time, line);
}

void snap_log_to_syslog(enum snap_log_level level, const char *line)
{
	static const int priorities[] = {
		[SNAP_LOG_ERROR] = LOG_ERR,
		[SNAP_LOG_WARNING] = LOG_WARNING,
		[SNAP_LOG_INFO] = LOG_INFO,
		[SNAP_LOG_DEBUG] = LOG_DEBUG,
	};

	syslog(priorities[level], "%s", line);
}

void snap_log_open(snap_log_sink sink, enum snap_log_level level)
{
	log_sink = sink;
	log_level = level;
	if (sink == snap_log_to_syslog)
		openlog("mount.snapfs", LOG_PID, LOG_DAEMON);
}

void snap_log(enum snap_log_level level, const char *format, ...)
{
	g_autofree char *line = NULL;
	va_list args;

	if (level > log_level)
		return;
	va_start(args, format);
	line = g_strdup_vprintf(format, args);
	va_end(args);
	for (char *p = line; *p; p++)
		if (g_ascii_iscntrl(*p))
			*p = '?';
	log_sink(level, line);
}
