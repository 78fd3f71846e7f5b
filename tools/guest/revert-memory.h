/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the new QEMU has the guest's memory, and what the bridge must know of
 * it. */
#pragma once

#include "tools/guest/qmp.h"
#include "tools/guest/vm.h"

/* Adds words to a command line, by which QEMU maps the main RAM block from the
 * file `ram` of the folder. *ret_options are the bridge's; g_strfreev. `vm` may
 * be NULL. Returns 0, -EINVAL if that memory lies elsewhere, or -errno. */
int snap_revert_memory_map(GPtrArray *command, const char *folder,
			   const SnapVm *vm, GStrv *ret_options,
			   GError **error);

/* Asks QEMU, which was started in `cwd`, what lies in huge pages. *ret_options
 * are the bridge's, one for each RAM block of the snapshot in `folder` that
 * does; g_strfreev. Returns 0, -EOPNOTSUPP if the bridge cannot serve them, or
 * -errno. */
int snap_revert_memory_pages(SnapQmp *qmp, const char *folder, const char *cwd,
			     GStrv *ret_options, GError **error);
