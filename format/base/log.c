/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/base/log.h"

#include <stdio.h>
#include <syslog.h>

static gboolean log_to_syslog;
static enum snap_log_level log_level = SNAP_LOG_INFO;

void snap_log_open(gboolean use_syslog, enum snap_log_level level)
{
	log_to_syslog = use_syslog;
	log_level = level;
	if (use_syslog)
		openlog("mount.snapfs", LOG_PID, LOG_DAEMON);
}

void snap_log(enum snap_log_level level, const char *format, ...)
{
	static const int priorities[] = {
		[SNAP_LOG_ERROR] = LOG_ERR,
		[SNAP_LOG_WARNING] = LOG_WARNING,
		[SNAP_LOG_INFO] = LOG_INFO,
		[SNAP_LOG_DEBUG] = LOG_DEBUG,
	};
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
	if (log_to_syslog)
		syslog(priorities[level], "%s", line);
	else
		fprintf(stderr, "mount.snapfs: %s\n", line);
}
