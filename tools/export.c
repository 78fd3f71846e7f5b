/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapfs export: a view of a snapshot, as the mount shows it, to a pipe or a
 * file.
 *
 * A file gets its name when it is whole; until then it lies beside it. Holes
 * stay holes where that can be.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "tools/log.h"
#include "tools/print.h"
#include "tools/progress.h"
#include "tools/signals.h"
#include "tools/tree.h"
#include "tools/verb.h"

#define BLOCK (1 * SNAP_MIB)

static const char *const forms[] = { "stream", "mapped", "ram", "devstate",
				     NULL };

static char *form_name;
static char *output_name;

static const GOptionEntry options[] = {
	{ "form", 'f', 0, G_OPTION_ARG_STRING, &form_name,
	  "what to write: stream, mapped, ram or devstate (stream)", "FORM" },
	{ "output", 'o', 0, G_OPTION_ARG_FILENAME, &output_name,
	  "write FILE, not standard output", "FILE" },
	{ NULL }
};

/* ---- where it goes ---- */

/* A new file is made; anything else that has the name is written itself. */
static bool to_new_file(void)
{
	struct stat st;

	return output_name &&
	       (stat(output_name, &st) < 0 || S_ISREG(st.st_mode));
}

struct output {
	int fd;
	const char *name;
	char *temporary; /* to be renamed to `name`; NULL: written in place */
	bool sparse;	 /* holes may be stepped over */
};

/* Holes can be stepped over where nothing stands: at the end of a file. */
static bool can_be_sparse(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	struct stat st;

	return flags >= 0 && !(flags & O_APPEND) && fstat(fd, &st) == 0 &&
	       S_ISREG(st.st_mode) && lseek(fd, 0, SEEK_CUR) == st.st_size;
}

static int open_output(struct output *o, GError **error)
{
	mode_t mask = umask(0);

	umask(mask);
	o->name = output_name ? output_name : "standard output";
	if (!output_name) {
		o->fd = STDOUT_FILENO;
		if (isatty(o->fd))
			return snap_fail(error, EINVAL,
					 "standard output is a terminal; want "
					 "a pipe, or --output");
	} else if (!to_new_file()) {
		o->fd = open(output_name, O_WRONLY | O_CLOEXEC);
	} else {
		o->temporary = g_strconcat(output_name, ".XXXXXX", NULL);
		o->fd = g_mkstemp_full(o->temporary, O_WRONLY | O_CLOEXEC,
				       (int)(0660 & ~mask));
		if (o->fd < 0)
			g_clear_pointer(&o->temporary, g_free);
	}
	if (o->fd < 0)
		return snap_fail_errno(error, errno, "%s", o->name);
	o->sparse = can_be_sparse(o->fd);
	return 0;
}

/* Gives the file its name: on disk before, so that there is never less of it.
 */
static int finish_output(struct output *o, GError **error)
{
	if (!o->temporary)
		return 0;
	if (fdatasync(o->fd) < 0 || rename(o->temporary, o->name) < 0)
		return snap_fail_errno(error, errno, "%s", o->name);
	g_clear_pointer(&o->temporary, g_free);
	return 0;
}

static void close_output(struct output *o)
{
	if (o->temporary)
		unlink(o->temporary);
	g_free(o->temporary);
	if (o->fd >= 0 && o->fd != STDOUT_FILENO)
		close(o->fd);
}

static int write_all(struct output *o, const uint8_t *data, size_t size,
		     GError **error)
{
	while (size) {
		ssize_t n = write(o->fd, data, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return snap_fail_errno(error, errno, "%s", o->name);
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

/* ---- the view ---- */

struct view {
	SnapHandle *handle;
	const char *title;
	uint64_t size;
};

/* Opens the snapshot to learn what is wrong with it, if something is: the view
 * only has an errno. */
static int check_snapshot(SnapOpenTree *t, const char *path, const char *title,
			  const char *form, GError **error)
{
	snap_autofd int fd = snap_place_folder(t->catalog, path, error);
	g_autoptr(SnapReader) reader = NULL;
	const struct snap_meta *meta;
	int r;

	if (fd < 0)
		return fd;
	r = snap_catalog_find(fd, &reader, error);
	if (r == -ENOENT) {
		g_clear_error(error);
		return snap_place_none(t->catalog, path, error);
	}
	if (r < 0)
		return snap_fail_prefix(error, r, "%s", title);
	meta = snap_reader_meta(reader);
	if (meta->form == SNAP_FORM_VERBATIM && strcmp(form, "stream"))
		return snap_fail(error, ENOENT,
				 "%s has no %s, it was saved as it came: %s",
				 title, form, meta->why);
	/* Memory that lies elsewhere must not read as zero. */
	for (guint i = 0; i < meta->n_blocks; i++)
		if (meta->blocks[i].ignored &&
		    (!strcmp(form, "ram") || !strcmp(form, "mapped")))
			return snap_fail(error, ENOENT,
					 "%s has no %s: the memory of its "
					 "block %s lies in a file of the "
					 "guest's own",
					 title, form, meta->blocks[i].name);
	return 0;
}

static int open_view(SnapOpenTree *t, const char *path, const char *form,
		     struct view *ret_view, GError **error)
{
	struct snap_attr attr;
	SnapNode *folder, *node;
	int r = check_snapshot(t, path, ret_view->title, form, error);

	if (r < 0)
		return r;
	r = snap_open_tree_folder(t, path, &folder, error);
	if (r < 0)
		return r;
	r = snap_node_lookup(folder, form, &t->caller, &node, &attr);
	snap_node_unref(folder, 1);
	if (r == 0) {
		r = snap_node_open(node, O_RDONLY, &t->caller,
				   &ret_view->handle);
		snap_node_unref(node, 1);
	}
	if (r < 0)
		return snap_fail_errno(error, -r, "%s/%s", ret_view->title,
				       form);
	ret_view->size = (uint64_t)attr.st.st_size;
	return 0;
}

/* Copies the bytes [at, end): 0, -errno, or the signal that came. */
static int copy_data(struct view *v, struct output *o, uint64_t at,
		     uint64_t end, SnapProgress *progress, int signals,
		     GError **error)
{
	g_autofree uint8_t *buf = g_malloc(BLOCK);

	while (at < end) {
		ssize_t n = snap_handle_read(v->handle, buf,
					     MIN(BLOCK, end - at), at);
		int r = snap_signals_came(signals);

		if (r > 0)
			return r;
		if (n <= 0) {
			g_autofree char *logged = snap_log_take();

			if (!logged)
				logged = g_strdup_printf(
					"%s: %s", v->title,
					n < 0 ? g_strerror((int)-n)
					      : "it ends too early");
			return snap_fail(error, n < 0 ? (int)-n : EBADMSG,
					 "%s (at byte %" G_GUINT64_FORMAT
					 " of what was written)",
					 logged, at);
		}
		r = write_all(o, buf, (size_t)n, error);
		if (r < 0)
			return r;
		at += (uint64_t)n;
		snap_progress_show(progress, at, v->size);
	}
	return 0;
}

/* Where data begins at or after `at`, and where it ends. */
static int next_data(struct view *v, uint64_t at, uint64_t *ret_begin,
		     uint64_t *ret_end, GError **error)
{
	int64_t begin, end;

	begin = snap_handle_seek(v->handle, (int64_t)at, SEEK_DATA);
	if (begin == -ENXIO) {
		*ret_begin = *ret_end = v->size;
		return 0;
	}
	end = begin < 0 ? begin : snap_handle_seek(v->handle, begin, SEEK_HOLE);
	if (end < 0)
		return snap_fail_errno(error, (int)-end, "%s", v->title);
	*ret_begin = (uint64_t)begin;
	*ret_end = (uint64_t)end;
	return 0;
}

/* Copies data and steps over holes. */
static int copy_sparse(struct view *v, struct output *o, SnapProgress *progress,
		       int signals, GError **error)
{
	off_t base = lseek(o->fd, 0, SEEK_CUR);
	uint64_t at = 0;

	while (at < v->size) {
		uint64_t begin = 0, end = 0;
		int r = next_data(v, at, &begin, &end, error);

		if (r == 0 && lseek(o->fd, base + (off_t)begin, SEEK_SET) < 0)
			r = snap_fail_errno(error, errno, "%s", o->name);
		if (r == 0)
			r = copy_data(v, o, begin, end, progress, signals,
				      error);
		if (r != 0)
			return r;
		at = end;
	}
	if (ftruncate(o->fd, base + (off_t)v->size) < 0)
		return snap_fail_errno(error, errno, "%s", o->name);
	return 0;
}

/* ---- the verb ---- */

static int copy(SnapOpenTree *t, const char *path, const char *title,
		const char *form, int signals, GError **error)
{
	g_autoptr(SnapProgress) progress = NULL;
	g_autofree char *shown = g_strconcat(title, "/", form, NULL);
	struct view v = { .title = title };
	struct output o = { .fd = -1 };
	int r = open_view(t, path, form, &v, error);

	if (r < 0)
		return r;
	r = open_output(&o, error);
	progress = snap_progress_new(shown);
	if (r == 0)
		r = o.sparse ? copy_sparse(&v, &o, progress, signals, error)
			     : copy_data(&v, &o, 0, v.size, progress, signals,
					 error);
	if (r == 0)
		r = finish_output(&o, error);
	close_output(&o);
	snap_handle_close(v.handle);
	return r;
}

static int run(char **arguments, guint n, GError **error)
{
	const char *form = form_name ? form_name : "stream";
	g_autofree char *path = NULL, *title = NULL;
	g_autoptr(SnapPlace) place = NULL;
	g_autoptr(SnapOpenTree) t = NULL;
	int signals = -1, r;

	if (!g_strv_contains(forms, form)) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
			    "--form=%s: want stream, mapped, ram or devstate",
			    form);
		return -EINVAL;
	}
	/* Only a file would be left behind half made. */
	if (to_new_file())
		signals = snap_signals_hold();
	r = snap_place_find(arguments[0], &place, error);
	if (r < 0)
		return r;
	r = snap_open_tree_new(place, NULL, NULL, &t, error);
	if (r < 0)
		return r;
	path = snap_place_path(place, n > 1 ? arguments[1] : NULL);
	title = snap_place_title(place, path);
	r = copy(t, path, title, form, signals, error);
	if (r == -EPIPE) {
		/* Whoever read has read enough. */
		g_clear_error(error);
		return SNAP_EXIT_FAILED;
	}
	if (r > 0)
		snap_print_error("export: interrupted");
	return r > 0 ? 128 + r : r;
}

const struct snap_verb snap_verb_export = {
	.name = "export",
	.arguments = "STORE [NAME]",
	.min_arguments = 1,
	.max_arguments = 2,
	.summary = "write a snapshot as a stream, or what is in it",
	.help = "Writes a snapshot as the mount would show it: the migration "
		"stream, which\nQEMU's\n"
		"  migrate-incoming \"exec:exec snapfs export STORE NAME\"\n"
		"reads, the same guest as a mapped-ram file, its flat RAM, "
		"or the stream without\nits pages. Zero pages become holes where "
		"the output is a file.",
	.options = options,
	.run = run,
};
