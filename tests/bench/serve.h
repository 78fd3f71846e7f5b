/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Serves the smallest FUSE file systems. */
#pragma once

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

/* Mounts at the folder `point` and serves with libfuse's defaults, until a
 * signal ends it or it is unmounted. `name` is the program's. Once it is
 * mounted, it writes a byte to the descriptor `ready`, unless that is -1.
 * Returns 0, or 1 on failure. */
int serve(const char *name, const struct fuse_lowlevel_ops *ops,
	  const char *point, int ready);
