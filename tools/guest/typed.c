/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The path is walked name by name. Each is opened once, a link too, and what is
 * looked at is what was opened: nobody can exchange it in between.
 */
#include "tools/guest/typed.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "tools/guest/trust.h"

/* As many as the kernel follows: Linux, include/linux/namei.h, MAXSYMLINKS. */
#define LINKS_MAX 40

struct walk {
	int at;	    /* what was reached */
	char *rest; /* of the path */
	guint links;
};

/* Begins at the root for an absolute path, or else stays. */
static int begin(struct walk *w)
{
	int fd;

	if (*w->rest != '/')
		return 0;
	fd = snap_open_named("/", O_PATH | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	snap_close_fd(&w->at);
	w->at = fd;
	return 0;
}

/* Puts what a link says before the rest of the path. */
static int follow(struct walk *w, int link, GError **error)
{
	char text[PATH_MAX], proc[SNAP_PROC_PATH];
	g_autofree char *name = NULL, *rest = NULL;
	ssize_t n = readlinkat(link, "", text, sizeof(text) - 1);
	int r;

	if (n < 0)
		return -errno;
	text[n] = '\0';
	if (++w->links > LINKS_MAX)
		return -ELOOP;
	snap_proc_path(proc, link);
	name = g_file_read_link(proc, NULL);
	r = snap_trust_link(link, w->at, name ? name : text, error);
	if (r < 0)
		return r;
	rest = w->rest;
	w->rest = g_strconcat(text, "/", rest, NULL);
	return begin(w);
}

static int step(struct walk *w, const char *name, GError **error)
{
	snap_autofd int next =
		!strcmp(name, "..") ? snap_open_above(w->at, O_PATH)
				    : snap_open_below(w->at, name, O_PATH, 0);
	struct stat st;

	if (next < 0)
		return next;
	if (fstat(next, &st) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode))
		return follow(w, next, error);
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	snap_close_fd(&w->at);
	w->at = snap_steal_fd(&next);
	return 0;
}

/* Takes the next name off the rest of the path; NULL at its end. */
static char *take_name(struct walk *w)
{
	const char *from = w->rest + strspn(w->rest, "/");
	size_t n = strcspn(from, "/");
	char *name = n ? g_strndup(from, n) : NULL;

	memmove(w->rest, from + n, strlen(from + n) + 1);
	return name;
}

static int walk(struct walk *w, GError **error)
{
	int r = *w->rest ? begin(w) : -ENOENT;

	while (r == 0) {
		g_autofree char *name = take_name(w);

		if (!name)
			break;
		r = step(w, name, error);
	}
	return r;
}

int snap_typed_open(const char *path, GError **error)
{
	struct walk w = { .rest = g_strdup(path) };
	g_autoptr(GError) cause = NULL;
	int r = w.at = snap_open_named(".", O_PATH | O_DIRECTORY, 0);

	if (r >= 0)
		r = walk(&w, &cause);
	g_free(w.rest);
	if (r == 0)
		return w.at;
	if (w.at >= 0)
		close(w.at);
	if (!cause)
		return snap_fail_errno(error, -r, "%s", path);
	g_propagate_error(error, g_steal_pointer(&cause));
	return r;
}
