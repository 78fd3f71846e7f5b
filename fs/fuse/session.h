/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel's protocol: a tree, mounted and served. */
#pragma once

#include <glib.h>

#include "fs/view/view.h"

struct snap_session_opts {
	SnapTree *tree;
	const char *source;  /* shown as what is mounted */
	const char *point;   /* the folder to mount on, absolute */
	const char *options; /* of the mount, with commas between; "" */
	guint threads;	     /* that serve requests; 0: as seems fit */
	guint max_read;	     /* bytes a request; 0: as many as may be */
	/* Called once, when the mount answers; from a thread of its own. */
	void (*ready)(void *data);
	void *data;
};

/* Mounts the tree and serves it until it is unmounted, or until SIGINT, SIGTERM
 * or SIGHUP, which all other threads must have blocked; then unmounts it. Saves
 * that run then are ended. 0, or -errno with a sentence when it could not be
 * mounted or served. */
int snap_session_run(const struct snap_session_opts *opts, GError **error);
