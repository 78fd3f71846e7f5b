/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log of snapfs, linked in the place of the daemon's (format/base/log.c).
 *
 * A person who waits for a verb wants one sentence, from the verb. So lines are
 * not written but kept, for the verb to say what its error alone does not.
 */
#include "tools/log.h"

#include "format/base/cleanup.h"
#include "format/base/log.h"

static GMutex lock;
static char *first; /* protected by lock */

void snap_log_open(gboolean use_syslog, enum snap_log_level level)
{
}

void snap_log(enum snap_log_level level, const char *format, ...)
{
	SNAP_LOCKED(&lock);
	va_list args;

	if (level > SNAP_LOG_WARNING || first)
		return;
	va_start(args, format);
	first = g_strdup_vprintf(format, args);
	va_end(args);
}

char *snap_log_take(void)
{
	SNAP_LOCKED(&lock);

	return g_steal_pointer(&first);
}
