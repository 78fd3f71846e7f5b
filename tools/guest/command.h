/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU's command line, changed for a revert. */
#pragma once

#include "tools/guest/vm.h"

/* Makes a command line, of which NULL is the last word; g_ptr_array_unref. */
GPtrArray *snap_command_new(char *const *words, guint n);

/* Removes -incoming, -loadvm, -daemonize and -S. Returns whether -S was there.
 */
bool snap_command_strip(GPtrArray *command);

/* Adds words; NULL is the last. */
void snap_command_add(GPtrArray *command, ...) G_GNUC_NULL_TERMINATED;

/* Replaces the disk's image, or one of its backing images, by the qcow2 image
 * `overlay` wherever -drive, -blockdev or -hda name it. Relative paths start at
 * `folder`. Returns 0; -ENOENT if no option names an image, or -EINVAL. */
int snap_command_replace(GPtrArray *command, const SnapDisk *disk,
			 const char *overlay, const char *folder,
			 GError **error);

/* Finds the first value that names a descriptor which QEMU got from the program
 * that started it; NULL if there is none. */
const char *snap_command_inherits(GPtrArray *command);

/* Writes a text as it stands in the value of an option; g_free. */
char *snap_command_value(const char *text);

/* Tells whether an option is there and, unless `key` is NULL, has `key=` in its
 * value. */
bool snap_command_has(GPtrArray *command, const char *option, const char *key);
