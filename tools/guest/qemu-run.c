/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/guest/qemu-run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/start.h"
#include "tools/cli/print.h"
#include "tools/cli/signals.h"

#define START_SECONDS 60
#define STEP 10		/* ms */
#define OUTPUT_MAX 2000 /* bytes of the log that are shown */

void snap_qemu_run_free(SnapQemuRun *run)
{
	if (!run)
		return;
	snap_qmp_free(run->qmp);
	g_free(run->folder);
	g_free(run->socket);
	g_free(run->log);
	g_free(run);
}

int snap_qemu_run_new(SnapQemuRun **ret_run, GError **error)
{
	g_autoptr(SnapQemuRun) run = g_new0(SnapQemuRun, 1);
	g_autoptr(GError) cause = NULL;

	run->folder = g_dir_make_tmp("snapfs-XXXXXX", &cause);
	if (!run->folder)
		return snap_fail(error, EIO, "%s", cause->message);
	run->socket = g_build_filename(run->folder, "qmp", NULL);
	run->log = g_build_filename(run->folder, "log", NULL);
	*ret_run = g_steal_pointer(&run);
	return 0;
}

/* Runs in the child, between fork and exec. */
static void set_up_child(gpointer data)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	snap_start_undo();
	setsid();
}

static int spawn(SnapQemuRun *run, char **command, const char *folder,
		 GError **error)
{
	snap_autofd int log = snap_open_named(
		run->log, O_WRONLY | O_CREAT | O_EXCL | O_APPEND, 0600);
	snap_autofd int none = snap_open_named("/dev/null", O_RDONLY, 0);
	g_autoptr(GError) cause = NULL;

	if (log < 0 || none < 0)
		return snap_fail_errno(error, log < 0 ? -log : -none, "%s",
				       log < 0 ? run->log : "/dev/null");
	if (!g_spawn_async_with_fds(
		    folder, command, NULL,
		    G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD,
		    set_up_child, NULL, &run->pid, none, log, log, &cause))
		return snap_fail(error, ENOENT, "%s", cause->message);
	return 0;
}

bool snap_qemu_run_ended(SnapQemuRun *run)
{
	if (run->pid && !run->ended)
		run->ended = waitpid(run->pid, NULL, WNOHANG) == run->pid;
	return run->ended;
}

int snap_qemu_run_start(SnapQemuRun *run, char **command, const char *folder,
			int signals, GError **error)
{
	gint64 end = g_get_monotonic_time() + START_SECONDS * G_USEC_PER_SEC;
	int r = spawn(run, command, folder, error);

	if (r < 0)
		return r;
	while (g_get_monotonic_time() < end) {
		if (access(run->socket, F_OK) == 0) {
			r = snap_qmp_connect(run->socket, &run->qmp, NULL);
			if (r == 0)
				return 0;
		}
		if (snap_qemu_run_ended(run))
			return snap_fail(error, ECHILD, "QEMU has exited");
		if (snap_signals_sleep(signals, STEP))
			return -EINTR;
	}
	return snap_fail(error, ETIMEDOUT,
			 "QEMU does not answer at its QMP socket");
}

char *snap_qemu_run_output(const SnapQemuRun *run)
{
	g_autofree char *text = NULL;
	g_auto(GStrv) lines = NULL;
	gsize size, from;

	if (!g_file_get_contents(run->log, &text, &size, NULL))
		return g_strdup("");
	from = size > OUTPUT_MAX ? size - OUTPUT_MAX : 0;
	for (gsize i = from; i < size; i++)
		if (!text[i])
			text[i] = ' ';
	lines = g_strsplit(g_strstrip(text + from), "\n", -1);
	for (char **line = lines; *line; line++) {
		char *safe = snap_print_safe(*line);

		g_free(*line);
		*line = safe;
	}
	return g_strjoinv("\n", lines);
}

void snap_qemu_run_kill(SnapQemuRun *run)
{
	if (run->pid && !snap_qemu_run_ended(run)) {
		/* It leads a process group, with the bridge in it. */
		if (kill(-run->pid, SIGKILL) < 0)
			kill(run->pid, SIGKILL);
		waitpid(run->pid, NULL, 0);
		run->ended = true;
	}
	unlink(run->socket);
	unlink(run->log);
	rmdir(run->folder);
}
