/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A progress bar with rate and time left. It is shown only if standard error is
 * a terminal. */
#pragma once

#include <glib.h>
#include <stdint.h>

typedef struct SnapProgress SnapProgress;

/* Makes a bar with the title `what`; never NULL. */
SnapProgress *snap_progress_new(const char *what);

/* Shows that `done` of `all` bytes (0: not known) are done. It may be called
 * often: it draws at most ten times a second. */
void snap_progress_show(SnapProgress *p, uint64_t done, uint64_t all);

/* Removes the bar from the terminal. */
void snap_progress_free(SnapProgress *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapProgress, snap_progress_free)
