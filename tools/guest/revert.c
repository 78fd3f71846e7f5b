/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapfs revert: a saved guest in a new QEMU.
 *
 * Until the guest runs, whatever fails takes everything back: QEMU, overlays
 * and the private folder. From then on nothing here touches it.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "format/base/error.h"
#include "tools/guest/revert-wait.h"
#include "tools/guest/migrate.h"
#include "tools/cli/print.h"
#include "tools/guest/qemu-run.h"
#include "tools/guest/revert-plan.h"
#include "tools/cli/signals.h"
#include "tools/guest/verbs.h"

#define STEP 5 /* ms */
/* QEMU's main loop does nothing else while it reads what is not postcopy. */
#define PATIENCE (24 * 60 * 60)

static char *way_text;
static char *overlay_folder;
static gboolean wait_all;
static int timeout;

static const GOptionEntry options[] = {
	{ "way", 'w', 0, G_OPTION_ARG_STRING, &way_text,
	  "bridge, eager or memory-file (bridge)", "WAY" },
	{ "overlay-dir", 'o', 0, G_OPTION_ARG_FILENAME, &overlay_folder,
	  "where disks go on (beside their images)", "DIR" },
	{ "wait", 'W', 0, G_OPTION_ARG_NONE, &wait_all,
	  "return when all memory has been read", NULL },
	{ "timeout", 't', 0, G_OPTION_ARG_INT, &timeout,
	  "give up if it does not run in that time", "SECONDS" },
	{ NULL }
};

struct revert {
	SnapRevertPlan *plan;
	SnapQemuRun *run;
	int signals;
	gint64 began; /* when QEMU was started */
	gint64 asked; /* when it was told to read */
	gint64 ran;   /* when the guest ran */
	gint64 end;   /* 0: none */
};

/* ---- the way ---- */

/* When memory cannot be read, QEMU may wait for it in the midst of a command,
 * and then only an event tells. */
static int hear(const char *name, gint64 time, JsonObject *about, void *data,
		GError **error)
{
	const char *status = snap_json_text(about, "status");

	if (strcmp(name, "MIGRATION") ||
	    g_strcmp0(status, "postcopy-paused") != 0)
		return 0;
	return snap_revert_wait_stalled(data, error);
}

static int set_postcopy(struct revert *r, GError **error)
{
	static const char *const names[] = { "postcopy-ram", "events", NULL };

	snap_qmp_listen(r->run->qmp, hear, r->plan);
	return snap_migrate_switch(r->run->qmp, names, true, error);
}

/* Sets what the way needs; without userfaultfd it becomes another one. */
static int choose_way(struct revert *r, GError **error)
{
	g_autoptr(GError) cause = NULL;
	int e;

	if (r->plan->way != SNAP_WAY_BRIDGE)
		return 0;
	e = set_postcopy(r, &cause);
	if (e == 0)
		return 0;
	if (way_text || e != -EREMOTEIO) {
		g_propagate_error(error, g_steal_pointer(&cause));
		return e;
	}
	snap_print_error("revert: all memory is read first: %s",
			 cause->message);
	r->plan->way = SNAP_WAY_EAGER;
	return 0;
}

static int begin(struct revert *r, GError **error)
{
	JsonObject *arguments = json_object_new();
	g_autofree char *uri =
		snap_revert_plan_uri(r->plan, snap_qmp_version(r->run->qmp));

	json_object_set_string_member(arguments, "uri", uri);
	r->asked = g_get_monotonic_time();
	return snap_qmp_call(r->run->qmp, "migrate-incoming", arguments, NULL,
			     error);
}

/* ---- until it runs ---- */

/* Whether the guest is as it should be; lets it run where QEMU has not. */
static int look(struct revert *r, bool *ret_there, GError **error)
{
	g_auto(SnapMigrate) m = { 0 };
	g_autofree char *state = NULL;
	int e = snap_migrate_query(r->run->qmp, &m, error);

	if (e < 0)
		return e;
	if (m.state == SNAP_MIGRATE_FAILED)
		return snap_fail(error, EIO, "%s",
				 *m.why ? m.why : "QEMU could not load it");
	if (!m.postcopy)
		return 0;
	e = snap_migrate_run_state(r->run->qmp, &state, error);
	if (e < 0 || !strcmp(state, "inmigrate"))
		return e;
	if (r->plan->stopped || !strcmp(state, "running"))
		*ret_there = true;
	else if (m.state == SNAP_MIGRATE_DONE)
		e = snap_qmp_call(r->run->qmp, "cont", NULL, NULL, error);
	return e;
}

static int await(struct revert *r, GError **error)
{
	struct pollfd fd = { .fd = r->signals, .events = POLLIN };
	bool there = false;

	for (;;) {
		int e = look(r, &there, error);

		if (e < 0)
			return e;
		if (there)
			return 0;
		if (r->end && g_get_monotonic_time() > r->end)
			return snap_fail(error, ETIMEDOUT,
					 "it does not run after %d s", timeout);
		if (poll(&fd, 1, STEP) > 0)
			return -EINTR;
	}
}

/* Starts QEMU and waits until the guest runs. */
static int bring_back(struct revert *r, GError **error)
{
	SnapRevertPlan *p = r->plan;
	int e;

	r->began = g_get_monotonic_time();
	r->end = timeout ? r->began + timeout * G_USEC_PER_SEC : 0;
	e = snap_qemu_run_start(r->run, (char **)p->command->pdata, p->folder,
				r->signals, error);
	if (e < 0)
		return e;
	snap_qmp_patience(r->run->qmp, timeout ? (guint)timeout : PATIENCE);
	snap_qmp_interrupt(r->run->qmp, r->signals);
	e = choose_way(r, error);
	if (e == 0)
		e = begin(r, error);
	if (e == 0)
		e = await(r, error);
	r->ran = g_get_monotonic_time();
	return e;
}

/* What QEMU itself said of a failure, for a person to read. */
static void tell_qemu(struct revert *r)
{
	g_autofree char *said = NULL;

	/* It may be about to end, and about to say why. */
	for (int i = 0; i < 100 && !snap_qemu_run_ended(r->run); i++)
		g_usleep(STEP * 1000);
	said = snap_qemu_run_said(r->run);
	if (*said)
		fprintf(stderr, "%s\n", said);
}

static void report(const struct revert *r)
{
	const SnapRevertPlan *p = r->plan;

	printf("%s %s: %.3f s after QEMU's start, %.3f s after it was told to "
	       "read (%s)\n",
	       p->path, p->stopped ? "is back, stopped" : "runs",
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
		e = bring_back(r, error);
	if (e == 0) {
		report(r);
		return 0;
	}
	if (e == -ECONNRESET || e == -ECHILD) {
		g_clear_error(error);
		snap_fail(error, ECHILD, "QEMU has ended before the guest ran");
	}
	if (e != -EINTR && r->run->pid)
		tell_qemu(r);
	snap_qemu_run_kill(r->run);
	snap_revert_plan_undo(r->plan);
	return e;
}

static int check_options(GError **error)
{
	if (timeout >= 0)
		return 0;
	g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
		    "--timeout=%d: want 0 or more", timeout);
	return -EINVAL;
}

static int run(char **arguments, guint n, GError **error)
{
	bool dashes = n > 1 && !strcmp(arguments[1], "--");
	guint skip = dashes ? 2 : 1;
	g_autoptr(SnapRevertPlan) plan = NULL;
	g_autoptr(SnapQemuRun) started = NULL;
	struct revert r = { .signals = -1 };
	int e = check_options(error), came;

	if (e == 0)
		e = snap_revert_plan_new(arguments[0], way_text, &plan, error);
	if (e == 0)
		e = snap_qemu_run_new(&started, error);
	if (e != 0)
		return e;
	r.plan = plan;
	r.run = started;
	r.signals = snap_signals_hold();
	e = revert(&r, arguments + skip, n - skip, error);
	if (e == 0 && wait_all)
		e = snap_revert_wait_wait(started, plan, r.signals, error);
	if (e != -EINTR)
		return e;
	came = snap_signals_take(r.signals);
	snap_print_error(
		r.ran && !snap_qemu_run_ended(started)
			? "revert: interrupted; the guest goes on"
			: "revert: interrupted, nothing is left of it");
	g_clear_error(error);
	return 128 + came;
}

const struct snap_verb snap_verb_revert = {
	.name = "revert",
	.arguments = "DIR [-- QEMU [ARGUMENT]...]",
	.min_arguments = 1,
	.max_arguments = G_MAXUINT,
	.summary = "bring a saved guest back",
	.help = "Starts QEMU by that command line, or by the one it was saved "
		"with, with the\nguest in the folder DIR, which runs before "
		"its memory has been read, and with\nits disks as they were. "
		"Returns when the guest runs.",
	.options = options,
	.run = run,
};
