/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A path that a user typed, which may lead through folders of other users. */
#pragma once

#include <glib.h>

/* Opens the folder `path`. Links are followed only if root or the caller owns
 * them: another user could lead root into a folder of root's. Returns an O_PATH
 * descriptor; -EPERM for a link of another user, which the error names; or
 * -errno. */
int snap_typed_open(const char *path, GError **error);
