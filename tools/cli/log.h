/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log lines, kept in memory while a verb runs. */
#pragma once

/* From now on keeps the first warning or error of the log instead of printing
 * it. */
void snap_log_keep(void);

/* Takes that line: NULL if nothing was logged since the last call; g_free. */
char *snap_log_take(void);
