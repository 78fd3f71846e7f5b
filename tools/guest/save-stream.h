/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way of a stream from QEMU into the folder.
 *
 * QEMU writes into a pipe, and a pump moves that into the folder. Then the
 * stream is saved when the last write, fsync and close of this process say so,
 * and not before QEMU has said that it is complete. Where QEMU cannot be handed
 * a pipe, over TCP, it opens the file itself.
 */
#pragma once

#include "tools/guest/save-folder.h"

typedef struct SnapSaveStream SnapSaveStream;

/* Makes the way; `qmp` and `folder` are borrowed. Returns 0, or -errno if the
 * folder cannot be written or QEMU cannot write into it. */
int snap_save_stream_new(SnapQmp *qmp, SnapSaveFolder *folder,
			 SnapSaveStream **ret_stream, GError **error);

/* Stops the stream, and takes back from QEMU what it has not used. */
void snap_save_stream_free(SnapSaveStream *stream);

/* Makes QEMU begin to migrate. Returns as snap_qmp_call(). */
int snap_save_stream_begin(SnapSaveStream *stream, GError **error);

/* Says that QEMU's migration is complete. Returns at once. */
void snap_save_stream_finish(SnapSaveStream *stream);

/* Says that the stream will not be kept, so that QEMU can be told to stop.
 * Returns at once. */
void snap_save_stream_drop(SnapSaveStream *stream);

/* Tells whether all is on disk, or a write has failed. */
bool snap_save_stream_ended(SnapSaveStream *stream);

/* Stops the stream if it has not ended. Returns 0 if all is written, -EINTR if
 * it was stopped before, or the -errno of the file. */
int snap_save_stream_stop(SnapSaveStream *stream);

/* Sets the error of a save that has failed: `r` is what stopping the stream has
 * returned, `why` is what QEMU says. Returns -errno. */
int snap_save_stream_fail(SnapSaveStream *stream, int r, const char *why,
			  GError **error);
