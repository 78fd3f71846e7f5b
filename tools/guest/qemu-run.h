/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QEMU that snapfs starts. It runs in a session of its own, so it goes on
 * when snapfs exits. Its socket and its log lie in a private folder.
 */
#pragma once

#include "tools/guest/qmp.h"

typedef struct {
	GPid pid; /* 0: not started */
	bool ended;
	char *folder; /* private, mode 0700 */
	char *socket; /* of QMP */
	char *log;    /* QEMU's output */
	SnapQmp *qmp; /* NULL until QEMU answers */
} SnapQemuRun;

/* Makes the private folder. Returns 0 or -errno. */
int snap_qemu_run_new(SnapQemuRun **ret_run, GError **error);

/* Starts QEMU in `folder` (NULL: the current one) and waits until it answers at
 * its socket, which the command line must name. Returns 0; -EINTR when
 * `signals` is readable, -ECHILD if QEMU exits, -ETIMEDOUT; or -errno. */
int snap_qemu_run_start(SnapQemuRun *run, char **command, const char *folder,
			int signals, GError **error);

/* Tells whether QEMU has exited. */
bool snap_qemu_run_ended(SnapQemuRun *run);

/* Gets the end of QEMU's log, made safe; g_free. */
char *snap_qemu_run_output(const SnapQemuRun *run);

/* Kills QEMU and the processes that it started, and removes the folder. */
void snap_qemu_run_kill(SnapQemuRun *run);

/* Frees the struct; QEMU runs on. */
void snap_qemu_run_free(SnapQemuRun *run);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapQemuRun, snap_qemu_run_free)
