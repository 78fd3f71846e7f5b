/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A verb of snapfs: a line in the table of snapfs.c, and a file of its own. */
#pragma once

#include <glib.h>

struct snap_verb {
	const char *name;
	const char *arguments; /* as the usage shows them */
	guint min_arguments;
	guint max_arguments;
	const char *summary; /* a line for the list of verbs */
	const char *help;    /* what more there is to say; lines */
	const GOptionEntry *options;
	/* Does it: 0; -errno with an error, which is then printed; or the exit
	 * status, when all was said. An error of G_OPTION_ERROR is one of
	 * usage. */
	int (*run)(char **arguments, guint n, GError **error);
};

/* Exit statuses. */
enum {
	SNAP_EXIT_FAILED = 1,
	SNAP_EXIT_USAGE = 2,
};

extern const struct snap_verb snap_verb_ls;
extern const struct snap_verb snap_verb_info;
extern const struct snap_verb snap_verb_verify;
extern const struct snap_verb snap_verb_import;
extern const struct snap_verb snap_verb_export;
extern const struct snap_verb snap_verb_save;
extern const struct snap_verb snap_verb_revert;
