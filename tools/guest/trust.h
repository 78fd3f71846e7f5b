/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who could have written a file, or exchanged what lies in a folder. */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Tells whether the open file or folder `fd` is in a mount of snapfs. */
bool snap_trust_in_mount(int fd);

/* Checks that nobody but root and the caller could have written the open file
 * or folder `fd`, which `path` names in the error. Returns 0, -EPERM if another
 * user could, or -errno. */
int snap_trust_check(int fd, const char *path, GError **error);

/* Checks that root or the caller owns the symbolic link `link`, opened with
 * O_PATH, in the folder `folder`. Returns as above. */
int snap_trust_link(int link, int folder, const char *path, GError **error);
