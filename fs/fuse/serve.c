/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads that take requests from the kernel and serve them, one at a time
 * each. One more is started when none is left to take the next.
 *
 * libfuse has such a loop. This one also knows what each thread is at, and
 * since when: the store may let a thread wait for as long as it likes. The
 * process that waits for the answer could not even be killed then: the kernel
 * waits for an answer to a request that was taken (request_wait_answer() in its
 * fs/fuse/dev.c). So a request whose process is about to die is answered here,
 * in the thread's place. The kernel takes the first answer to a request, and
 * ENOENT is what the thread gets for its own (fuse_dev_do_write()). In the same
 * way the attributes of the top folder, and the numbers of df(1), are answered
 * as they were last: umount(8) asks for them first, and must not wait for the
 * store.
 */
#include "fs/fuse/fuse-internal.h"

#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <sys/uio.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "fs/calls/call.h"

/* So many more threads, one by one, while all others wait for the store: for
 * what can be answered without it. */
#define MORE_THREADS 16u

struct SnapServer {
	const struct snap_session_opts *opts;
	struct fuse_session *se;
	guint most; /* threads */
	GMutex lock;
	GCond changed;
	GQueue workers; /* protected by lock, as the rest */
	guint waiting;	/* of them, for a request */
	int error;	/* the first one that ended a thread, or 0 */
	/* answers, as they were last */
	struct fuse_attr_out top; /* of the top folder */
	struct fuse_statfs_out fs;
	bool has_top, has_fs;
	guint remembered; /* threads that still wait to know better */
};

struct worker {
	GList link;
	SnapServer *server;
	pthread_t thread;
	bool waits; /* for a request */
};

/* ---- requests under way ---- */

struct snap_request {
	struct snap_call call; /* first */
	SnapServer *server;
	uint64_t unique;
	uint64_t node;
	uint32_t opcode;
	pid_t thread;	/* that waits for the answer; 0: nobody */
	bool answered;	/* in the place of who serves it */
	bool counted;	/* in server->remembered */
	fuse_req_t req; /* if it is answered later */
	gint refs;	/* atomic */
};

/* What the calling thread serves. */
static __thread struct snap_request *present;

static const char *const names[] = {
	[FUSE_LOOKUP] = "lookup",     [FUSE_GETATTR] = "stat",
	[FUSE_SETATTR] = "change",    [FUSE_READLINK] = "readlink",
	[FUSE_SYMLINK] = "symlink",   [FUSE_MKNOD] = "mknod",
	[FUSE_MKDIR] = "mkdir",	      [FUSE_UNLINK] = "unlink",
	[FUSE_RMDIR] = "rmdir",	      [FUSE_RENAME] = "rename",
	[FUSE_LINK] = "link",	      [FUSE_OPEN] = "open",
	[FUSE_READ] = "read",	      [FUSE_WRITE] = "write",
	[FUSE_STATFS] = "statfs",     [FUSE_RELEASE] = "close",
	[FUSE_FSYNC] = "fsync",	      [FUSE_SETXATTR] = "setxattr",
	[FUSE_GETXATTR] = "getxattr", [FUSE_LISTXATTR] = "listxattr",
	[FUSE_FLUSH] = "close",	      [FUSE_OPENDIR] = "list",
	[FUSE_READDIR] = "list",      [FUSE_FSYNCDIR] = "fsync",
	[FUSE_CREATE] = "create",     [FUSE_FALLOCATE] = "fallocate",
	[FUSE_RENAME2] = "rename",    [FUSE_LSEEK] = "seek",
};

/* Those that name something in the folder that they are about. */
static bool is_in_folder(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_LOOKUP:
	case FUSE_SYMLINK:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_LINK:
	case FUSE_CREATE:
		return true;
	default:
		return false;
	}
}

static char *request_name(const struct snap_call *call, void **ret_held)
{
	const struct snap_request *r = (const struct snap_request *)call;
	SnapNode *node = snap_tree_node(r->server->opts->tree, r->node);
	g_autofree char *path = snap_tree_path(node);
	const char *name =
		r->opcode < G_N_ELEMENTS(names) ? names[r->opcode] : NULL;

	*ret_held = node;
	return g_strdup_printf("%s %s %s", name ? name : "a request",
			       is_in_folder(r->opcode) ? "in" : "of",
			       *path ? path : "the top folder");
}

static void request_let_go(void *node)
{
	snap_node_unref(node, 1);
}

/* Answers a request in the place of the thread that serves it. */
static void answer(struct snap_request *r, int error, const void *body,
		   size_t size)
{
	struct fuse_out_header head = { .len = (uint32_t)(sizeof(head) + size),
					.error = error,
					.unique = r->unique };
	struct iovec parts[] = { { &head, sizeof(head) },
				 { (void *)(uintptr_t)body, size } };

	r->answered = true;
	/* If it is answered already, that is as well. */
	(void)!writev(fuse_session_fd(r->server->se), parts, size ? 2 : 1);
}

/* Answers a request as it was answered last; false where that is not known. */
static bool from_memory_locked(struct snap_request *r)
{
	SnapServer *s = r->server;
	bool is_fs = r->opcode == FUSE_STATFS && s->has_fs;
	bool is_top = r->opcode == FUSE_GETATTR && r->node == FUSE_ROOT_ID &&
		      s->has_top;

	if (is_fs)
		answer(r, 0, &s->fs, sizeof(s->fs));
	else if (is_top)
		answer(r, 0, &s->top, sizeof(s->top));
	return is_fs || is_top;
}

static bool start_locked(SnapServer *s);

/* Called while the store does not answer. */
static void request_look(struct snap_call *call)
{
	struct snap_request *r = (struct snap_request *)call;
	SnapServer *s = r->server;
	SNAP_LOCKED(&s->lock);

	if (!s->waiting && s->workers.length < s->most + MORE_THREADS)
		start_locked(s);
	if (r->answered)
		return;
	r->counted = from_memory_locked(r);
	s->remembered += r->counted;
	if (!r->counted && r->thread && snap_is_dying(s->opts, r->thread))
		answer(r, -EINTR, NULL, 0);
}

static const struct snap_call_ops request_ops = {
	.name = request_name,
	.let_go = request_let_go,
	.look = request_look,
};

/* A request was taken. */
static void request_begin(struct snap_request *r,
			  const struct fuse_in_header *in)
{
	r->call.ops = &request_ops;
	r->unique = in->unique;
	r->node = in->nodeid;
	r->opcode = in->opcode;
	r->thread = (pid_t)in->pid;
	r->answered = r->counted = false;
	r->refs = 1;
	present = r;
	snap_call_begin(&r->call);
}

static bool request_unref(struct snap_request *r)
{
	if (!g_atomic_int_dec_and_test(&r->refs))
		return false;
	snap_call_end(&r->call);
	return true;
}

/* The thread is done with a request; returns what it takes for the next. */
static struct snap_request *request_leave(struct snap_request *r)
{
	/* It waits for a save, which says by itself what that waits for. */
	if (g_atomic_int_get(&r->refs) > 1)
		snap_call_hush(&r->call);
	return request_unref(r) ? r : g_new0(struct snap_request, 1);
}

void snap_request_note_top(const struct stat *st)
{
	SnapServer *s = present->server;
	SNAP_LOCKED(&s->lock);

	s->has_top = true;
	s->top.attr = (struct fuse_attr){
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = (uint64_t)st->st_atim.tv_sec,
		.mtime = (uint64_t)st->st_mtim.tv_sec,
		.ctime = (uint64_t)st->st_ctim.tv_sec,
		.atimensec = (uint32_t)st->st_atim.tv_nsec,
		.mtimensec = (uint32_t)st->st_mtim.tv_nsec,
		.ctimensec = (uint32_t)st->st_ctim.tv_nsec,
		.mode = st->st_mode,
		.nlink = (uint32_t)st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.blksize = (uint32_t)st->st_blksize,
	};
}

void snap_request_note_fs(const struct statvfs *st)
{
	SnapServer *s = present->server;
	SNAP_LOCKED(&s->lock);

	s->has_fs = true;
	s->fs.st = (struct fuse_kstatfs){
		.blocks = st->f_blocks,
		.bfree = st->f_bfree,
		.bavail = st->f_bavail,
		.files = st->f_files,
		.ffree = st->f_ffree,
		.bsize = (uint32_t)st->f_bsize,
		.namelen = (uint32_t)st->f_namemax,
		.frsize = (uint32_t)st->f_frsize,
	};
}

struct snap_request *snap_request_keep(fuse_req_t req)
{
	struct snap_request *r = present;

	r->req = req;
	g_atomic_int_inc(&r->refs);
	return r;
}

fuse_req_t snap_request_req(const struct snap_request *r)
{
	return r->req;
}

void snap_request_done(struct snap_request *r)
{
	if (request_unref(r))
		g_free(r);
}

/* ---- threads ---- */

static gpointer worker_thread(gpointer data);

/* Starts one more thread; false where there is none to be had. */
static bool start_locked(SnapServer *s)
{
	struct worker *w = g_new0(struct worker, 1);
	GThread *thread;

	w->link.data = w;
	w->server = s;
	w->waits = true;
	thread = g_thread_try_new("serve", worker_thread, w, NULL);
	if (!thread) {
		g_free(w);
		return false;
	}
	g_thread_unref(thread);
	s->waiting++;
	g_queue_push_tail_link(&s->workers, &w->link);
	return true;
}

/* A worker has a request. One thread that waits for the store is enough for
 * what is answered from memory meanwhile: returns false where that was done. */
static bool work_begin(struct worker *w, struct snap_request *r)
{
	SnapServer *s = w->server;
	SNAP_LOCKED(&s->lock);

	w->waits = false;
	s->waiting--;
	if (!s->waiting && s->workers.length < s->most)
		start_locked(s);
	return !s->remembered || !from_memory_locked(r);
}

/* It is done with a request, which was `counted`. */
static void work_end(struct worker *w, bool counted)
{
	SnapServer *s = w->server;
	SNAP_LOCKED(&s->lock);

	s->remembered -= counted;
	w->waits = true;
	s->waiting++;
}

/* Waits for a request: its size; 0 or -errno at the end. */
static int receive(struct worker *w, struct fuse_buf *buf)
{
	int r = -EINTR;

	while (r == -EINTR && !fuse_session_exited(w->server->se))
		r = fuse_session_receive_buf(w->server->se, buf);
	return r == -EINTR ? 0 : r;
}

/* The thread ends, and with it all others. */
static void leave(struct worker *w, int error)
{
	SnapServer *s = w->server;
	SNAP_LOCKED(&s->lock);

	fuse_session_exit(s->se);
	if (!s->error)
		s->error = error;
	s->waiting--;
	g_queue_unlink(&s->workers, &w->link);
	g_cond_broadcast(&s->changed);
	g_free(w);
}

/* Does no more than to end a wait for a request. */
#define WAKE SIGUSR1

static void on_wake(int signal)
{
}

/* Whoever started the program may have blocked the signal. */
static void let_wake(void)
{
	sigset_t wake;

	sigemptyset(&wake);
	sigaddset(&wake, WAKE);
	pthread_sigmask(SIG_UNBLOCK, &wake, NULL);
}

static gpointer worker_thread(gpointer data)
{
	struct worker *w = data;
	SnapServer *s = w->server;
	struct snap_request *request = g_new0(struct snap_request, 1);
	struct fuse_buf buf = { 0 };
	int r;

	let_wake();
	g_mutex_lock(&s->lock);
	w->thread = pthread_self();
	g_mutex_unlock(&s->lock);
	request->server = s;
	while ((r = receive(w, &buf)) > 0) {
		request_begin(request, buf.mem);
		if (work_begin(w, request))
			fuse_session_process_buf(s->se, &buf);
		request = request_leave(request);
		request->server = s;
		work_end(w, request->counted);
	}
	free(buf.mem);
	g_free(request);
	leave(w, r);
	return NULL;
}

/* ---- the server ---- */

SnapServer *snap_server_new(const struct snap_session_opts *opts,
			    struct fuse_session *se, guint threads)
{
	SnapServer *s = g_new0(SnapServer, 1);

	s->opts = opts;
	s->se = se;
	s->most = threads;
	g_mutex_init(&s->lock);
	g_cond_init(&s->changed);
	return s;
}

void snap_server_free(SnapServer *s)
{
	g_cond_clear(&s->changed);
	g_mutex_clear(&s->lock);
	g_free(s);
}

/* Ends the waits for requests. A thread that serves one is left alone. */
static void wake_locked(SnapServer *s)
{
	for (GList *l = s->workers.head; l; l = l->next) {
		struct worker *w = l->data;

		if (w->waits && w->thread)
			pthread_kill(w->thread, WAKE);
	}
}

int snap_server_run(SnapServer *s, void (*ends)(void *data), void *data)
{
	struct sigaction wake = { .sa_handler = on_wake };
	SNAP_LOCKED(&s->lock);

	sigaction(WAKE, &wake, NULL);
	if (!start_locked(s))
		return -EAGAIN;
	while (!fuse_session_exited(s->se))
		g_cond_wait(&s->changed, &s->lock);
	g_mutex_unlock(&s->lock);
	ends(data);
	g_mutex_lock(&s->lock);
	/* Again and again, as a thread may have looked just before, and wait
	 * then. */
	while (s->workers.head) {
		wake_locked(s);
		g_cond_wait_until(&s->changed, &s->lock,
				  g_get_monotonic_time() + 10000);
	}
	return s->error;
}

void snap_server_end(SnapServer *s)
{
	SNAP_LOCKED(&s->lock);

	fuse_session_exit(s->se);
	g_cond_broadcast(&s->changed);
}
