/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memory that comes behind a guest which runs already. */
#pragma once

#include "tools/guest/qemu-run.h"
#include "tools/guest/revert-plan.h"

/* Waits until all of it is there, with a bar on a terminal. -EINTR when
 * `signals` can be read: the guest goes on. */
int snap_revert_wait_wait(SnapQemuRun *run, const SnapRevertPlan *plan,
			  int signals, GError **error);

/* Says that memory cannot be read: -EIO. */
int snap_revert_wait_stalled(const SnapRevertPlan *plan, GError **error);
