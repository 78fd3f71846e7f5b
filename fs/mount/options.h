/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of mount.snapfs. Inside fs/mount. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "format/base/log.h"

/* What mount(8) wants of a helper's exit code. */
enum snap_mount_exit {
	SNAP_MOUNT_OK = 0,
	SNAP_MOUNT_USAGE = 1,
	SNAP_MOUNT_SYSTEM = 2,
	SNAP_MOUNT_FAILED = 32,
};

struct snap_mount_opts {
	const char *store;
	const char *point;
	bool foreground;
	bool sloppy; /* ignore options that are not known */
	bool help;
	bool version;
	bool read_only;
	const char *ns; /* a mount namespace to mount in, or NULL */
	uint64_t buffer;
	uint64_t cache;
	uint64_t threads;     /* that compress, and that read ahead */
	uint64_t max_threads; /* that serve requests */
	uint64_t max_read;    /* bytes; 0: as seems fit */
	uint64_t level;
	uint64_t uid; /* UINT64_MAX: the true one */
	uint64_t gid;
	uint64_t umask;
	char *log; /* a file, or NULL */
	enum snap_log_level log_level;
	GString *passed; /* options that are for the mount itself */
};

/* Reads the command line. -EINVAL with a sentence. */
int snap_options_parse(int argc, char **argv, struct snap_mount_opts *ret_opts,
		       GError **error);

/* Frees what it holds. */
void snap_options_clear(struct snap_mount_opts *opts);

/* Prints what --help says. */
void snap_options_help(void);
