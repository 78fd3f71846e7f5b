/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A save takes writes (intake.c) until the stream is complete, ends, or fails.
 * Its thread begins it and ends it:
 *
 *	RUNNING --(last byte parsed, on disk, published)--> DONE
 *	        --(error, or ended too early)-------------> FAILED
 *
 * The write that completes the stream is answered after the change of state,
 * and so is every write to a failed save. A failed save is reported here, once:
 * in the log and in the folder's note.
 */
#include "fs/save/save.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/log.h"
#include "fs/calls/call.h"
#include "fs/save/file.h"
#include "fs/save/guard.h"
#include "fs/save/ingest.h"
#include "fs/save/intake.h"
#include "fs/save/parts.h"
#include "fs/save/slots.h"
#include "fs/save/turns.h"

/* The memory of a save's map, and of one that has little memory. */
#define SAVE_MAP_MEMORY (1 * SNAP_MIB)
#define LEAN_MAP_MEMORY (128 * SNAP_KIB)

struct SnapSaver {
	SnapCatalog *catalog;
	struct snap_intake_stats intake; /* atomic */
	SnapPool *pool;
	SnapSlots *slots;
	SnapGuard *guard;
	SnapTurns *turns;
	guint idle;    /* seconds */
	guint timeout; /* seconds */
	bool increments;
	GMutex lock;
	GCond finished;
	struct snap_saver_stats stats; /* protected by lock */
};

struct SnapSave {
	SnapSaver *saver;
	SnapIntake *intake;
	int folder_fd;
	char *path;
	char *what; /* its file, for messages */
	struct snap_catalog_owner owner;
	uint64_t begin;
	int preamble_fd;
	char *parent; /* or NULL */
	bool whole;
	gint stop;	  /* for the reading of the file; atomic */
	SnapParts *parts; /* NULL: a stream is written */
	snap_save_over_fn over;
	void *over_data;
	uid_t uid;
	bool lean;
	struct snap_guarded guarded;
	SnapTurn *turn;
	GMutex lock;
	GCond changed;
	guint refs;  /* references; protected by lock, like all fields below */
	bool thread; /* the thread still runs */
	enum snap_save_state state;
	GError *error;
	bool late;    /* it has failed: its writer waited for too long */
	bool decided; /* the thread knows the outcome, which stays: */
	bool saved;
	bool aborted;
	char *why; /* the reason of the abort; NULL: no message */
};

/* ---- what saves share ---- */

SnapSaver *snap_saver_new(const struct snap_saver_opts *opts)
{
	SnapSaver *saver = g_new0(SnapSaver, 1);
	guint threads = opts->threads ? opts->threads : g_get_num_processors();

	g_mutex_init(&saver->lock);
	g_cond_init(&saver->finished);
	saver->catalog = opts->catalog;
	saver->idle = opts->idle;
	saver->timeout = opts->timeout;
	saver->guard = snap_guard_new(opts->timeout);
	saver->turns = snap_turns_new();
	saver->increments = opts->increments;
	saver->pool = snap_pool_new(threads, opts->level, opts->buffer);
	saver->slots = snap_slots_new(saver->pool, opts->buffer);
	return saver;
}

void snap_saver_wait(SnapSaver *saver)
{
	if (!saver)
		return;
	g_mutex_lock(&saver->lock);
	while (saver->stats.running)
		g_cond_wait(&saver->finished, &saver->lock);
	g_mutex_unlock(&saver->lock);
}

void snap_saver_free(SnapSaver *saver)
{
	if (!saver)
		return;
	snap_saver_wait(saver);
	snap_guard_free(saver->guard);
	snap_turns_free(saver->turns);
	snap_slots_free(saver->slots);
	snap_pool_free(saver->pool);
	g_cond_clear(&saver->finished);
	g_mutex_clear(&saver->lock);
	g_free(saver);
}

struct snap_saver_stats snap_saver_stats(SnapSaver *saver)
{
	const struct snap_intake_stats *in = &saver->intake;
	uint64_t held = snap_pool_held(saver->pool);
	struct snap_saver_levels levels = snap_pool_levels(saver->pool);
	SNAP_LOCKED(&saver->lock);
	struct snap_saver_stats stats = saver->stats;

	stats.levels = levels;
	stats.bytes_in = __atomic_load_n(&in->bytes, __ATOMIC_RELAXED);
	stats.waits = __atomic_load_n(&in->waits, __ATOMIC_RELAXED);
	stats.buffered = __atomic_load_n(&in->parked, __ATOMIC_RELAXED) + held;
	return stats;
}

static void saver_begin(SnapSaver *saver)
{
	SNAP_LOCKED(&saver->lock);

	snap_calls_save_begin();
	saver->stats.saves++;
	saver->stats.running++;
}

/* Counts the end of a save; with `nothing`, it was none: there was nothing to
 * save. The saver may be freed after this. */
static void saver_end(SnapSaver *saver, const struct snap_ingest_result *result,
		      bool nothing)
{
	SNAP_LOCKED(&saver->lock);

	snap_calls_save_end();
	saver->stats.running--;
	if (result) {
		saver->stats.completed++;
		saver->stats.bytes_out += result->file;
		saver->stats.compactions += result->compactions;
	} else if (nothing) {
		saver->stats.saves--;
	} else {
		saver->stats.failed++;
	}
	g_cond_broadcast(&saver->finished);
}

/* ---- the outcome ---- */

static void save_set_state(SnapSave *save, enum snap_save_state state,
			   GError *error)
{
	SNAP_LOCKED(&save->lock);

	save->state = state;
	save->error = error;
	g_cond_broadcast(&save->changed);
}

/* True when the save was dropped on purpose. If it was aborted, the reason
 * replaces the parser's error. */
static bool save_dropped(SnapSave *save, GError **error)
{
	SNAP_LOCKED(&save->lock);

	if (!save->aborted)
		return false;
	g_clear_error(error);
	snap_fail(error, ECANCELED, "%s",
		  save->why ? save->why : "the save was dropped");
	return !save->why;
}

/* Outcomes of parts that are not failures. */
static bool is_quiet(const SnapSave *save, const GError *error)
{
	return save->parts &&
	       (error->code == EEXIST || error->code == -SNAP_SAVE_NOTHING);
}

static void save_failed(SnapSave *save, GError *error)
{
	if (save_dropped(save, &error) || is_quiet(save, error)) {
		save_set_state(save, SNAP_SAVE_FAILED, error);
		return;
	}
	snap_log(SNAP_LOG_ERROR, "%s: not saved: %s", save->what,
		 error->message);
	snap_catalog_note(save->folder_fd, error->message);
	if (error->code == EUCLEAN)
		snap_catalog_preamble_drop(save->folder_fd);
	save_set_state(save, SNAP_SAVE_FAILED, error);
}

static void save_done(SnapSave *save, const struct snap_ingest_result *res)
{
	snap_ingest_report(save->what, res);
	snap_catalog_note(save->folder_fd, NULL);
	/* The rewritten preamble belonged to the old snapshot. */
	snap_catalog_preamble_drop(save->folder_fd);
	save_set_state(save, SNAP_SAVE_DONE, NULL);
}

/* ---- writers that wait for too long ---- */

/* Ends a save by the timeout; false when it was over before. */
static bool set_late(SnapSave *save)
{
	SNAP_LOCKED(&save->lock);

	if (save->decided)
		return false;
	save->late = true;
	save->state = SNAP_SAVE_FAILED;
	snap_fail(&save->error, ETIMEDOUT,
		  "its writer has waited for %u seconds (-o timeout=)",
		  save->saver->timeout);
	snap_turn_late(save->turn);
	g_cond_broadcast(&save->changed);
	return true;
}

/* What the thread still does when the outcome is decided is not waited for. */
static void on_late(void *data)
{
	SnapSave *save = data;

	if (!set_late(save)) {
		snap_intake_close(save->intake, -ETIMEDOUT,
				  save->saved ? 0 : -ETIMEDOUT);
		return;
	}
	snap_log(SNAP_LOG_ERROR, "%s: not saved: %s", save->what,
		 save->error->message);
	snap_intake_give_up(save->intake);
}

/* The thread knows the outcome; returns false when the save has timed out. */
static bool decide(SnapSave *save, bool saved)
{
	SNAP_LOCKED(&save->lock);

	save->saved = saved;
	save->decided = true;
	return !save->late;
}

/* Called right before the snapshot gets its name. */
static bool may_publish(void *data)
{
	SnapSave *save = data;

	return snap_turn_take(save->turn);
}

/* The store answers again. A name that it was asked for before it hung cannot
 * be taken back. */
static void late_over(SnapSave *save, bool saved, const GError *error)
{
	const char *why = error ? error->message : NULL;

	snap_catalog_note(save->folder_fd, saved ? why : save->error->message);
	if (error && error->code != ETIMEDOUT && error->code != ECANCELED)
		snap_log(SNAP_LOG_WARNING,
			 "%s: when the store answered again: %s", save->what,
			 why);
	if (!saved)
		return;
	snap_catalog_preamble_drop(save->folder_fd);
	snap_log(SNAP_LOG_WARNING,
		 "%s: it was saved after all: the snapshot was getting its "
		 "name when its writer had waited for too long",
		 save->what);
}

/* ---- the thread ---- */

/* True when the stream is not wanted, even if it is complete. */
static bool is_unwanted(SnapSave *save)
{
	SNAP_LOCKED(&save->lock);

	return save->aborted && !save->why;
}

/* Brings the stream into the ingest, from its beginning to its end. */
static int save_feed(SnapSave *save, SnapIngest *in, GError **error)
{
	if (save->parts)
		return snap_parts_feed(save->parts, in, error);
	if (save->whole)
		return snap_file_feed(save->preamble_fd, save->begin, in,
				      &save->stop, error);
	return snap_intake_run(save->intake, in, error);
}

static int save_run(SnapSave *save, struct snap_ingest_result *ret_result,
		    GError **error)
{
	struct snap_ingest_opts opts = {
		.catalog = save->saver->catalog,
		.pool = save->saver->pool,
		.path = save->path,
		.owner = save->owner,
		.begin = save->begin,
		.preamble_fd = save->preamble_fd,
		.increments = save->saver->increments || save->parent,
		.folder_fd = save->folder_fd,
		.parent = save->parent,
		.first = save->parts != NULL,
		.map_memory = save->lean ? LEAN_MAP_MEMORY : SAVE_MAP_MEMORY,
		.may_publish = may_publish,
		.data = save,
	};
	g_autoptr(SnapIngest) in = NULL;
	int r = save->parts ? snap_parts_check(save->parts, error) : 0;

	if (r == 0)
		r = snap_ingest_new(&opts, &in, error);
	if (r == 0)
		r = save_feed(save, in, error);
	if (r == 0 && is_unwanted(save))
		r = snap_fail(error, ECANCELED, "the save was dropped");
	if (r == 0)
		r = snap_ingest_commit(in, save->folder_fd, ret_result, error);
	return r;
}

static void save_free(SnapSave *save)
{
	snap_intake_free(save->intake);
	g_free(save->what);
	snap_parts_free(save->parts);
	g_clear_error(&save->error);
	g_free(save->why);
	g_cond_clear(&save->changed);
	g_mutex_clear(&save->lock);
	snap_close_fd(&save->preamble_fd);
	g_free(save->parent);
	close(save->folder_fd);
	g_free(save->path);
	g_free(save);
}

static gpointer save_thread(gpointer data)
{
	SnapSave *save = data;
	SnapSaver *saver = save->saver;
	struct snap_ingest_result result = { 0 };
	GError *error = NULL;
	bool unused, quiet, late, saved;
	int r;

	r = save_run(save, &result, &error);
	late = !decide(save, r == 0);
	saved = r == 0 || r == -EUCLEAN;
	quiet = r < 0 && is_quiet(save, error);
	snap_slots_give(saver->slots, save->uid, save->lean);
	if (late)
		late_over(save, saved, error);
	else if (r < 0)
		save_failed(save, g_steal_pointer(&error));
	else
		save_done(save, &result);
	g_clear_error(&error);
	/* What the older snapshot used may be free now. */
	if (saved || saver->increments || save->parent)
		snap_catalog_collect_later(saver->catalog);
	if (save->over)
		save->over(save->over_data, save, saved);
	snap_intake_close(save->intake, r < 0 ? r : -EPROTO, r);
	snap_guard_remove(saver->guard, &save->guarded);
	snap_turn_end(save->turn);
	g_mutex_lock(&save->lock);
	save->thread = false;
	unused = !save->refs;
	g_mutex_unlock(&save->lock);
	if (unused)
		save_free(save);
	saver_end(saver, r < 0 ? NULL : &result, quiet);
	return NULL;
}

/* ---- the door ---- */

/* Admits the save: it gets its turn, which was NULL, and a slot. The folder's
 * note says why it is refused. */
static int admit(SnapSaver *saver, const struct snap_save_opts *opts,
		 SnapTurn **ret_turn, bool *ret_lean, GError **error)
{
	g_autoptr(GError) cause = NULL;
	int r = snap_turn_begin(saver->turns, opts->folder_fd, ret_turn,
				&cause);

	if (r == 0)
		r = snap_slots_take(saver->slots, opts->uid, ret_lean, &cause);
	if (r == 0)
		return 0;
	snap_turn_end(*ret_turn);
	snap_catalog_note(opts->folder_fd, cause->message);
	g_propagate_error(error, g_steal_pointer(&cause));
	return r;
}

/* A save of which nothing runs yet. */
static SnapSave *save_make(SnapSaver *saver, const struct snap_save_opts *opts)
{
	SnapSave *save = g_new0(SnapSave, 1);

	g_mutex_init(&save->lock);
	g_cond_init(&save->changed);
	save->saver = saver;
	save->begin = opts->begin;
	save->preamble_fd = opts->preamble_fd;
	save->parent = g_strdup(opts->parent);
	save->whole = opts->whole;
	save->over = opts->over;
	save->over_data = opts->over_data;
	if (opts->parts) {
		save->parts = snap_parts_new(opts->parts);
		save->begin = snap_parts_hole(save->parts);
	}
	save->path = g_strdup(opts->path);
	save->what = g_strdup_printf("%s/%s", opts->path,
				     opts->name ? opts->name : "stream");
	save->intake = snap_intake_new(save->what, saver->pool, opts->begin,
				       saver->idle, &saver->intake);
	save->owner = opts->owner;
	save->uid = opts->uid;
	save->refs = 1;
	save->guarded = (struct snap_guarded){ .intake = save->intake,
					       .late = on_late,
					       .data = save };
	return save;
}

int snap_save_new(SnapSaver *saver, const struct snap_save_opts *opts,
		  SnapSave **ret_save, GError **error)
{
	snap_autofd int fd = fcntl(opts->folder_fd, F_DUPFD_CLOEXEC, 0);
	g_autoptr(GThread) thread = NULL;
	SnapTurn *turn = NULL;
	SnapSave *save;
	bool lean = false;
	int r = fd < 0 ? snap_fail_errno(error, errno, "%s", opts->path)
		       : admit(saver, opts, &turn, &lean, error);

	if (r < 0) {
		if (opts->parts)
			snap_save_parts_close(opts->parts);
		if (opts->preamble_fd >= 0)
			close(opts->preamble_fd);
		return r;
	}
	save = save_make(saver, opts);
	save->folder_fd = snap_steal_fd(&fd);
	save->turn = turn;
	save->lean = lean;
	save->thread = true;
	snap_guard_add(saver->guard, &save->guarded);
	saver_begin(saver);
	thread = g_thread_try_new("save", save_thread, save, NULL);
	if (!thread) {
		snap_slots_give(saver->slots, opts->uid, lean);
		saver_end(saver, NULL, false);
		snap_guard_remove(saver->guard, &save->guarded);
		snap_turn_end(turn);
		save_free(save);
		return snap_fail(error, EAGAIN, "%s: cannot start a thread",
				 opts->path);
	}
	*ret_save = save;
	return 0;
}

SnapSave *snap_save_ref(SnapSave *save)
{
	SNAP_LOCKED(&save->lock);

	save->refs++;
	return save;
}

void snap_save_unref(SnapSave *save)
{
	bool last, unused;

	if (!save)
		return;
	g_mutex_lock(&save->lock);
	last = --save->refs == 0;
	unused = last && !save->thread;
	if (last && !unused)
		snap_intake_end(save->intake);
	g_mutex_unlock(&save->lock);
	if (unused)
		save_free(save);
}

void snap_save_write(SnapSave *save, const void *data, size_t size,
		     uint64_t offset, snap_save_answer answer,
		     void *answer_data)
{
	snap_intake_write(save->intake, data, size, offset, answer,
			  answer_data);
}

bool snap_save_scattered(SnapSave *save)
{
	return snap_intake_scattered(save->intake);
}

void snap_save_end(SnapSave *save)
{
	snap_intake_end(save->intake);
}

void snap_save_check(SnapSave *save, snap_save_answer answer, void *answer_data)
{
	if (snap_save_state(save, NULL) == SNAP_SAVE_DONE)
		answer(answer_data, 0);
	else
		snap_intake_check(save->intake, answer, answer_data);
}

void snap_save_abort(SnapSave *save, const char *why)
{
	g_mutex_lock(&save->lock);
	if (!save->aborted) {
		save->aborted = true;
		save->why = g_strdup(why);
	}
	g_mutex_unlock(&save->lock);
	g_atomic_int_set(&save->stop, 1);
	if (save->parts)
		snap_parts_stop(save->parts);
	snap_intake_end(save->intake);
}

enum snap_save_state snap_save_state(SnapSave *save, uint64_t *ret_bytes)
{
	SNAP_LOCKED(&save->lock);

	if (ret_bytes)
		*ret_bytes = snap_intake_received(save->intake);
	return save->state;
}

bool snap_save_over(SnapSave *save)
{
	return snap_save_state(save, NULL) != SNAP_SAVE_RUNNING;
}

int snap_save_wait(SnapSave *save, GError **error)
{
	SNAP_LOCKED(&save->lock);

	while (save->state == SNAP_SAVE_RUNNING)
		g_cond_wait(&save->changed, &save->lock);
	if (save->state == SNAP_SAVE_DONE)
		return 0;
	if (error)
		*error = g_error_copy(save->error);
	return -save->error->code;
}
