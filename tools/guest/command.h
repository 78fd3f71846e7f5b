/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU's command line, made fit for a revert. */
#pragma once

#include "tools/guest/vm.h"

/* A command line; free it with g_ptr_array_unref. NULL ends it. */
GPtrArray *snap_command_new(char *const *words, guint n);

/* Takes out what belongs to another start: -incoming, -loadvm, -daemonize and
 * -S. Whether -S was there. */
bool snap_command_strip(GPtrArray *command);

/* Adds words, up to a NULL. */
void snap_command_add(GPtrArray *command, ...) G_GNUC_NULL_TERMINATED;

/* Puts `overlay`, a qcow2 image, in the place of the disk's image, or one that
 * lies under it: wherever -drive, -blockdev or -hda name it, as seen from
 * `folder`. -ENOENT where nothing does. */
int snap_command_replace(GPtrArray *command, const SnapDisk *disk,
			 const char *overlay, const char *folder,
			 GError **error);

/* Whether some option's value has `key=` in it. */
bool snap_command_has(GPtrArray *command, const char *option, const char *key);
