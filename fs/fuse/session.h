/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel's protocol: a tree, mounted and served. */
#pragma once

#include <glib.h>

#include "fs/tree/tree.h"

struct snap_session_opts {
	SnapTree *tree;
	const char *source;  /* the store, as findmnt shows it */
	const char *point;   /* the folder to mount on, absolute */
	const char *options; /* of the mount, separated by commas; or "" */
	guint threads;	     /* that serve requests; 0: by the processors */
	guint max_read;	     /* bytes per request; 0: the most possible */
	/* Called once, when the mount answers; from a thread of its own. */
	void (*ready)(void *data);
	void *data;
};

/* Mounts the tree and serves it until it is unmounted, or until SIGINT, SIGTERM
 * or SIGHUP, which all other threads must have blocked. Then ends the saves
 * that run, and unmounts it. 0; -errno when it cannot be mounted or served. */
int snap_session_run(const struct snap_session_opts *opts, GError **error);
