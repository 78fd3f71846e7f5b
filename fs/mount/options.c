/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line, in the form in which mount(8) calls its helpers:
 *
 *	mount.snapfs STORE DIR [-sfnv] [-N namespace] [-o options] [-t type]
 *
 * One table has all options after -o. --help is made from it too.
 */
#include "fs/mount/options.h"

#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "format/base/error.h"
#include "format/base/units.h"
#include "fs/load/pages.h"
#include "fs/near/near.h"
#include "fs/save/save.h"

/* What an option does. */
enum kind {
	SIZE,	/* stores a size in a uint64_t */
	NUMBER, /* stores a number in a uint64_t */
	EFFORT, /* the same, or SNAP_LEVEL_AUTO for "auto" */
	OCTAL,	/* stores an octal number in a uint64_t */
	TEXT,	/* stores text in a char * */
	LEVEL,	/* sets the level of the log */
	FLAG,	/* sets a bool */
	CLEAR,	/* clears a bool */
	PASS,	/* is passed on to the mount */
	IGNORE, /* has no effect here: for other programs, or always on */
	REFUSE,
};

/* An option after -o. A name that ends in '=' takes a value. A name that ends
 * in '*' matches all options that begin with it. Options without `help` are not
 * listed. */
struct option_row {
	const char *name;
	enum kind kind;
	size_t where;
	uint64_t min, max; /* of numbers; max 0: the machine's memory */
	const char *value; /* the name of the value in --help */
	const char *help;
};

#define AT(field) offsetof(struct snap_mount_opts, field)

static const struct option_row table[] = {
	{ "buffer=", SIZE, AT(buffer), SNAP_SAVER_BUFFER_MIN, 0, "SIZE",
	  "memory for streams being saved, such as 256m (64m)" },
	{ "cache=", SIZE, AT(cache), SNAP_CACHE_MIN, 0, "SIZE",
	  "memory for pages being read (256m)" },
	{ "disk-cache=", TEXT, AT(disk_cache), 0, 0, "DIR",
	  "keep what is read of a far STORE in a folder here" },
	{ "disk-cache-size=", SIZE, AT(disk_cache_size), SNAP_NEAR_SIZE_MIN,
	  INT64_MAX, "SIZE", "the most that it may take there (10g)" },
	{ "threads=", NUMBER, AT(threads), 1, 1024, "N",
	  "threads that compress, and that read ahead (one per CPU)" },
	{ "max_threads=", NUMBER, AT(max_threads), 1, 1024, "N",
	  "threads that serve requests (two per CPU, at least 8)" },
	{ "max_read=", NUMBER, AT(max_read), 4096, 1 << 20, "BYTES",
	  "largest read request of the kernel (1048576)" },
	{ "level=", EFFORT, AT(level), 1, SNAP_LEVEL_MAX, "N",
	  "zstd compression level, 1 to 19, or auto (auto)" },
	{ "increments", FLAG, AT(increments), 0, 0, NULL,
	  "store what differs from an older snapshot" },
	{ "idle=", NUMBER, AT(idle), 0, 31536000, "SECONDS",
	  "end a save into which nobody writes; 0: never (3600)" },
	{ "timeout=", NUMBER, AT(timeout), 0, 31536000, "SECONDS",
	  "fail a save that keeps its writer waiting; 0: never (0)" },
	{ "log=", TEXT, AT(log), 0, 0, "FILE",
	  "append log lines to a file (syslog; with -f, stderr)" },
	{ "loglevel=", LEVEL, AT(log_level), 0, 0, "LEVEL",
	  "error, warning, info or debug (info)" },
	{ "uid=", NUMBER, AT(uid), 0, UINT32_MAX - 1, "N",
	  "show all files as this user's" },
	{ "gid=", NUMBER, AT(gid), 0, UINT32_MAX - 1, "N",
	  "show all files as this group's" },
	{ "umask=", OCTAL, AT(umask), 0, 0777, "MODE",
	  "permission bits to remove from all files, octal" },
	{ "keep_caps", FLAG, AT(keep_caps), 0, 0, NULL,
	  "keep all capabilities" },
	{ "keep_new_privs", FLAG, AT(keep_new_privs), 0, 0, NULL,
	  "do not set no_new_privs" },
	{ "no_landlock", FLAG, AT(no_landlock), 0, 0, NULL,
	  "do not confine the program to the files of STORE" },
	{ "no_seccomp", FLAG, AT(no_seccomp), 0, 0, NULL,
	  "do not confine it to the system calls it needs" },
	{ "ro", FLAG, AT(read_only), 0, 0, NULL,
	  "mount read-only; works beside another mount" },
	{ "rw", CLEAR, AT(read_only), 0, 0, NULL, "mount read-write" },
	{ "allow_other", PASS, 0, 0, 0, NULL, "other users may use the mount" },
	{ "allow_root", PASS, 0, 0, 0, NULL, "root may use the mount" },
	{ "auto_unmount", PASS, 0, 0, 0, NULL,
	  "unmount when the program ends, however it ends" },
	{ "noexec", PASS, 0, 0, 0, NULL,
	  "and nosuid, nodev, noatime, sync, dirsync: as mount(8)" },
	{ "exec", PASS },
	{ "suid", PASS },
	{ "nosuid", PASS },
	{ "dev", PASS },
	{ "nodev", PASS },
	{ "atime", PASS },
	{ "noatime", PASS },
	{ "sync", PASS },
	{ "async", PASS },
	{ "dirsync", PASS },
	{ "context=", PASS },
	{ "fscontext=", PASS },
	{ "defcontext=", PASS },
	{ "rootcontext=", PASS },
	{ "remount", REFUSE },
	{ "bind", REFUSE },
	{ "rbind", REFUSE },
	{ "move", REFUSE },
	{ "default_permissions", IGNORE },
	{ "fsname=", IGNORE },
	{ "subtype=", IGNORE },
	/* As /proc/mounts lists the mount. */
	{ "user_id=", IGNORE },
	{ "group_id=", IGNORE },
	{ "rootmode=", IGNORE },
	{ "blksize=", IGNORE },
	{ "seclabel", IGNORE },
	{ "max_idle_threads=", IGNORE },
	{ "defaults", IGNORE },
	{ "_netdev", IGNORE },
	{ "_rnetdev", IGNORE },
	{ "auto", IGNORE },
	{ "noauto", IGNORE },
	{ "fail", IGNORE },
	{ "nofail", IGNORE },
	{ "user", IGNORE },
	{ "user=", IGNORE },
	{ "users", IGNORE },
	{ "nouser", IGNORE },
	{ "nousers", IGNORE },
	{ "owner", IGNORE },
	{ "noowner", IGNORE },
	{ "group", IGNORE },
	{ "nogroup", IGNORE },
	{ "relatime", IGNORE },
	{ "norelatime", IGNORE },
	{ "strictatime", IGNORE },
	{ "nostrictatime", IGNORE },
	{ "diratime", IGNORE },
	{ "nodiratime", IGNORE },
	{ "lazytime", IGNORE },
	{ "nolazytime", IGNORE },
	{ "iversion", IGNORE },
	{ "noiversion", IGNORE },
	{ "mand", IGNORE },
	{ "nomand", IGNORE },
	{ "silent", IGNORE },
	{ "loud", IGNORE },
	{ "comment=", IGNORE },
	{ "uhelper=", IGNORE },
	{ "helper=", IGNORE },
	{ "x-*", IGNORE },
	{ "X-*", IGNORE },
};

static const struct option long_options[] = {
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

static bool row_matches(const struct option_row *row, const char *option)
{
	size_t length = strlen(row->name);
	char last = row->name[length - 1];

	if (last == '=')
		return !strncmp(option, row->name, length);
	if (last == '*')
		return !strncmp(option, row->name, length - 1);
	return !strcmp(option, row->name);
}

/* ---- values ---- */

/* The largest value of an option for memory, in bytes. */
static uint64_t memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size
				     : UINT64_MAX;
}

static int parse_size(const struct option_row *row, const char *value,
		      uint64_t *to, GError **error)
{
	g_autofree char *min = snap_size_format(row->min);
	uint64_t n;
	int r = snap_size_parse(value, &n, error);

	if (r < 0)
		return snap_fail_prefix(error, r, "-o %s%s", row->name, value);
	if (n < row->min)
		return snap_fail(error, EINVAL, "-o %s%s: the least is %s",
				 row->name, value, min);
	if (n > (row->max ? row->max : memory()))
		return snap_fail(error, EINVAL, "-o %s%s: more than %s",
				 row->name, value,
				 row->max ? "a file can have"
					  : "the memory of this machine");
	*to = n;
	return 0;
}

static int parse_number(const struct option_row *row, const char *value,
			uint64_t *to, GError **error)
{
	bool octal = row->kind == OCTAL;
	guint64 n;

	if (!g_ascii_string_to_unsigned(value, octal ? 8 : 10, row->min,
					row->max, &n, NULL))
		return snap_fail(error, EINVAL,
				 octal ? "-o %s%s: not an octal number from "
					 "%" G_GINT64_MODIFIER
					 "o to %" G_GINT64_MODIFIER "o"
				       : "-o %s%s: not a number from "
					 "%" G_GUINT64_FORMAT
					 " to %" G_GUINT64_FORMAT,
				 row->name, value, row->min, row->max);
	*to = n;
	return 0;
}

static int parse_effort(const struct option_row *row, const char *value,
			uint64_t *to, GError **error)
{
	if (snap_level_parse(value, to))
		return 0;
	return snap_fail(error, EINVAL,
			 "-o %s%s: neither auto nor a number from "
			 "%" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT,
			 row->name, value, row->min, row->max);
}

static int parse_level(const struct option_row *row, const char *value,
		       enum snap_log_level *to, GError **error)
{
	static const char *const names[] = { "error", "warning", "info",
					     "debug", NULL };

	for (guint i = 0; names[i]; i++) {
		if (strcmp(value, names[i]))
			continue;
		*to = (enum snap_log_level)i;
		return 0;
	}
	return snap_fail(error, EINVAL,
			 "-o %s%s: not one of error, warning, info, debug",
			 row->name, value);
}

/* Appends an option to those of the mount. Commas in it do not separate
 * options. */
static void pass(GString *passed, const char *option)
{
	if (passed->len)
		g_string_append_c(passed, ',');
	for (const char *p = option; *p; p++) {
		if (*p == ',' || *p == '\\')
			g_string_append_c(passed, '\\');
		g_string_append_c(passed, *p);
	}
}

static int apply(const struct option_row *row, const char *option,
		 struct snap_mount_opts *opts, GError **error)
{
	const char *value = strchr(option, '=');
	void *to = (char *)opts + row->where;

	value = value ? value + 1 : "";
	switch (row->kind) {
	case SIZE:
		return parse_size(row, value, to, error);
	case NUMBER:
	case OCTAL:
		return parse_number(row, value, to, error);
	case EFFORT:
		return parse_effort(row, value, to, error);
	case LEVEL:
		return parse_level(row, value, to, error);
	case TEXT:
		if (!*value)
			return snap_fail(error, EINVAL, "-o %s: no value",
					 row->name);
		g_free(*(char **)to);
		*(char **)to = g_strdup(value);
		return 0;
	case FLAG:
	case CLEAR:
		*(bool *)to = row->kind == FLAG;
		return 0;
	case PASS:
		pass(opts->passed, option);
		return 0;
	case REFUSE:
		return snap_fail(error, EINVAL,
				 "-o %s: not possible with snapfs; unmount it "
				 "and mount it again",
				 option);
	case IGNORE:
		break;
	}
	return 0;
}

/* ---- the list after -o ---- */

/* Why no row of the table is this option. */
static int refuse_option(const char *option, GError **error)
{
	size_t length = strcspn(option, "=");

	for (guint i = 0; i < G_N_ELEMENTS(table); i++) {
		const char *name = table[i].name;

		if (strncmp(name, option, length))
			continue;
		if (!option[length] && !strcmp(name + length, "="))
			return snap_fail(error, EINVAL, "-o %s: no value",
					 name);
		if (option[length] && !name[length])
			return snap_fail(error, EINVAL,
					 "-o %s: %s takes no value", option,
					 name);
	}
	return snap_fail(error, EINVAL,
			 "-o %s: there is no such option (see --help)", option);
}

static int parse_option(const char *option, struct snap_mount_opts *opts,
			GError **error)
{
	if (!*option)
		return 0;
	for (guint i = 0; i < G_N_ELEMENTS(table); i++)
		if (row_matches(&table[i], option))
			return apply(&table[i], option, opts, error);
	return opts->sloppy ? 0 : refuse_option(option, error);
}

/* Splits a list at its commas. A comma after a backslash or within double
 * quotes belongs to the value. */
static int parse_list(const char *list, struct snap_mount_opts *opts,
		      GError **error)
{
	g_autoptr(GString) option = g_string_new(NULL);
	bool quoted = false;
	int r = 0;

	for (const char *p = list; r == 0; p++) {
		if (!*p || (*p == ',' && !quoted)) {
			r = parse_option(option->str, opts, error);
			g_string_truncate(option, 0);
			if (!*p)
				break;
		} else if (*p == '\\' && p[1]) {
			g_string_append_c(option, *++p);
		} else if (*p == '"') {
			quoted = !quoted;
		} else {
			g_string_append_c(option, *p);
		}
	}
	return r;
}

/* ---- the whole line ---- */

/* The lists after -o are read last, so -s applies wherever it stands. */
static int parse_short(int argc, char **argv, struct snap_mount_opts *opts,
		       GPtrArray *lists, GError **error)
{
	int c;

	opterr = 0;
	optind = 1;
	while ((c = getopt_long(argc, argv, ":fsnvrwhVN:o:t:", long_options,
				NULL)) != -1) {
		switch (c) {
		case 'f':
			opts->foreground = true;
			break;
		case 's':
			opts->sloppy = true;
			break;
		case 'r':
		case 'w':
			opts->read_only = c == 'r';
			break;
		case 'h':
			opts->help = true;
			break;
		case 'V':
			opts->version = true;
			break;
		case 'v':
			opts->log_level = SNAP_LOG_DEBUG;
			break;
		case 'N':
			opts->ns = optarg;
			break;
		case 'o':
			g_ptr_array_add(lists, optarg);
			break;
		case 'n':
		case 't':
			break;
		case ':':
			return snap_fail(error, EINVAL, "-%c: no value",
					 optopt);
		default:
			return snap_fail(error, EINVAL,
					 "%s: there is no such option (see "
					 "--help)",
					 argv[optind - 1]);
		}
	}
	return 0;
}

int snap_options_parse(int argc, char **argv, struct snap_mount_opts *ret_opts,
		       GError **error)
{
	g_autoptr(GPtrArray) lists = g_ptr_array_new();
	int r;

	*ret_opts = (struct snap_mount_opts){
		.buffer = SNAP_SAVER_BUFFER_DEFAULT,
		.cache = SNAP_CACHE_DEFAULT,
		.level = SNAP_LEVEL_AUTO,
		.idle = SNAP_SAVER_IDLE_DEFAULT,
		.uid = UINT64_MAX,
		.gid = UINT64_MAX,
		.log_level = SNAP_LOG_INFO,
		.passed = g_string_new(NULL),
	};
	r = parse_short(argc, argv, ret_opts, lists, error);
	if (r < 0 || ret_opts->help || ret_opts->version)
		return r;
	for (guint i = 0; i < lists->len && r == 0; i++)
		r = parse_list(lists->pdata[i], ret_opts, error);
	if (r < 0)
		return r;
	if (argc - optind != 2)
		return snap_fail(
			error, EINVAL,
			argc - optind < 2
				? "STORE or DIR is missing (see --help)"
				: "too many arguments after STORE and "
				  "DIR (see --help)");
	ret_opts->store = argv[optind];
	ret_opts->point = argv[optind + 1];
	if (ret_opts->disk_cache_size && !ret_opts->disk_cache)
		return snap_fail(error, EINVAL,
				 "-o disk-cache-size=: there is no "
				 "disk-cache=DIR beside it");
	if (!ret_opts->disk_cache_size)
		ret_opts->disk_cache_size = SNAP_NEAR_SIZE_DEFAULT;
	if (ret_opts->read_only)
		pass(ret_opts->passed, "ro");
	return 0;
}

void snap_options_clear(struct snap_mount_opts *opts)
{
	g_free(opts->log);
	g_free(opts->disk_cache);
	g_string_free(opts->passed, TRUE);
}

void snap_options_help(void)
{
	printf("Usage: mount.snapfs STORE DIR [OPTION]...\n"
	       "Shows the snapshots of virtual machines in the folder STORE "
	       "as files in DIR.\n\n"
	       "Options:\n"
	       "  -o LIST        mount options, with commas between them\n"
	       "  -f             stay in the foreground, log to stderr\n"
	       "  -r, -w         as -o ro, -o rw\n"
	       "  -s             ignore unknown mount options\n"
	       "  -v             log more, as -o loglevel=debug\n"
	       "  -N NAMESPACE   mount in this mount namespace\n"
	       "  -n, -t TYPE    accepted for mount(8) and ignored\n"
	       "  -h, --help     show this and exit\n"
	       "  -V, --version  show the version and exit\n\n"
	       "Mount options (defaults):\n");
	for (guint i = 0; i < G_N_ELEMENTS(table); i++) {
		g_autofree char *name = NULL;

		if (!table[i].help)
			continue;
		name = g_strconcat(table[i].name, table[i].value, NULL);
		printf("  %-16s  %s\n", name, table[i].help);
	}
	printf("\nOther options of mount(8) and fstab(5) are accepted with "
	       "their usual meaning.\nSee mount.snapfs(8).\n");
}
