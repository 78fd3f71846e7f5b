/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a verb writes: standard output, or a file that gets its name when it is
 * complete. Until then a temporary file lies beside it. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

struct snap_output {
	int fd;
	const char *name; /* for errors */
	int folder;	  /* -1, or the folder of the next two */
	char *temporary;  /* renamed to `final` at the end; NULL: there is none
			   */
	char *final;
	bool sparse; /* holes may be skipped */
};
#define SNAP_OUTPUT_NONE                                                       \
	{                                                                      \
		.fd = -1, .folder = -1                                         \
	}

/* Tells whether a name (NULL: standard output) is that of a new or a regular
 * file, which is replaced. A device or a FIFO is opened and written. A signal
 * must not end the program while such a file is open: snap_signals_hold(). */
bool snap_output_is_file(const char *name);

/* Opens it; `name` stays the caller's. A new file gets the bits of `mode` that
 * umask(2) leaves. Returns 0 or -errno. */
int snap_output_open(struct snap_output *o, const char *name, mode_t mode,
		     GError **error);

/* Gives the file its name. Its bytes are on disk before that. Returns 0 or
 * -errno. */
int snap_output_finish(struct snap_output *o, GError **error);

/* Closes it, also after a failure. Without snap_output_finish(), an older file
 * is unchanged. */
void snap_output_close(struct snap_output *o);
