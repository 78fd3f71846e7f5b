/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Waits for the memory that still arrives after the guest runs. */
#pragma once

#include "tools/guest/qemu-run.h"
#include "tools/guest/revert-plan.h"

/* Waits until all memory has arrived, with a bar on a terminal. Returns 0;
 * -EINTR when `signals` is readable (the guest runs on), -EIO if memory cannot
 * be read; or -errno. */
int snap_revert_wait(SnapQemuRun *run, const SnapRevertPlan *plan, int signals,
		     GError **error);

/* Sets the error that memory cannot be read. Returns -EIO. */
int snap_revert_wait_stalled(const SnapRevertPlan *plan, GError **error);
