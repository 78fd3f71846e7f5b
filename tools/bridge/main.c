/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapfs-bridge: the command line. */
#include <stdio.h>
#include <string.h>

#include "format/base/error.h"
#include "format/base/start.h"
#include "format/base/units.h"
#include "format/base/version.h"
#include "tools/bridge/bridge.h"

static struct bridge bridge = { .wait_mount = 300 };
static char *unix_path; /* NULL: standard input and output */
static char *precopy, **mapped, **page_sizes;
static gboolean quiet, version;

static const GOptionEntry entries[] = {
	{ "unix", 'u', 0, G_OPTION_ARG_FILENAME, &unix_path,
	  "Connect to the unix socket PATH", "PATH" },
	{ "resume", 0, 0, G_OPTION_ARG_NONE, &bridge.resume,
	  "Go on where another bridge was interrupted", NULL },
	{ "precopy", 0, 0, G_OPTION_ARG_STRING, &precopy,
	  "Send a part before the guest runs", "N%|hot" },
	{ "mapped", 0, 0, G_OPTION_ARG_STRING_ARRAY, &mapped,
	  "Leave out a block: QEMU maps DIR/ram", "BLOCK[=OFFSET]" },
	{ "page-size", 0, 0, G_OPTION_ARG_STRING_ARRAY, &page_sizes,
	  "A block lies in huge pages (2m)", "BLOCK=SIZE" },
	{ "wait-mount", 0, 0, G_OPTION_ARG_INT, &bridge.wait_mount,
	  "How long a mount may be gone (300)", "SECONDS" },
	{ "quiet", 'q', 0, G_OPTION_ARG_NONE, &quiet,
	  "Print no line at the end", NULL },
	{ "version", 'V', 0, G_OPTION_ARG_NONE, &version,
	  "Print the version and exit", NULL },
	{ NULL },
};

static const char summary[] =
	"Gives QEMU the memory of the snapshot in the folder DIR while the "
	"guest runs.\nQEMU starts it, with the capability postcopy-ram on, by\n"
	"  migrate-incoming \"exec:exec snapfs-bridge DIR\"";

/* Parses the command line; what is left in argv is the folder. */
static int parse(int *argc, char ***argv, GError **error)
{
	g_autoptr(GOptionContext) context = g_option_context_new("DIR");
	g_autoptr(GError) cause = NULL;
	const char *why = NULL;
	int n = 0;

	g_option_context_add_main_entries(context, entries, NULL);
	g_option_context_set_summary(context, summary);
	if (!g_option_context_parse(context, argc, argv, &cause))
		why = cause->message;
	else if (*argc != 2 && !version)
		why = "one folder is wanted";
	else if (bridge.resume && precopy)
		why = "--resume and --precopy: the guest runs already";
	else if (bridge.wait_mount < 0)
		why = "--wait-mount: it is a number of seconds";
	else if (mapped && (bridge.resume || precopy || page_sizes))
		why = "--mapped sends a plain stream, to which the other "
		      "options do not apply";
	else if (g_strcmp0(precopy, "hot") == 0)
		bridge.precopy = PRECOPY_HOT;
	else if (precopy &&
		 (sscanf(precopy, "%d%%%n", &bridge.precopy, &n) != 1 ||
		  n == 0 || precopy[n] || (guint)bridge.precopy > 100))
		return snap_fail(error, EINVAL,
				 "--precopy=%s: it is 0%% to 100%%, or hot",
				 precopy);
	if (!why)
		return 0;
	return snap_fail(error, EINVAL, "%s; see snapfs-bridge --help", why);
}

/* Sets the size of huge pages from "BLOCK=SIZE"; the last '=' counts. */
static int set_page_size(struct bridge *b, char *text, GError **error)
{
	char *equals = strrchr(text, '=');
	uint64_t size = 0;
	int block, r;

	if (!equals)
		return snap_fail(error, EINVAL,
				 "--page-size=%s: it is BLOCK=SIZE", text);
	*equals = '\0';
	block = folder_find_block(b, text, error);
	r = block < 0 ? block : snap_size_parse(equals + 1, &size, error);
	return r < 0 ? r
		     : snap_postcopy_set_page_size(b->post, (guint)block, size,
						   error);
}

static int run(struct bridge *b, const char *path, char **ret_said,
	       GError **error)
{
	int r = folder_open(b, path, error);

	for (char **text = page_sizes; r == 0 && text && *text; text++)
		r = set_page_size(b, *text, error);
	if (r == 0)
		r = wire_open(b, unix_path, error);
	if (r == 0)
		r = mapped ? bridge_send_plain(b, mapped, error)
			   : bridge_serve(b, ret_said, error);
	if (r < 0 && b->bytes == 0 && !unix_path)
		wire_refuse();
	return r;
}

static void print_version(void)
{
	snap_library *const libraries[] = { NULL };
	g_autofree char *text = snap_version("snapfs-bridge", libraries);

	fputs(text, stdout);
}

int main(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *said = NULL, *size = NULL;
	int status = 2; /* wrong usage */

	bridge.begin = g_get_monotonic_time();
	if (snap_start() < 0)
		return 1;
	if (parse(&argc, &argv, &error) < 0)
		wire_refuse();
	else
		status = !version && run(&bridge, argv[1], &said, &error) < 0;
	size = snap_size_format(bridge.bytes);
	if (error)
		fprintf(stderr, "snapfs-bridge: %s\n", error->message);
	else if (version)
		print_version();
	else if (!quiet)
		fprintf(stderr, "snapfs-bridge: %s%s in %.3f s\n",
			said ? said : "", size,
			(double)(g_get_monotonic_time() - bridge.begin) / 1e6);
	return status;
}
