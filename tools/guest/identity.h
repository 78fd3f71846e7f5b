/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which snapshot vm.json belongs to. A save notes the snapshot's uuid, and the
 * checksum of its device state, or of the end of its stream: a copy that was
 * brought back has another uuid, and one outside of a mount has none.
 */
#pragma once

#include "tools/guest/vm.h"

/* Notes in `vm` what identifies the snapshot in the open folder. */
void snap_identity_note(SnapVm *vm, int folder);

/* Checks that the snapshot in the open folder, which has the path `path`, is
 * the one of `vm`. If nothing tells, only root and the caller may be able to
 * exchange what lies in the folder. Returns 0, -ESTALE for another snapshot,
 * -EPERM, or -errno. */
int snap_identity_check(const SnapVm *vm, int folder, const char *path,
			GError **error);
