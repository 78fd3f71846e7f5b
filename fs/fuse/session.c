/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A mount from its beginning to its end.
 *
 * The session is mounted, and then served by threads; the end goes the same
 * way back. A thread of its own takes the signal that ends the mount. First it
 * stops the notifier, whose calls into the kernel may wait for the answer to a
 * request, so requests must still be served. Then it stops serving. Between the
 * last request and the unmount the saves that still run are ended, so that
 * every write gets its answer.
 */
#include "fs/fuse/fuse-internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/log.h"
#include "fs/calls/call.h"

/* Threads that serve requests. Reads decompress in them, so there are more than
 * processors; but not many more, as each holds buffers of some 2 MiB. */
#define THREADS_MIN 8u
#define THREADS_MAX 16u
#define THREADS_A_PROCESSOR 2u

struct SnapSession {
	struct snap_session_opts opts;
	struct fuse_session *se; /* NULL: not mounted */
	struct snap_ready about;
	GThread *ready;
	GThread *notifier;
	GThread *signals;
	GAsyncQueue *changes; /* of struct change */
	SnapServer *server;   /* NULL: it does not serve */
	gint ending;	      /* send no notification any more; atomic */
	gint served;	      /* the loop has ended; atomic */
	gint limited;	      /* limit_end() was called; atomic */
};

/* ---- pages before they are asked for ---- */

static int on_push(void *data, SnapNode *node, uint64_t offset, void *buf,
		   size_t size)
{
	struct fuse_bufvec bytes = FUSE_BUFVEC_INIT(size);
	SnapSession *s = data;

	bytes.buf[0].mem = buf;
	return fuse_lowlevel_notify_store(s->se, snap_node_number(node),
					  (off_t)offset, &bytes, 0);
}

/* ---- names that stand for another node now ---- */

/* A name in a folder, which is a reference; NULL: the queue ends. */
struct change {
	SnapNode *folder;
	char *name;
};

static void change_free(struct change *c)
{
	if (c->folder)
		snap_node_unref(c->folder, 1);
	g_free(c->name);
	g_free(c);
}

static void on_change(void *data, SnapNode *folder, const char *name)
{
	SnapSession *s = data;
	struct change *c;

	if (g_atomic_int_get(&s->ending))
		return;
	c = g_new0(struct change, 1);
	c->folder = snap_node_ref(folder);
	c->name = g_strdup(name);
	g_async_queue_push(s->changes, c);
}

/* Tells the kernel to forget names: else it would hold a snapshot that was
 * replaced, and its space, for as long as it likes. The call waits for the
 * folder's lock in the kernel, hence a thread of its own. */
static gpointer notifier_thread(gpointer data)
{
	SnapSession *s = data;

	for (;;) {
		struct change *c = g_async_queue_pop(s->changes);
		bool last = !c->folder;

		if (!last && !g_atomic_int_get(&s->ending))
			fuse_lowlevel_notify_inval_entry(
				s->se, snap_node_number(c->folder), c->name,
				strlen(c->name));
		change_free(c);
		if (last)
			return NULL;
	}
}

static void notifier_start(SnapSession *s)
{
	s->changes = g_async_queue_new();
	s->notifier = g_thread_new("notify", notifier_thread, s);
	snap_tree_on_change(s->opts.tree, on_change, s);
	snap_tree_on_push(s->opts.tree, on_push, s);
}

/* Stops the notifier and waits for the notification under way. May be called
 * again. */
static void notifier_stop(SnapSession *s)
{
	snap_tree_end_pushes(s->opts.tree);
	g_atomic_int_set(&s->ending, 1);
	if (!s->notifier)
		return;
	g_async_queue_push(s->changes, g_new0(struct change, 1));
	g_thread_join(g_steal_pointer(&s->notifier));
}

/* When nothing calls into it any more. */
static void notifier_free(SnapSession *s)
{
	struct change *c;

	snap_tree_on_change(s->opts.tree, NULL, NULL);
	snap_tree_on_push(s->opts.tree, NULL, NULL);
	while ((c = g_async_queue_try_pop(s->changes)) != NULL)
		change_free(c);
	g_async_queue_unref(s->changes);
}

/* ---- libfuse's own words ---- */

/* What libfuse said last; written before threads are started. */
static char *last_words;

G_GNUC_PRINTF(2, 0)
static void keep_words(enum fuse_log_level level, const char *format,
		       va_list args)
{
	g_free(last_words);
	last_words = g_strdup_vprintf(format, args);
	g_strchomp(last_words);
}

G_GNUC_PRINTF(2, 0)
static void log_words(enum fuse_log_level level, const char *format,
		      va_list args)
{
	g_autofree char *line = g_strdup_vprintf(format, args);

	g_strchomp(line);
	snap_log(level <= FUSE_LOG_ERR	     ? SNAP_LOG_ERROR
		 : level <= FUSE_LOG_WARNING ? SNAP_LOG_WARNING
					     : SNAP_LOG_DEBUG,
		 "%s", line);
}

/* ---- mounting ---- */

/* The options as libfuse wants them, in one text; NULL without memory. */
static char *join_options(const struct snap_session_opts *opts)
{
	g_autofree char *source = g_strconcat("fsname=", opts->source, NULL);
	g_autofree char *max_read =
		g_strdup_printf("max_read=%u", opts->max_read);
	char *joined = NULL;

	if (fuse_opt_add_opt(&joined, "subtype=snapfs,default_permissions") ==
		    0 &&
	    fuse_opt_add_opt_escaped(&joined, source) == 0 &&
	    (!opts->max_read || fuse_opt_add_opt(&joined, max_read) == 0) &&
	    (!*opts->options || fuse_opt_add_opt(&joined, opts->options) == 0))
		return joined;
	free(joined);
	return NULL;
}

static SnapSession *session_new(const struct snap_session_opts *opts)
{
	SnapSession *s = g_new0(SnapSession, 1);

	s->opts = *opts;
	s->about.readahead_fd = -1;
	return s;
}

int snap_session_mount(const struct snap_session_opts *opts,
		       SnapSession **ret_session, GError **error)
{
	g_autoptr(SnapSession) s = session_new(opts);
	char *options = join_options(opts);
	char *argv[] = { (char *)"mount.snapfs", (char *)"-o", options, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	int r;

	if (!options)
		return snap_fail_errno(error, ENOMEM, "mount options");
	fuse_set_log_func(keep_words);
	s->se = fuse_session_new(&args, &snap_fuse_ops, sizeof(snap_fuse_ops),
				 &s->opts);
	fuse_opt_free_args(&args);
	free(options);
	if (!s->se)
		return snap_fail(error, EINVAL, "mount options: %s",
				 last_words ? last_words : "not understood");
	errno = 0;
	r = fuse_session_mount(s->se, opts->point);
	if (r < 0) {
		fuse_session_destroy(g_steal_pointer(&s->se));
		return snap_fail(error, errno ? errno : EIO,
				 "cannot mount at %s%s%s", opts->point,
				 /* fusermount3 has said why by itself */
				 last_words ? ": " : "",
				 last_words ? last_words : "");
	}
	fuse_set_log_func(log_words);
	snap_ready_prepare(opts->point, &s->about);
	*ret_session = g_steal_pointer(&s);
	return 0;
}

/* libfuse closes the connection, and then tries to unmount. It complains where
 * this process may not: that is no error, as long as it gets unmounted. */
static void session_unmount(SnapSession *s)
{
	int r;

	fuse_set_log_func(keep_words);
	fuse_session_unmount(s->se);
	r = s->opts.unmount();
	if (r < 0)
		snap_log(SNAP_LOG_ERROR, "%s cannot be unmounted: %s",
			 s->opts.point, g_strerror(-r));
	fuse_session_destroy(g_steal_pointer(&s->se));
}

void snap_session_free(SnapSession *s)
{
	if (s->se)
		session_unmount(s);
	snap_close_fd(&s->about.readahead_fd);
	g_free(s);
}

/* ---- an end without the store ---- */

/* How often the thread looks whether the store has not answered for too long.
 */
#define LAST_LOOK_US G_USEC_PER_SEC

static void (*give_up)(void);

static gpointer last_thread(gpointer data)
{
	gint64 begun = g_get_monotonic_time();

	while (g_get_monotonic_time() < snap_calls_until(begun))
		g_usleep(LAST_LOOK_US);
	snap_log(SNAP_LOG_ERROR,
		 "the store does not answer: the mount ends without it");
	give_up();
	return NULL;
}

/* The end begins; may be called again. The thread is still there when the
 * process ends, if all goes well. */
static void limit_end(void *data)
{
	SnapSession *s = data;
	GThread *thread;

	if (!g_atomic_int_compare_and_exchange(&s->limited, 0, 1))
		return;
	give_up = s->opts.give_up;
	thread = g_thread_try_new("last", last_thread, NULL, NULL);
	if (thread)
		g_thread_unref(thread);
}

/* ---- serving ---- */

static gpointer ready_thread(gpointer data)
{
	SnapSession *s = data;

	if (snap_ready_wait(s->opts.point, &s->about) < 0)
		return NULL;
	s->opts.ready(s->opts.data);
	return NULL;
}

static SnapServer *make_server(SnapSession *s)
{
	guint threads = s->opts.threads;

	if (!threads)
		threads = CLAMP(THREADS_A_PROCESSOR * g_get_num_processors(),
				THREADS_MIN, THREADS_MAX);
	return snap_server_new(&s->opts, s->se, threads);
}

/* ---- signals ---- */

/* The signals that end the mount; one that is ignored (nohup) does not. They
 * are blocked in all threads. */
static void fill_signals(sigset_t *ret)
{
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction now;

	sigemptyset(ret);
	for (guint i = 0; i < G_N_ELEMENTS(ends); i++)
		if (ends[i] == SIGTERM || sigaction(ends[i], NULL, &now) < 0 ||
		    now.sa_handler != SIG_IGN)
			sigaddset(ret, ends[i]);
}

static gpointer signals_thread(gpointer data)
{
	SnapSession *s = data;
	sigset_t set;
	int taken;

	fill_signals(&set);
	while (sigwait(&set, &taken) != 0)
		;
	if (g_atomic_int_get(&s->served))
		return NULL;
	limit_end(s);
	snap_tree_end_saves(s->opts.tree);
	notifier_stop(s);
	snap_server_end(s->server);
	return NULL;
}

/* When the loop has ended. */
static void signals_stop(SnapSession *s)
{
	g_atomic_int_set(&s->served, 1);
	/* To this process alone, and to that thread since it alone waits. */
	kill(getpid(), SIGTERM);
	g_thread_join(s->signals);
}

int snap_session_run(SnapSession *s, SnapTree *tree, GError **error)
{
	int r;

	s->opts.tree = tree;
	snap_tree_mounted(tree, s->about.device);
	snap_wait_begin();
	notifier_start(s);
	s->server = make_server(s);
	s->signals = g_thread_new("signals", signals_thread, s);
	s->ready = g_thread_new("ready", ready_thread, s);
	r = snap_server_run(s->server, limit_end, s);
	signals_stop(s);
	notifier_stop(s);
	snap_tree_drain(tree);
	snap_wait_end();
	snap_server_free(g_steal_pointer(&s->server));
	session_unmount(s);
	g_thread_join(s->ready);
	notifier_free(s);
	if (r < 0)
		return snap_fail_errno(error, -r, "%s: serving it failed",
				       s->opts.point);
	return 0;
}

char *snap_session_library(void)
{
	return g_strconcat("libfuse ", fuse_pkgversion(), NULL);
}
