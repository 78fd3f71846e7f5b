/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapfs export: writes a file of a snapshot, as the mount shows it, to a pipe
 * or a file.
 *
 * Holes stay holes where the output can have them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "tools/cli/log.h"
#include "tools/cli/print.h"
#include "tools/cli/progress.h"
#include "tools/cli/signals.h"
#include "tools/store/output.h"
#include "tools/store/tree.h"
#include "tools/store/verbs.h"

#define BLOCK (1 * SNAP_MIB)

static const char *const forms[] = { "stream",	 "mapped",   "ram",
				     "devstate", "preamble", NULL };

static char *form_name;
static char *output_name;

static const GOptionEntry options[] = {
	{ "form", 'f', 0, G_OPTION_ARG_STRING, &form_name,
	  "stream, mapped, ram, devstate or preamble (stream)", "FORM" },
	{ "output", 'o', 0, G_OPTION_ARG_FILENAME, &output_name,
	  "write FILE instead of standard output", "FILE" },
	{ NULL }
};

static int open_output(struct snap_output *o, GError **error)
{
	if (!output_name && isatty(STDOUT_FILENO))
		return snap_fail(error, EINVAL,
				 "standard output is a terminal; use a pipe, "
				 "or --output");
	return snap_output_open(o, output_name, 0660, error);
}

/* ---- the view ---- */

struct view {
	SnapHandle *handle;
	const char *title;
	uint64_t size;
	SnapProgress *progress;
	int signals;
};

/* Finds out what is wrong with the snapshot, if anything is. The view itself
 * would only give an errno. */
static int check_snapshot(SnapOpenTree *t, const char *path, const char *title,
			  const char *form, GError **error)
{
	snap_autofd int fd = snap_place_folder(t->catalog, path, error);
	g_autoptr(SnapReader) reader = NULL;
	const struct snap_meta *meta;
	int r;

	if (fd < 0)
		return fd;
	r = snap_catalog_find_whole(t->catalog, fd, &reader, error);
	if (r == -ENOENT) {
		g_clear_error(error);
		return snap_place_no_snapshot(t->catalog, path, error);
	}
	if (r < 0)
		return snap_fail_prefix(error, r, "%s", title);
	meta = snap_reader_meta(reader);
	if (meta->form == SNAP_FORM_VERBATIM && strcmp(form, "stream"))
		return snap_fail(error, ENOENT,
				 "%s has no %s; it was saved verbatim: %s",
				 title, form, meta->why);
	/* Memory outside of the snapshot must not be read as zeros. */
	for (guint i = 0; i < meta->n_blocks; i++)
		if (meta->blocks[i].ignored &&
		    (!strcmp(form, "ram") || !strcmp(form, "mapped")))
			return snap_fail(error, ENOENT,
					 "%s has no %s: QEMU left the memory "
					 "of its block %s out of the stream",
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
	r = snap_tree_lookup(t->tree, folder, form, &t->caller, &node, &attr);
	snap_node_unref(folder, 1);
	if (r == 0) {
		r = snap_tree_open(t->tree, node, O_RDONLY, &t->caller,
				   &ret_view->handle);
		snap_node_unref(node, 1);
	}
	if (r < 0)
		return snap_fail_errno(error, -r, "%s/%s", ret_view->title,
				       form);
	ret_view->size = (uint64_t)attr.st.st_size;
	return 0;
}

static int read_failed(struct view *v, int n, uint64_t at, GError **error)
{
	g_autofree char *logged = snap_log_take();
	const char *why = n < 0 ? g_strerror(-n) : "it ends too early";

	return snap_fail(error, n < 0 ? -n : EBADMSG,
			 "%s%s%s (at byte %" G_GUINT64_FORMAT " of the output)",
			 logged ? logged : v->title, logged ? "" : ": ",
			 logged ? "" : why, at);
}

/* Copies the bytes [at, end). Returns 0, a signal, or -errno. */
static int copy_data(struct view *v, struct snap_output *o, uint64_t at,
		     uint64_t end, GError **error)
{
	g_autoptr(SnapVec) vec = snap_vec_new();

	while (at < end) {
		ssize_t n = snap_handle_read(v->handle, vec,
					     MIN(BLOCK, end - at), at);
		int r = snap_signals_take(v->signals);

		if (r > 0)
			return r;
		if (n <= 0)
			return read_failed(v, (int)n, at, error);
		r = snap_vec_write(vec, o->fd);
		if (r < 0)
			return snap_fail_errno(error, -r, "%s", o->name);
		at += (uint64_t)n;
		snap_progress_show(v->progress, at, v->size);
	}
	return 0;
}

/* Finds the next run of data at or after `at`. */
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

/* Copies data and skips holes. */
static int copy_sparse(struct view *v, struct snap_output *o, GError **error)
{
	off_t base = lseek(o->fd, 0, SEEK_CUR);
	uint64_t at = 0;

	while (at < v->size) {
		uint64_t begin = 0, end = 0;
		int r = next_data(v, at, &begin, &end, error);

		if (r == 0 && lseek(o->fd, base + (off_t)begin, SEEK_SET) < 0)
			r = snap_fail_errno(error, errno, "%s", o->name);
		if (r == 0)
			r = copy_data(v, o, begin, end, error);
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
	g_autofree char *shown = g_strconcat(title, "/", form, NULL);
	g_autoptr(SnapProgress) progress = snap_progress_new(shown);
	struct view v = { .title = title,
			  .progress = progress,
			  .signals = signals };
	struct snap_output o = SNAP_OUTPUT_NONE;
	int r = open_view(t, path, form, &v, error);

	if (r < 0)
		return r;
	r = open_output(&o, error);
	if (r == 0)
		r = o.sparse ? copy_sparse(&v, &o, error)
			     : copy_data(&v, &o, 0, v.size, error);
	if (r == 0)
		r = snap_output_finish(&o, error);
	snap_output_close(&o);
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

	if (!g_strv_contains(forms, form))
		return snap_usage_error(
			error,
			"--form=%s: want stream, mapped, ram, devstate or preamble",
			form);
	/* A signal must not leave the temporary file. */
	if (snap_output_is_file(output_name))
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
		/* The reader has closed the pipe: it has enough. */
		g_clear_error(error);
		return SNAP_EXIT_FAILED;
	}
	return r <= 0 ? r : snap_signals_exit(r, "export: interrupted", error);
}

const struct snap_verb snap_verb_export = {
	.name = "export",
	.arguments = "STORE [NAME]",
	.min_arguments = 1,
	.max_arguments = 2,
	.summary = "write a snapshot, or a part of it, to a file or a pipe",
	.help = "Writes a snapshot as the mount would show it: the migration "
		"stream, a mapped-ram\nfile, the flat RAM, or the stream "
		"without its pages. QEMU reads the stream by:\n"
		"  migrate-incoming \"exec:exec snapfs export STORE NAME\"\n"
		"In a file, zero pages become holes.",
	.options = options,
	.run = run,
};
