/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all verbs share: options, help, and the only place that prints an error.
 * --help is made from the tables.
 */
#include "tools/cli/cli.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

#include "format/base/start.h"
#include "tools/cli/log.h"
#include "tools/cli/print.h"

static gboolean want_help;
static gboolean want_version;

static const GOptionEntry verb_options[] = { { "help", 'h', 0,
					       G_OPTION_ARG_NONE, &want_help,
					       "print this help", NULL },
					     { NULL } };

static const GOptionEntry main_options[] = {
	{ "help", 'h', 0, G_OPTION_ARG_NONE, &want_help, "print this help",
	  NULL },
	{ "version", 'V', 0, G_OPTION_ARG_NONE, &want_version,
	  "print the version", NULL },
	{ NULL }
};

/* ---- help ---- */

static void print_options(const GOptionEntry *options)
{
	for (; options && options->long_name; options++) {
		g_autofree char *name = g_strconcat(
			options->long_name, options->arg_description ? "=" : "",
			options->arg_description, NULL);

		if (options->short_name)
			printf("  -%c, --%-16s %s\n", options->short_name, name,
			       options->description);
		else
			printf("      --%-16s %s\n", name,
			       options->description);
	}
}

static void print_main_help(const struct snap_verb *const *verbs)
{
	printf("Usage: snapfs VERB [OPTION]... ARGUMENT...\n\n"
	       "Saves and reverts virtual machines, and looks after a store "
	       "of snapshots.\n\nVerbs:\n");
	for (; *verbs; verbs++)
		printf("  %-10s %s\n", (*verbs)->name, (*verbs)->summary);
	printf("\nOptions:\n");
	print_options(main_options);
	printf("\n'snapfs VERB --help' describes a verb. snapfs(1) describes "
	       "everything.\n");
}

static void print_verb_help(const struct snap_verb *verb)
{
	printf("Usage: snapfs %s [OPTION]... %s\n\n%s\n\nOptions:\n",
	       verb->name, verb->arguments, verb->help);
	print_options(verb->options);
	print_options(verb_options);
}

/* ---- the end ---- */

/* Prints an error, and how to get help if the command line was wrong. Returns
 * the exit status. */
static int fail(const char *verb, const GError *error)
{
	bool usage = error->domain == G_OPTION_ERROR;

	snap_print_error("%s%s%s", verb ? verb : "", verb ? ": " : "",
			 error->message);
	if (usage)
		fprintf(stderr, "Try 'snapfs%s%s --help'.\n", verb ? " " : "",
			verb ? verb : "");
	return usage ? SNAP_EXIT_USAGE : SNAP_EXIT_FAILED;
}

/* Checks that all output was written. If the reader has closed the pipe, this
 * fails without a message. Returns the exit status. */
static int flush_output(int status)
{
	struct stat st;

	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	/* An earlier write has failed: errno is gone. */
	if (!errno)
		errno = fstat(STDOUT_FILENO, &st) == 0 && S_ISFIFO(st.st_mode)
				? EPIPE
				: EIO;
	if (errno != EPIPE)
		snap_print_error("standard output: %s", g_strerror(errno));
	return status ? status : SNAP_EXIT_FAILED;
}

/* ---- arguments ---- */

int snap_usage_error(GError **error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	g_propagate_error(error, g_error_new_valist(G_OPTION_ERROR,
						    G_OPTION_ERROR_FAILED,
						    format, args));
	va_end(args);
	return -EINVAL;
}

/* Takes the options out of the arguments that follow the first one. */
static gboolean parse(const GOptionEntry *options, const GOptionEntry *more,
		      gboolean posix, int *argc, char ***argv, GError **error)
{
	g_autoptr(GOptionContext) context = g_option_context_new(NULL);

	g_option_context_set_help_enabled(context, FALSE);
	g_option_context_set_strict_posix(context, posix);
	if (options)
		g_option_context_add_main_entries(context, options, NULL);
	g_option_context_add_main_entries(context, more, NULL);
	return g_option_context_parse(context, argc, argv, error);
}

/* Removes the first argument, and a "--" that follows it. */
static void shift(int *argc, char ***argv)
{
	do {
		--*argc;
		++*argv;
	} while (*argc && !strcmp(**argv, "--"));
}

static int run_verb(const struct snap_verb *verb, int argc, char **argv,
		    GError **error)
{
	if (!parse(verb->options, verb_options, FALSE, &argc, &argv, error))
		return -EINVAL;
	if (want_help) {
		print_verb_help(verb);
		return 0;
	}
	shift(&argc, &argv);
	if ((guint)argc < verb->min_arguments ||
	    (guint)argc > verb->max_arguments)
		return snap_usage_error(
			error, "too %s arguments, want %s",
			(guint)argc > verb->max_arguments ? "many" : "few",
			verb->arguments);
	return verb->run(argv, (guint)argc, error);
}

static const struct snap_verb *find_verb(const struct snap_verb *const *verbs,
					 const char *name, GError **error)
{
	for (; name && *verbs; verbs++)
		if (!strcmp((*verbs)->name, name))
			return *verbs;
	if (name)
		snap_usage_error(error, "%s: no such verb", name);
	else
		snap_usage_error(error, "too few arguments, want VERB");
	return NULL;
}

static void print_version(snap_library *const *libraries)
{
	g_autofree char *text = snap_version("snapfs", libraries);

	fputs(text, stdout);
}

int snap_cli_run(const struct snap_verb *const *verbs,
		 snap_library *const *libraries, int argc, char **argv)
{
	g_autoptr(GError) error = NULL;
	const struct snap_verb *verb;
	int r;

	if (snap_start() < 0)
		return SNAP_EXIT_FAILED;
	snap_log_keep();
	if (!parse(NULL, main_options, TRUE, &argc, &argv, &error))
		return fail(NULL, error);
	if (want_help)
		print_main_help(verbs);
	else if (want_version)
		print_version(libraries);
	if (want_help || want_version)
		return flush_output(0);
	shift(&argc, &argv);
	verb = find_verb(verbs, argc ? argv[0] : NULL, &error);
	if (!verb)
		return fail(NULL, error);
	r = run_verb(verb, argc, argv, &error);
	return flush_output(r < 0 ? fail(verb->name, error) : r);
}
