/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A verb of snapfs. To add one, write a file for it, declare it in its room's
 * verbs.h and add it to the table in tools/snapfs.c. */
#pragma once

#include <glib.h>

struct snap_verb {
	const char *name;
	const char *arguments; /* as the usage line shows them */
	guint min_arguments;
	guint max_arguments;
	const char *summary; /* one line for the list of verbs */
	const char *help;    /* some lines for its own --help */
	const GOptionEntry *options;
	/* Runs the verb. Returns 0; or -errno with an error that the caller
	 * prints, as one of usage if its domain is G_OPTION_ERROR; or an exit
	 * status, when the verb has printed everything itself. */
	int (*run)(char **arguments, guint n, GError **error);
};

/* Sets an error of usage: the user typed something wrong. Returns -EINVAL. */
int snap_usage_error(GError **error, const char *format, ...)
	G_GNUC_PRINTF(2, 3);

/* Exit statuses. */
enum {
	SNAP_EXIT_FAILED = 1,
	SNAP_EXIT_USAGE = 2,
};
