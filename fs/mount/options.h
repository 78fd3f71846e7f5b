/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of mount.snapfs. Inside fs/mount. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "format/base/log.h"

/* The exit codes that mount(8) expects of a helper. */
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
	bool sloppy; /* ignore unknown options */
	bool help;
	bool version;
	bool increments; /* saves store what differs from older ones */
	bool read_only;
	const char *ns; /* the path of a mount namespace, or NULL */
	uint64_t buffer;
	uint64_t cache;
	char *disk_cache; /* a folder, or NULL */
	uint64_t disk_cache_size;
	/* threads that compress, and threads that read ahead */
	uint64_t threads;
	uint64_t max_threads; /* threads that serve requests */
	uint64_t max_read;    /* bytes; 0: the default */
	uint64_t level;
	uint64_t idle;	  /* seconds */
	uint64_t timeout; /* seconds */
	uint64_t uid;	  /* UINT64_MAX: each file's own */
	uint64_t gid;
	uint64_t umask;
	char *log; /* a file, or NULL */
	enum snap_log_level log_level;
	/* what the mount does not give up */
	bool keep_caps;
	bool keep_new_privs;
	bool no_landlock;
	bool no_seccomp;
	GString *passed; /* options for the mount itself */
};

/* Reads the command line. Returns 0, or -EINVAL with a sentence. */
int snap_options_parse(int argc, char **argv, struct snap_mount_opts *ret_opts,
		       GError **error);

/* Frees the fields of `opts`. */
void snap_options_clear(struct snap_mount_opts *opts);

/* Prints the text of --help. */
void snap_options_help(void);
