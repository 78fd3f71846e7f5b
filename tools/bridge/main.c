/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapfs-bridge: the command line. */
#include "tools/bridge/bridge.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/base/error.h"
#include "format/base/units.h"
#include "tools/bridge/wire.h"

#define EXIT_USAGE 2

static const char usage[] =
	"usage: snapfs-bridge [OPTION]... DIR\n"
	"\n"
	"Gives the memory of the snapshot in the folder DIR to QEMU, which runs\n"
	"the guest at once. Given to QEMU as\n"
	"  migrate-incoming \"exec:exec snapfs-bridge DIR\"\n"
	"with the capability postcopy-ram on; or, where QEMU listens on a socket,\n"
	"run by hand with -u.\n"
	"\n"
	"Options:\n"
	"  -u, --unix=PATH           connect to the unix socket PATH\n"
	"      --resume              go on where another bridge was interrupted\n"
	"      --precopy=N%|hot      send N percent of memory, or the pages that\n"
	"                            DIR/hot names, before the guest runs\n"
	"      --mapped=BLOCK        QEMU maps this RAM block from DIR/ram: send\n"
	"                            a plain stream without it, no postcopy\n"
	"      --page-size=BLOCK=SIZE\n"
	"                            this RAM block lies in huge pages (2m)\n"
	"  -q, --quiet               no line at the end\n"
	"  -h, --help                print this and exit\n"
	"  -V, --version             print the version and exit\n";

enum { OPT_RESUME = 256, OPT_PRECOPY, OPT_MAPPED, OPT_PAGE_SIZE };

static const struct option options[] = {
	{ "unix", required_argument, NULL, 'u' },
	{ "resume", no_argument, NULL, OPT_RESUME },
	{ "precopy", required_argument, NULL, OPT_PRECOPY },
	{ "mapped", required_argument, NULL, OPT_MAPPED },
	{ "page-size", required_argument, NULL, OPT_PAGE_SIZE },
	{ "quiet", no_argument, NULL, 'q' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ 0 },
};

/* "hot", or a number of percent. */
static int parse_precopy(const char *text, int *ret, GError **error)
{
	char *end;
	long percent;

	if (strcmp(text, "hot") == 0) {
		*ret = PRECOPY_HOT;
		return 0;
	}
	percent = strtol(text, &end, 10);
	if (end == text || strcmp(end, "%") != 0 || percent < 0 ||
	    percent > 100)
		return snap_fail(error, EINVAL,
				 "--precopy=%s: it is 0%% to 100%%, or hot",
				 text);
	*ret = (int)percent;
	return 0;
}

/* Takes one option; -EINVAL where it is wrong. `ret_exit` is set for those
 * that end the program. */
static int take_option(struct bridge_opts *o, int option, bool *ret_exit,
		       GError **error)
{
	switch (option) {
	case 'u':
		o->socket = optarg;
		return 0;
	case 'q':
		o->quiet = true;
		return 0;
	case OPT_RESUME:
		o->resume = true;
		return 0;
	case OPT_PRECOPY:
		return parse_precopy(optarg, &o->precopy, error);
	case OPT_MAPPED:
		g_ptr_array_add(o->mapped, optarg);
		return 0;
	case OPT_PAGE_SIZE:
		g_ptr_array_add(o->page_sizes, optarg);
		return 0;
	case 'h':
		fputs(usage, stdout);
		*ret_exit = true;
		return 0;
	case 'V':
		puts("snapfs-bridge " SNAPFS_VERSION);
		*ret_exit = true;
		return 0;
	default:
		return snap_fail(error, EINVAL, "see snapfs-bridge --help");
	}
}

/* Tells the sizes of huge pages: BLOCK=SIZE, the last '=' counts. */
static int set_page_sizes(const struct bridge_opts *o, Folder *f,
			  GError **error)
{
	for (guint i = 0; i < o->page_sizes->len; i++) {
		const char *text = o->page_sizes->pdata[i];
		const char *equals = strrchr(text, '=');
		g_autofree char *name = NULL;
		uint64_t size;
		int block, r;

		if (!equals)
			return snap_fail(error, EINVAL,
					 "--page-size=%s: it is BLOCK=SIZE",
					 text);
		name = g_strndup(text, (gsize)(equals - text));
		block = folder_find_block(f, name, error);
		if (block < 0)
			return block;
		r = snap_size_parse(equals + 1, &size, error);
		if (r == 0)
			r = snap_postcopy_set_page_size(f->post, (guint)block,
							size, error);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Options that do not go together. */
static int check_options(const struct bridge_opts *o, int words, GError **error)
{
	if (words != 1)
		return snap_fail(error, EINVAL,
				 "one folder is wanted; see --help");
	if (o->resume && o->precopy != PRECOPY_NONE)
		return snap_fail(error, EINVAL,
				 "--resume and --precopy: the guest runs "
				 "already");
	if (o->mapped->len &&
	    (o->resume || o->precopy != PRECOPY_NONE || o->page_sizes->len))
		return snap_fail(error, EINVAL,
				 "--mapped sends a plain stream, to which the "
				 "other options do not apply");
	return 0;
}

/* Opens the snapshot; where it is none, QEMU is to know. */
static int open_snapshot(const struct bridge_opts *o, const char *path,
			 Folder **ret_folder, GError **error)
{
	g_autoptr(Folder) f = NULL;
	int r = folder_open(path, &f, error);

	if (r == 0)
		r = set_page_sizes(o, f, error);
	if (r < 0) {
		if (!o->socket)
			wire_refuse();
		return r;
	}
	*ret_folder = g_steal_pointer(&f);
	return 0;
}

static int run(const struct bridge_opts *o, const char *path, GError **error)
{
	Folder *f = NULL;
	int r = open_snapshot(o, path, &f, error);

	if (r < 0)
		return r;
	/* Readers may still use the folder when this ends; it is kept. */
	if (!o->mapped->len)
		return bridge_serve(o, f, error);
	r = bridge_send_plain(o, f, error);
	folder_free(f);
	return r;
}

static int complain(const GError *error, int status)
{
	fprintf(stderr, "snapfs-bridge: %s\n", error->message);
	return status;
}

int main(int argc, char **argv)
{
	g_autoptr(GPtrArray) mapped = g_ptr_array_new();
	g_autoptr(GPtrArray) page_sizes = g_ptr_array_new();
	struct bridge_opts o = { .precopy = PRECOPY_NONE,
				 .mapped = mapped,
				 .page_sizes = page_sizes };
	g_autoptr(GError) error = NULL;
	bool leave = false;
	int option, r = 0;

	while (r == 0 && !leave &&
	       (option = getopt_long(argc, argv, "u:qhV", options, NULL)) >= 0)
		r = take_option(&o, option, &leave, &error);
	if (leave)
		return EXIT_SUCCESS;
	if (r == 0)
		r = check_options(&o, argc - optind, &error);
	if (r < 0) {
		wire_refuse();
		return complain(error, EXIT_USAGE);
	}
	r = run(&o, argv[optind], &error);
	return r < 0 ? complain(error, EXIT_FAILURE) : EXIT_SUCCESS;
}
