/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A bar for what takes long, with rate and time left: on a terminal, and
 * nothing where standard error is none. */
#pragma once

#include <glib.h>
#include <stdint.h>

typedef struct SnapProgress SnapProgress;

/* A bar called `what`. Never NULL; without a terminal it does nothing. */
SnapProgress *snap_progress_new(const char *what);

/* Shows that `done` bytes of `all` (0: not known) are done; cheap to call
 * often. */
void snap_progress_show(SnapProgress *p, uint64_t done, uint64_t all);

/* Takes the bar away from the terminal. */
void snap_progress_free(SnapProgress *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapProgress, snap_progress_free)
