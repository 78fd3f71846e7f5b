/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapfs revert: starts a saved guest in a new QEMU.
 *
 * If anything fails before the guest runs, QEMU, the overlays and the private
 * folder are removed. Once the guest runs, snapfs leaves it alone.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "format/base/error.h"
#include "tools/cli/print.h"
#include "tools/cli/signals.h"
#include "tools/guest/migrate.h"
#include "tools/guest/qemu-run.h"
#include "tools/guest/revert-memory.h"
#include "tools/guest/revert-plan.h"
#include "tools/guest/revert-wait.h"
#include "tools/guest/run-state.h"
#include "tools/guest/verbs.h"

#define STEP 5 /* ms */
/* How long QEMU may take to answer, in seconds: without postcopy, its main loop
 * does nothing else while it reads memory. */
#define TIMEOUT (24 * 60 * 60)

static char *way_text;
static char *overlay_folder;
static gboolean wait_all;
static int timeout;

static const GOptionEntry options[] = {
	{ "way", 'w', 0, G_OPTION_ARG_STRING, &way_text,
	  "bridge, eager or memory-file (bridge)", "WAY" },
	{ "overlay-dir", 'o', 0, G_OPTION_ARG_FILENAME, &overlay_folder,
	  "folder for overlays (beside the images)", "DIR" },
	{ "wait", 'W', 0, G_OPTION_ARG_NONE, &wait_all,
	  "return when all memory has arrived", NULL },
	{ "timeout", 't', 0, G_OPTION_ARG_INT, &timeout,
	  "give up if it does not run by then (0: never)", "SECONDS" },
	{ NULL }
};

struct revert {
	SnapRevertPlan *plan;
	SnapQemuRun *run;
	int signals;
	gint64 began;	/* when QEMU was started */
	gint64 asked;	/* when QEMU got migrate-incoming */
	gint64 ran;	/* when the guest ran */
	gint64 end;	/* 0: no time limit */
	char *state;	/* QEMU's run state when last looked at */
	bool continued; /* QEMU got `cont` */
};

/* ---- the way ---- */

/* If memory cannot be read, QEMU may wait for it while it runs a command. Then
 * an event comes, but no answer. */
static int handle_event(const char *name, gint64 time, JsonObject *about,
			void *data, GError **error)
{
	const char *status = snap_json_text(about, "status");

	if (strcmp(name, "MIGRATION") ||
	    g_strcmp0(status, "postcopy-paused") != 0)
		return 0;
	return snap_revert_wait_stalled(data, error);
}

static int set_up_bridge(struct revert *r, GError **error)
{
	static const char *const names[] = { "postcopy-ram", "events", NULL };
	SnapRevertPlan *p = r->plan;
	int e = snap_revert_memory_pages(r->run->qmp, p->path, p->folder,
					 &p->bridge_options, error);

	if (e < 0)
		return e;
	snap_qmp_listen(r->run->qmp, handle_event, r->plan);
	return snap_migrate_switch(r->run->qmp, names, true, error);
}

/* Sets up QEMU for the way. If the bridge cannot serve it (there is no
 * userfaultfd, or pages are too large) and the user chose no way, changes to
 * eager. */
static int set_up_way(struct revert *r, GError **error)
{
	g_autoptr(GError) cause = NULL;
	int e;

	if (r->plan->way != SNAP_WAY_BRIDGE)
		return 0;
	e = set_up_bridge(r, &cause);
	if (e == 0)
		return 0;
	if (way_text || !r->plan->has_stream ||
	    (e != -EREMOTEIO && e != -EOPNOTSUPP)) {
		g_propagate_error(error, g_steal_pointer(&cause));
		return e;
	}
	snap_print_error("revert: all memory is read first: %s",
			 cause->message);
	return snap_revert_plan_set_eager(r->plan, error);
}

static int begin(struct revert *r, GError **error)
{
	g_autofree char *uri = snap_revert_plan_uri(
		r->plan, snap_qmp_peer(r->run->qmp)->version);

	r->asked = g_get_monotonic_time();
	return snap_qmp_call(r->run->qmp, "migrate-incoming",
			     snap_json_new("uri", uri, NULL), NULL, error);
}

/* ---- until the guest runs ---- */

/* Looks at the state of a guest that is loaded. Sends `cont`, once, if QEMU has
 * not started it. */
static int check_state(struct revert *r, bool loaded, bool *ret_ready,
		       GError **error)
{
	const struct snap_run_state *state;
	bool goes_on;
	int e;

	g_clear_pointer(&r->state, g_free);
	e = snap_migrate_run_state(r->run->qmp, &r->state, error);
	if (e < 0)
		return e;
	state = snap_run_state_find(r->state);
	if (!state || state->revert == SNAP_REVERT_WRONG)
		return snap_fail(error, EOPNOTSUPP,
				 "QEMU's state is %s, to which no revert leads",
				 r->state);
	if (state->revert == SNAP_REVERT_WAITS)
		return 0;
	goes_on = state->revert == SNAP_REVERT_STANDS && !r->plan->stopped;
	*ret_ready = !goes_on;
	if (!goes_on || !loaded)
		return 0;
	if (r->continued)
		return snap_fail(error, EIO,
				 "QEMU does not continue the guest; its state "
				 "is %s",
				 r->state);
	r->continued = true;
	return snap_qmp_call(r->run->qmp, "cont", NULL, NULL, error);
}

/* Checks whether the guest runs, or is ready to. */
static int check_guest(struct revert *r, bool *ret_ready, GError **error)
{
	g_auto(SnapMigrate) m = { 0 };
	int e = snap_migrate_query(r->run->qmp, &m, error);

	if (e < 0)
		return e;
	if (m.state == SNAP_MIGRATE_FAILED)
		return snap_fail(error, EIO, "%s",
				 *m.why ? m.why
					: "QEMU could not load the snapshot");
	return m.postcopy ? check_state(r, m.state == SNAP_MIGRATE_DONE,
					ret_ready, error)
			  : 0;
}

static int wait_for_guest(struct revert *r, GError **error)
{
	bool ready = false;

	for (;;) {
		int e = check_guest(r, &ready, error);

		if (e < 0)
			return e;
		if (ready)
			return 0;
		if (r->end && g_get_monotonic_time() > r->end)
			return snap_fail(error, ETIMEDOUT,
					 "the guest does not run after %d s",
					 timeout);
		if (snap_signals_sleep(r->signals, STEP))
			return -EINTR;
	}
}

/* Starts QEMU and waits until the guest runs. */
static int start_guest(struct revert *r, GError **error)
{
	SnapRevertPlan *p = r->plan;
	int e;

	r->began = g_get_monotonic_time();
	r->end = timeout ? r->began + timeout * G_USEC_PER_SEC : 0;
	e = snap_qemu_run_start(r->run, (char **)p->command->pdata, p->folder,
				r->signals, error);
	if (e < 0)
		return e;
	snap_qmp_set_timeout(r->run->qmp, timeout ? (guint)timeout : TIMEOUT);
	snap_qmp_interrupt(r->run->qmp, r->signals);
	e = set_up_way(r, error);
	if (e == 0)
		e = begin(r, error);
	if (e == 0)
		e = wait_for_guest(r, error);
	r->ran = g_get_monotonic_time();
	return e;
}

/* Prints the output of QEMU, which has failed. */
static void print_output(struct revert *r)
{
	g_autofree char *output = NULL;

	/* It may be about to exit, and to print why. */
	for (int i = 0; i < 100 && !snap_qemu_run_ended(r->run); i++)
		g_usleep(STEP * 1000);
	output = snap_qemu_run_output(r->run);
	if (*output)
		fprintf(stderr, "%s\n", output);
}

static void report(const struct revert *r)
{
	const SnapRevertPlan *p = r->plan;
	bool runs = !strcmp(r->state, "running");

	printf("%s %s%s: %.3f s after QEMU's start, %.3f s after the start of "
	       "reading (%s)\n",
	       p->path, runs ? "runs" : "is back, ",
	       runs	    ? ""
	       : p->stopped ? "stopped"
			    : r->state,
	       (double)(r->ran - r->began) / G_USEC_PER_SEC,
	       (double)(r->ran - r->asked) / G_USEC_PER_SEC,
	       snap_way_name(p->way));
	printf("QEMU: pid %d, QMP %s, log %s\n", (int)r->run->pid,
	       r->run->socket, r->run->log);
	for (guint i = 0; i < p->overlays->len; i++)
		printf("disk: %s\n", (char *)p->overlays->pdata[i]);
	fflush(stdout);
}

static int revert(struct revert *r, char *const *command, guint n,
		  GError **error)
{
	struct snap_revert_opts opts = { .command = command,
					 .n_command = n,
					 .overlays = overlay_folder,
					 .socket = r->run->socket };
	int e = snap_revert_plan_make(r->plan, &opts, error);

	if (e == 0)
		e = start_guest(r, error);
	if (e == 0) {
		report(r);
		return 0;
	}
	if (e == -ECONNRESET || e == -ECHILD) {
		g_clear_error(error);
		snap_fail(error, ECHILD,
			  "QEMU has exited before the guest ran");
	}
	if (e != -EINTR && r->run->pid)
		print_output(r);
	snap_qemu_run_kill(r->run);
	snap_revert_plan_undo(r->plan);
	return e;
}

static int run(char **arguments, guint n, GError **error)
{
	bool dashes = n > 1 && !strcmp(arguments[1], "--");
	guint skip = dashes ? 2 : 1;
	g_autoptr(SnapRevertPlan) plan = NULL;
	g_autoptr(SnapQemuRun) started = NULL;
	struct revert r = { .signals = -1 };
	int e;

	if (timeout < 0)
		return snap_usage_error(error, "--timeout=%d: want 0 or more",
					timeout);
	e = snap_revert_plan_new(arguments[0], way_text, &plan, error);
	if (e == 0)
		e = snap_qemu_run_new(&started, error);
	if (e != 0)
		return e;
	r.plan = plan;
	r.run = started;
	r.signals = snap_signals_hold();
	e = revert(&r, arguments + skip, n - skip, error);
	g_free(r.state);
	if (e == 0 && wait_all)
		e = snap_revert_wait(started, plan, r.signals, error);
	if (e != -EINTR)
		return e;
	return snap_signals_exit(
		snap_signals_take(r.signals),
		r.ran && !snap_qemu_run_ended(started)
			? "revert: interrupted; the guest runs on"
			: "revert: interrupted, nothing is left of it",
		error);
}

const struct snap_verb snap_verb_revert = {
	.name = "revert",
	.arguments = "DIR [-- QEMU [ARGUMENT]...]",
	.min_arguments = 1,
	.max_arguments = G_MAXUINT,
	.summary = "start a saved guest in a new QEMU",
	.help = "Starts a new QEMU with the guest in the folder DIR and its "
		"disks as they were\nsaved. Uses the command line after --, or "
		"else the one that was saved. Returns\nwhen the guest runs, "
		"which is before its memory has been read.",
	.options = options,
	.run = run,
};
