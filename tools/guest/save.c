/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapfs save: saves a guest's memory, and its disks at the same moment.
 *
 * Background: QEMU write-protects the memory and saves it while the guest runs.
 * With disks, the guest is first stopped and all disks are frozen. It is
 * continued when QEMU has written the first page: only then is it certain that
 * the memory is protected. Stopped: the guest is stopped during the whole save.
 *
 * In the end, QEMU is as it was before: the guest runs or not, and the
 * migration settings are the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/units.h"
#include "tools/cli/print.h"
#include "tools/cli/progress.h"
#include "tools/cli/signals.h"
#include "tools/guest/disks.h"
#include "tools/guest/identity.h"
#include "tools/guest/migrate.h"
#include "tools/guest/run-state.h"
#include "tools/guest/save-folder.h"
#include "tools/guest/save-look.h"
#include "tools/guest/save-parent.h"
#include "tools/guest/save-stream.h"
#include "tools/guest/verbs.h"

#define BACKGROUND "background-snapshot"
/* Time between two looks, in ms; the short one while the guest is stopped for
 * its disks, and at the end. */
#define SHORT_STEP 1
#define LONG_STEP 50
/* How long QEMU may take to answer, in seconds: it does not while it writes
 * device state, and a slow disk makes writes wait. */
#define TIMEOUT 600

static char *socket_address;
static char *overlay_folder;
static gboolean no_disks;
static gboolean stopped_only;
static gboolean replace;
static char *parent_folder;
static int timeout;

static const GOptionEntry options[] = {
	{ "qmp", 'q', 0, G_OPTION_ARG_FILENAME, &socket_address,
	  "QEMU's QMP socket (required)", "SOCKET" },
	{ "force", 'f', 0, G_OPTION_ARG_NONE, &replace,
	  "replace the snapshot in DIR", NULL },
	{ "stopped", 's', 0, G_OPTION_ARG_NONE, &stopped_only,
	  "stop the guest during the save", NULL },
	{ "no-disks", 'n', 0, G_OPTION_ARG_NONE, &no_disks,
	  "do not freeze the disks", NULL },
	{ "parent", 0, 0, G_OPTION_ARG_FILENAME, &parent_folder,
	  "store what differs from the snapshot in DIR", "DIR" },
	{ "overlay-dir", 'o', 0, G_OPTION_ARG_FILENAME, &overlay_folder,
	  "folder for overlays (beside the images)", "DIR" },
	{ "timeout", 't', 0, G_OPTION_ARG_INT, &timeout,
	  "cancel after that time (0: never)", "SECONDS" },
	{ NULL }
};

/* A save, and what must be undone. */
struct save {
	SnapQmp *qmp;
	SnapVm *vm;
	SnapSaveFolder *folder;
	SnapSaveStream *stream;
	int signals;
	gint64 began;
	gint64 end; /* 0: no time limit */
	bool background;
	bool stopped;	/* by us */
	bool suspended; /* since the save began */
	bool frozen;	/* the disks have overlays */
	struct snap_save_settings settings;
	gint64 stopped_at; /* QEMU's time; 0 while the guest runs */
	gint64 pause;	   /* us that the guest was stopped */
};

static int handle_event(const char *name, gint64 time, JsonObject *about,
			void *data, GError **error)
{
	struct save *s = data;

	if (!strcmp(name, "STOP"))
		s->stopped_at = time;
	if (!strcmp(name, "SUSPEND") || !strcmp(name, "WAKEUP"))
		s->suspended = !strcmp(name, "SUSPEND");
	if (!strcmp(name, "RESUME") && s->stopped_at) {
		s->pause += MAX(time - s->stopped_at, 0);
		s->stopped_at = 0;
	}
	return 0;
}

static int call(struct save *s, const char *command, GError **error)
{
	int r = snap_qmp_call(s->qmp, command, NULL, NULL, error);

	return r < 0 ? snap_fail_prefix(error, r, "%s", command) : 0;
}

/* ---- background or stopped ---- */

/* Switches on saving in the background, or prints why that is not possible. */
static int try_background(struct save *s, GError **error)
{
	static const char *const names[] = { BACKGROUND, NULL };
	const char *state = s->vm->run_state;
	enum snap_save_in in = snap_run_state_find(state)->save;
	g_autoptr(GError) cause = NULL;

	if (in == SNAP_SAVE_STOPPED)
		snap_print_error("save: the guest is stopped during the save: "
				 "its state is %s",
				 state);
	/* A guest that is suspended stands still in any case. */
	if (in == SNAP_SAVE_STOPPED ||
	    (in == SNAP_SAVE_ANY_WAY && stopped_only))
		return 0;
	s->background = snap_migrate_switch(s->qmp, names, true, &cause) == 0;
	if (!s->background && in == SNAP_SAVE_BACKGROUND)
		return snap_fail(error, EOPNOTSUPP,
				 "the guest is %s, and QEMU can save it only "
				 "in the background: %s",
				 state, cause->message);
	if (!s->background)
		snap_print_error("save: the guest is stopped during the save: "
				 "%s",
				 cause->message);
	return 0;
}

/* Clears the settings first: what another client has set would change the
 * stream. */
static int choose_way(struct save *s, GError **error)
{
	int r = snap_save_settings_clear(s->qmp, &s->settings, error);

	if (r == 0)
		r = try_background(s, error);
	if (r < 0)
		return r;
	s->vm->way = g_strdup(s->background ? "background" : "stopped");
	return snap_migrate_capabilities(s->qmp, &s->vm->capabilities, error);
}

/* ---- the migration ---- */

static int stop(struct save *s, GError **error)
{
	int r = call(s, "stop", error);

	s->stopped = r == 0;
	if (r < 0 || s->background || !s->suspended)
		return r;
	return snap_fail(error, EBUSY,
			 "the guest was suspended when it was to be stopped: "
			 "save it once more");
}

/* Chooses the overlays. */
static int plan_disks(struct save *s, GError **error)
{
	g_autofree char *folder =
		overlay_folder ? g_canonicalize_filename(overlay_folder, NULL)
			       : NULL;

	return no_disks ? 0 : snap_disks_plan(s->vm, folder, error);
}

static int freeze(struct save *s, GError **error)
{
	int r = 0;

	if (snap_vm_ran(s->vm))
		r = stop(s, error);
	if (r == 0)
		r = snap_disks_freeze(s->qmp, s->vm, error);
	s->frozen = r == 0;
	return r;
}

static int resume(struct save *s, GError **error)
{
	int r;

	if (!s->stopped)
		return 0;
	r = call(s, "cont", error);
	if (r == 0)
		s->stopped = false;
	return r;
}

/* Sleeps for `ms`. Returns 0, a signal that came, or -ETIMEDOUT after the time
 * limit of the save. */
static int sleep_step(struct save *s, int ms, GError **error)
{
	if (snap_signals_sleep(s->signals, ms))
		return snap_signals_take(s->signals);
	if (s->end && g_get_monotonic_time() > s->end)
		return snap_fail(error, ETIMEDOUT, "not done after %d s",
				 timeout);
	return 0;
}

/* Waits until QEMU's migration ends, well or not. Returns 0, a signal,
 * -ETIMEDOUT, or -errno. */
static int follow(struct save *s, SnapMigrate *m, GError **error)
{
	g_autoptr(SnapProgress) progress = snap_progress_new(s->folder->path);

	for (;;) {
		int r = snap_migrate_query(s->qmp, m, error);

		if (r < 0 || m->state != SNAP_MIGRATE_RUNS)
			return r;
		if (s->background && m->pages) {
			r = resume(s, error);
			if (r < 0)
				return r;
		}
		snap_progress_show(progress, m->done, m->total);
		r = sleep_step(
			s, s->background && s->stopped ? SHORT_STEP : LONG_STEP,
			error);
		if (r)
			return r;
	}
}

/* Waits until all that QEMU has written is on disk. Meanwhile the guest need
 * not be stopped any more. Returns 0, a signal or -ETIMEDOUT. */
static int settle(struct save *s, GError **error)
{
	int r = 0;

	/* If this fails, restore() says so. */
	resume(s, NULL);
	snap_save_stream_finish(s->stream);
	while (r == 0 && !snap_save_stream_ended(s->stream))
		r = sleep_step(s, SHORT_STEP, error);
	return r;
}

/* Cancels the migration and waits until it has ended. Returns `reason`, or
 * -errno with the error in place of the one that is there. */
static int cancel(struct save *s, SnapMigrate *m, int reason, GError **error)
{
	g_autoptr(GError) cause = NULL;
	int r;

	/* QEMU cannot answer while it waits for room in the pipe. */
	snap_save_stream_drop(s->stream);
	r = call(s, "migrate_cancel", &cause);
	snap_save_stream_stop(s->stream);
	while (r == 0) {
		r = snap_migrate_query(s->qmp, m, &cause);
		if (r == 0 && m->state != SNAP_MIGRATE_RUNS)
			return reason;
		g_usleep(LONG_STEP * 1000);
	}
	g_clear_error(error);
	g_propagate_error(error, g_steal_pointer(&cause));
	return r;
}

static const char *why_failed(const SnapMigrate *m)
{
	if (m->cancelled)
		return "another client cancelled it";
	return *m->why ? m->why : "QEMU failed without a reason";
}

/* Runs the migration. Returns 0, -errno, or the signal that cancelled it. A
 * signal that comes when all is on disk is ignored. */
static int migrate(struct save *s, GError **error)
{
	g_auto(SnapMigrate) m = { 0 };
	g_autoptr(GError) cause = NULL;
	int r = snap_save_stream_begin(s->stream, &cause), e;

	if (r == 0)
		r = follow(s, &m, &cause);
	if (r == 0 && m.state == SNAP_MIGRATE_DONE)
		r = settle(s, &cause);
	if (r > 0 || r == -ETIMEDOUT)
		r = cancel(s, &m, r, &cause);
	/* QEMU may have been faster. */
	if (m.state == SNAP_MIGRATE_DONE)
		snap_save_stream_finish(s->stream);
	e = snap_save_stream_stop(s->stream);
	if (e == 0)
		return 0;
	if (r == 0)
		return snap_save_stream_fail(s->stream, e, why_failed(&m),
					     error);
	if (cause)
		g_propagate_error(error, g_steal_pointer(&cause));
	return r;
}

/* ---- the save ---- */

static int save_memory(struct save *s, GError **error)
{
	int r = plan_disks(s, error);

	if (r < 0)
		return r;
	snap_save_look_ahead(s->vm);
	r = choose_way(s, error);
	if (r == 0 && !no_disks && snap_disks_writable(s->vm))
		r = freeze(s, error);
	if (r == 0 && !s->background && !s->stopped && snap_vm_ran(s->vm))
		r = stop(s, error);
	if (r == 0)
		r = migrate(s, error);
	return r;
}

static void print_disks(const struct save *s, bool error)
{
	for (guint i = 0; i < s->vm->disks->len; i++) {
		g_autofree char *line =
			snap_disk_summary(s->vm->disks->pdata[i]);

		if (line && error)
			snap_print_error("%s", line);
		else if (line)
			printf("%s\n", line);
	}
}

/* Cleans up after QEMU has exited during the save. */
static void abandon(struct save *s)
{
	if (s->frozen)
		print_disks(s, true);
	snap_save_folder_undo(s->folder);
}

/* Restores QEMU and, if the save has failed, the disks and the folder. Prints
 * what cannot be restored. */
static void restore(struct save *s, int r)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GError) cause = NULL;
	bool saved = r == 0;

	if (!saved)
		g_clear_pointer(&s->stream, snap_save_stream_free);
	if (r == -ECONNRESET) {
		abandon(s);
		return;
	}
	if (s->frozen && !saved)
		snap_disks_merge(s->qmp, s->vm);
	if (resume(s, &error) < 0)
		snap_print_error("save: the guest stays stopped: %s",
				 error->message);
	if (snap_save_settings_restore(s->qmp, &s->settings, &cause) < 0)
		snap_print_error("save: QEMU's migration settings could not be "
				 "set back: %s",
				 cause->message);
	if (!saved)
		snap_save_folder_undo(s->folder);
}

static void report(const struct save *s, gint64 took)
{
	g_autofree char *ram = snap_size_format(s->vm->memory_size);
	g_autofree char *disk =
		snap_size_format(snap_save_folder_size(s->folder));
	g_autofree char *form = snap_save_folder_attribute(s->folder, "form");

	printf("saved %s in %.2f s: %s of memory, %s on disk; ",
	       s->folder->path, (double)took / G_USEC_PER_SEC, ram, disk);
	if (snap_vm_ran(s->vm))
		printf("the guest stood still for %.1f ms\n",
		       (double)s->pause / 1000);
	else
		printf("the guest stays stopped\n");
	print_disks(s, false);
	if (!s->folder->mounted)
		snap_print_error("save: %s is not in a mount of snapfs, so it "
				 "holds QEMU's stream as it is",
				 s->folder->path);
	else if (!g_strcmp0(form, "verbatim"))
		snap_print_error("save: the stream could not be split; revert "
				 "can only use --way=eager");
}

static int save(struct save *s, GError **error)
{
	int r = save_memory(s, error);
	gint64 took;

	if (r == 0)
		r = snap_save_folder_commit(s->folder, error);
	took = g_get_monotonic_time() - s->began;
	restore(s, r);
	if (r)
		return r;
	s->vm->saved = snap_print_time_iso((uint64_t)g_get_real_time() * 1000);
	snap_identity_note(s->vm, s->folder->fd);
	r = snap_vm_write(s->vm, s->folder->fd, error);
	report(s, took);
	return r < 0 ? snap_fail_prefix(error, r,
					"the memory is saved, but " SNAP_VM_FILE
					" is not")
		     : 0;
}

static int check_options(GError **error)
{
	if (!socket_address)
		return snap_usage_error(error, "--qmp=SOCKET is required");
	if (timeout < 0)
		return snap_usage_error(error, "--timeout=%d: want 0 or more",
					timeout);
	return 0;
}

static int open_all(struct save *s, const char *path, GError **error)
{
	int r = snap_qmp_connect(socket_address, &s->qmp, error);

	if (r < 0)
		return r;
	snap_qmp_listen(s->qmp, handle_event, s);
	r = snap_save_look(s->qmp, s->vm, !no_disks, error);
	if (r == 0)
		r = snap_save_settings_get(s->qmp, &s->settings, error);
	if (r == 0)
		r = snap_save_folder_open(path, replace, snap_qmp_peer(s->qmp),
					  &s->folder, error);
	if (r == 0) {
		if (parent_folder)
			r = snap_save_parent_set(s->folder, parent_folder,
						 error);
		if (r == 0)
			r = snap_save_stream_new(s->qmp, s->folder, &s->stream,
						 error);
		if (r < 0)
			snap_save_folder_undo(s->folder);
	}
	snap_qmp_set_timeout(s->qmp, TIMEOUT);
	return r;
}

static int run(char **arguments, guint n, GError **error)
{
	struct save s = { .began = g_get_monotonic_time() };
	int r = check_options(error);

	if (r < 0)
		return r;
	s.signals = snap_signals_hold();
	s.end = timeout ? s.began + timeout * G_USEC_PER_SEC : 0;
	s.vm = snap_vm_new();
	r = open_all(&s, arguments[0], error);
	if (r == 0)
		r = save(&s, error);
	snap_save_settings_free(&s.settings);
	snap_save_stream_free(s.stream);
	snap_save_folder_free(s.folder);
	snap_qmp_free(s.qmp);
	snap_vm_free(s.vm);
	return r <= 0 ? r
		      : snap_signals_exit(
				r, "save: interrupted, nothing was saved",
				error);
}

const struct snap_verb snap_verb_save = {
	.name = "save",
	.arguments = "--qmp=SOCKET DIR",
	.min_arguments = 1,
	.max_arguments = 1,
	.summary = "save a guest and its disks",
	.help = "Saves the guest of the QEMU behind SOCKET into the folder DIR "
		"of a mount. If\npossible, the guest runs during the save. "
		"Disks are frozen at the same moment:\neach image keeps the "
		"state of its disk, and the guest continues in an overlay.",
	.options = options,
	.run = run,
};
