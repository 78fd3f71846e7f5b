/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the house had to say while a verb ran. */
#pragma once

/* Keeps what is logged from now on, in place of writing it. */
void snap_log_keep(void);

/* The first line that was logged as a warning or an error since the last call,
 * or NULL; g_free. */
char *snap_log_take(void);
