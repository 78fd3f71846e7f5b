/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QEMU that was started here, in a session of its own, so that it outlives
 * the one who started it. Its socket and its log lie in a private folder.
 */
#pragma once

#include "tools/guest/qmp.h"

typedef struct {
	GPid pid;
	bool ended;
	char *folder; /* private, 0700 */
	char *socket; /* of QMP */
	char *log;    /* what QEMU says */
	SnapQmp *qmp; /* NULL until it answers */
} SnapQemuRun;

/* Where the next one's private folder is: made at once. */
int snap_qemu_run_new(SnapQemuRun **ret_run, GError **error);

/* Starts it, in `folder` (NULL: here), and waits until it answers at its
 * socket, which the command line names already. -EINTR when `signals` can be
 * read. */
int snap_qemu_run_start(SnapQemuRun *run, char **command, const char *folder,
			int signals, GError **error);

/* Whether it has ended; it is not asked. */
bool snap_qemu_run_ended(SnapQemuRun *run);

/* The last that QEMU said, made safe; g_free. */
char *snap_qemu_run_said(const SnapQemuRun *run);

/* Ends QEMU and all that it started, and takes the folder away. */
void snap_qemu_run_kill(SnapQemuRun *run);

/* Lets go of it; it runs on. */
void snap_qemu_run_free(SnapQemuRun *run);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapQemuRun, snap_qemu_run_free)
