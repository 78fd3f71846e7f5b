/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the house had to say while a verb ran. */
#pragma once

/* The first line that was logged as a warning or an error since the last call,
 * or NULL; g_free. */
char *snap_log_take(void);
