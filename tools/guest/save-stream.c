/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/guest/save-stream.h"

#include <errno.h>
#include <sys/statvfs.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "tools/cli/print.h"
#include "tools/guest/pump.h"

/* The name by which QEMU knows the pipe. */
#define PIPE "snapfs-save"

struct SnapSaveStream {
	SnapQmp *qmp;
	SnapSaveFolder *folder;
	SnapPump *pump; /* NULL: QEMU opens the file itself */
	bool taken;	/* QEMU has used the pipe */
	bool finished;	/* QEMU's migration is complete */
};

/* ---- making the way ---- */

/* Opens the file, and starts to move into it what comes through the pipe. */
static int start_pump(SnapSaveStream *s, int in, GError **error)
{
	snap_autofd int from = in, file = -1;
	int r = snap_save_folder_file(s->folder, snap_qmp_peer(s->qmp), &file,
				      error);

	return r == 0 ? snap_pump_new(snap_steal_fd(&from),
				      snap_steal_fd(&file), &s->pump, error)
		      : r;
}

/* Takes back the pipe. QEMU may not know it any more. */
static void take_back(SnapSaveStream *s)
{
	snap_qmp_call(s->qmp, "closefd", snap_json_new("fdname", PIPE, NULL),
		      NULL, NULL);
}

static int make(SnapSaveStream *s, GError **error)
{
	snap_autofd int in = -1, end = -1;
	g_autoptr(GError) cause = NULL;
	int r = snap_pump_pipe(&in, &end, error);

	if (r < 0)
		return r;
	r = snap_qmp_give(s->qmp, PIPE, end, &cause);
	if (r == -EREMOTEIO)
		snap_print_error("save: QEMU opens the file itself: %s",
				 cause->message);
	if (r == -EREMOTEIO)
		return snap_save_folder_leave(s->folder, snap_qmp_peer(s->qmp),
					      error);
	if (r < 0) {
		g_propagate_error(error, g_steal_pointer(&cause));
		return r;
	}
	r = start_pump(s, snap_steal_fd(&in), error);
	if (r < 0)
		take_back(s);
	return r;
}

int snap_save_stream_new(SnapQmp *qmp, SnapSaveFolder *folder,
			 SnapSaveStream **ret_stream, GError **error)
{
	g_autofree SnapSaveStream *s = g_new0(SnapSaveStream, 1);
	int r;

	s->qmp = qmp;
	s->folder = folder;
	r = make(s, error);
	if (r == 0)
		*ret_stream = g_steal_pointer(&s);
	return r;
}

void snap_save_stream_free(SnapSaveStream *s)
{
	if (!s)
		return;
	if (s->pump && !s->taken)
		take_back(s);
	snap_pump_free(s->pump);
	g_free(s);
}

/* ---- the stream ---- */

int snap_save_stream_begin(SnapSaveStream *s, GError **error)
{
	g_autofree char *uri =
		s->pump ? g_strdup("fd:" PIPE)
			: g_strconcat("file:", s->folder->target, NULL);
	int r = snap_qmp_call(s->qmp, "migrate",
			      snap_json_new("uri", uri, NULL), NULL, error);

	s->taken = r == 0;
	return r;
}

void snap_save_stream_finish(SnapSaveStream *s)
{
	s->finished = true;
	if (s->pump)
		snap_pump_finish(s->pump);
}

void snap_save_stream_drop(SnapSaveStream *s)
{
	if (s->pump)
		snap_pump_drop(s->pump);
}

bool snap_save_stream_ended(SnapSaveStream *s)
{
	return s->pump ? snap_pump_ended(s->pump) : s->finished;
}

int snap_save_stream_stop(SnapSaveStream *s)
{
	if (s->pump)
		return snap_pump_stop(s->pump);
	return s->finished ? 0 : -EINTR;
}

/* ---- errors ---- */

/* Linux, fs/fuse/dev.c: the program that serves a mount has gone. */
static bool is_gone(int error)
{
	return error == ENOTCONN || error == ECONNABORTED;
}

/* Says why the file has not all of the stream. */
static char *why_file(SnapSaveStream *s, int r)
{
	struct statvfs st;
	/* A write that was on its way to that program may fail by EIO. */
	bool gone = is_gone(-r) ||
		    (fstatvfs(s->folder->fd, &st) < 0 && is_gone(errno));

	return g_strdup_printf("%s: %s", s->folder->target,
			       gone ? "the mount has ended" : g_strerror(-r));
}

int snap_save_stream_fail(SnapSaveStream *s, int r, const char *why,
			  GError **error)
{
	bool file = r != -EINTR;
	g_autofree char *words = file ? why_file(s, r) : g_strdup(why);
	/* If QEMU opens the file itself, the folder may know more than QEMU. */
	g_autofree char *reason =
		file || !s->pump ? snap_save_folder_reason(s->folder) : NULL;

	return snap_fail(error, file ? -r : EIO, "%s%s%s", words,
			 reason ? ": " : "", reason ? reason : "");
}
