/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A verb ends with one sentence for the user. So log lines are not printed but
 * kept; a verb prints one where its own error says less.
 */
#include "tools/cli/log.h"

#include "format/base/cleanup.h"
#include "format/base/log.h"

static GMutex lock;
static char *first; /* protected by lock */

static void keep(enum snap_log_level level, const char *line)
{
	SNAP_LOCKED(&lock);

	if (!first)
		first = g_strdup(line);
}

void snap_log_keep(void)
{
	snap_log_open(keep, SNAP_LOG_WARNING);
}

char *snap_log_take(void)
{
	SNAP_LOCKED(&lock);

	return g_steal_pointer(&first);
}
