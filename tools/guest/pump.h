/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moves QEMU's stream from a pipe into a file, in a thread of its own.
 *
 * The pump holds back the last byte until the caller says that the stream is
 * whole, and empties the file if that does not come. So a save that fails never
 * becomes a snapshot, however far it came.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct SnapPump SnapPump;

/* Makes a pipe for a stream. Returns 0 or -errno. */
int snap_pump_pipe(int *ret_in, int *ret_end, GError **error);

/* Starts to move what is written into the end of the pipe from `in` into
 * `file`. Both descriptors are taken over, also after an error. Returns 0 or
 * -errno. */
int snap_pump_new(int in, int file, SnapPump **ret_pump, GError **error);

/* Says that all bytes are in the pipe. The pump then moves them and syncs the
 * file, even if a process still has the written end open. Returns at once. */
void snap_pump_finish(SnapPump *pump);

/* Says that the stream is not wanted. Until snap_pump_stop(), the pump reads
 * what comes and drops it, so QEMU does not wait for room in the pipe. Returns
 * at once. */
void snap_pump_drop(SnapPump *pump);

/* Tells whether the pump has ended: the file is on disk, or it failed. After a
 * failure, who writes into the pipe gets EPIPE. */
bool snap_pump_ended(SnapPump *pump);

/* Stops the pump if it has not ended. Returns 0 if the file is whole and on
 * disk, -EINTR if the pump was stopped before, -ENODATA if no byte came, or the
 * error of the file. */
int snap_pump_stop(SnapPump *pump);

/* Stops the pump and frees it. */
void snap_pump_free(SnapPump *pump);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapPump, snap_pump_free)
