/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's protocol: a tree, mounted and served.
 *
 * To mount and to serve are two steps. Between them the process may give up
 * what it needed to mount.
 */
#pragma once

#include <glib.h>

#include "fs/tree/tree.h"

typedef struct SnapSession SnapSession;

struct snap_session_opts {
	SnapTree *tree;	     /* set by snap_session_run() */
	const char *source;  /* the store, as findmnt shows it */
	const char *point;   /* the folder to mount on, absolute */
	const char *options; /* of the mount, separated by commas; or "" */
	guint threads;	     /* that serve requests; 0: by the processors */
	guint max_read;	     /* bytes per request; 0: the most possible */
	/* Called once, when the mount answers; from a thread of its own. */
	void (*ready)(void *data);
	void *data;
	/* Opens /proc/THREAD/NAME: a descriptor, or -errno. */
	int (*open_proc)(pid_t thread, const char *name);
	/* Unmounts what has lost its program at `point`: called when libfuse
	 * has closed the connection, and may not have been allowed to unmount.
	 * Returns 0 or -errno. */
	int (*unmount)(void);
	/* The mount is to end, and the store has not answered for long: ends
	 * the process, whatever its threads wait for. */
	void (*give_up)(void);
};

/* Tells libfuse's version (format/base/version.h). */
char *snap_session_library(void);

/* Mounts. Requests wait until they are served. 0, -errno. */
int snap_session_mount(const struct snap_session_opts *opts,
		       SnapSession **ret_session, GError **error);

/* Serves the tree until it is unmounted, or until SIGINT, SIGTERM or SIGHUP,
 * which all other threads must have blocked. Then ends the saves that run, and
 * unmounts it. 0; -errno when it cannot be served. While the store does not
 * answer, `give_up` is called instead, also after this has returned. */
int snap_session_run(SnapSession *session, SnapTree *tree, GError **error);

/* Unmounts, unless that is done. */
void snap_session_free(SnapSession *session);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapSession, snap_session_free)
