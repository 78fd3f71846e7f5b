/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapfs: what a person types to look after a store.
 *
 * Here are the table of verbs and what all of them share: options, help, and
 * the one place where an error is printed. --help is made from the tables.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tools/log.h"
#include "tools/print.h"
#include "tools/verb.h"

static const struct snap_verb *const verbs[] = {
	&snap_verb_ls,	   &snap_verb_info,   &snap_verb_verify,
	&snap_verb_import, &snap_verb_export, &snap_verb_save,
	&snap_verb_revert,
};

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

static void print_main_help(void)
{
	printf("Usage: snapfs VERB [OPTION]... STORE [NAME]...\n\n"
	       "Looks after a store of VM memory snapshots. STORE is the "
	       "store's folder, the\nplace where it is mounted, or a folder "
	       "in one of them.\n\nVerbs:\n");
	for (guint i = 0; i < G_N_ELEMENTS(verbs); i++)
		printf("  %-10s %s\n", verbs[i]->name, verbs[i]->summary);
	printf("\nOptions:\n");
	print_options(main_options);
	printf("\n'snapfs VERB --help' says more of a verb, snapfs(1) more of "
	       "all.\n");
}

static void print_verb_help(const struct snap_verb *verb)
{
	printf("Usage: snapfs %s [OPTION]... %s\n\n%s\n\nOptions:\n",
	       verb->name, verb->arguments, verb->help);
	print_options(verb->options);
	print_options(verb_options);
}

/* Prints an error, and says where help is to be found if it is one of usage.
 * The exit status. */
static int tell(const char *verb, const GError *error)
{
	gboolean usage = error->domain == G_OPTION_ERROR;

	snap_print_error("%s%s%s", verb ? verb : "", verb ? ": " : "",
			 error->message);
	if (usage)
		fprintf(stderr, "Try 'snapfs%s%s --help'.\n", verb ? " " : "",
			verb ? verb : "");
	return usage ? SNAP_EXIT_USAGE : SNAP_EXIT_FAILED;
}

/* What was printed must have arrived; a reader that has gone is told nothing.
 */
static int finish(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	if (errno != EPIPE)
		snap_print_error("standard output: %s", g_strerror(errno));
	return status ? status : SNAP_EXIT_FAILED;
}

/* Takes the options out of the arguments behind the first one. */
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

/* Steps over the first argument, and a "--" that was left behind it. */
static void step(int *argc, char ***argv)
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
	step(&argc, &argv);
	if ((guint)argc < verb->min_arguments ||
	    (guint)argc > verb->max_arguments) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED,
			    "too %s arguments, want %s",
			    (guint)argc > verb->max_arguments ? "many" : "few",
			    verb->arguments);
		return -EINVAL;
	}
	return verb->run(argv, (guint)argc, error);
}

static const struct snap_verb *find_verb(const char *name, GError **error)
{
	for (guint i = 0; name && i < G_N_ELEMENTS(verbs); i++)
		if (!strcmp(verbs[i]->name, name))
			return verbs[i];
	if (name)
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED,
			    "%s: no such verb", name);
	else
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED,
			    "too few arguments, want VERB");
	return NULL;
}

int main(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;
	const struct snap_verb *verb;
	int r;

	/* A reader that goes away is an error of write, not our end. */
	signal(SIGPIPE, SIG_IGN);
	snap_log_keep();
	if (!parse(NULL, main_options, TRUE, &argc, &argv, &error))
		return tell(NULL, error);
	if (want_help || want_version) {
		if (want_help)
			print_main_help();
		else
			printf("snapfs " SNAPFS_VERSION "\n");
		return finish(0);
	}
	step(&argc, &argv);
	verb = find_verb(argc ? argv[0] : NULL, &error);
	if (!verb)
		return tell(NULL, error);
	r = run_verb(verb, argc, argv, &error);
	return finish(r < 0 ? tell(verb->name, error) : r);
}
