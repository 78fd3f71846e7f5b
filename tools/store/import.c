/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapfs import: saves a migration stream from a pipe or a file.
 *
 * QEMU may run it at the other end of its pipe. So it prints nothing on
 * standard output, and it exits as soon as the snapshot is on disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/zero.h"
#include "fs/incoming/incoming.h"
#include "tools/cli/log.h"
#include "tools/cli/print.h"
#include "tools/cli/progress.h"
#include "tools/cli/signals.h"
#include "tools/store/holes.h"
#include "tools/store/tree.h"
#include "tools/store/verbs.h"

#define BLOCK (1 * SNAP_MIB)

static char *file_name;
static char *buffer_text;
static char *level_text;
static char *parent_name;
static char *parent_path; /* within the store */
static char *parts_folder;
static int threads;

static const GOptionEntry options[] = {
	{ "file", 'f', 0, G_OPTION_ARG_FILENAME, &file_name,
	  "read FILE instead of standard input", "FILE" },
	{ "parts", 'p', 0, G_OPTION_ARG_FILENAME, &parts_folder,
	  "take the ram and devstate in FOLDER for whole", "FOLDER" },
	{ "parent", 0, 0, G_OPTION_ARG_STRING, &parent_name,
	  "store what differs from the snapshot NAME", "NAME" },
	{ "level", 'l', 0, G_OPTION_ARG_STRING, &level_text,
	  "compression level, 1 to 19, or auto (auto)", "N" },
	{ "threads", 't', 0, G_OPTION_ARG_INT, &threads,
	  "threads that compress (one per processor)", "N" },
	{ "buffer", 'b', 0, G_OPTION_ARG_STRING, &buffer_text,
	  "memory for data in flight, 16m or more (64m)", "SIZE" },
	{ NULL }
};

static int check_options(struct snap_saver_opts *ret_opts, GError **error)
{
	uint64_t buffer = SNAP_SAVER_BUFFER_DEFAULT;
	uint64_t level = SNAP_LEVEL_AUTO;
	g_autoptr(GError) cause = NULL;

	if (buffer_text && snap_size_parse(buffer_text, &buffer, &cause) < 0)
		return snap_usage_error(error, "--buffer: %s", cause->message);
	if (buffer < SNAP_SAVER_BUFFER_MIN || buffer > SNAP_GIB * 1024)
		return snap_usage_error(error, "--buffer=%s: want 16m to 1t",
					buffer_text);
	if (level_text && !snap_level_parse(level_text, &level))
		return snap_usage_error(error,
					"--level=%s: want 1 to %d, or auto",
					level_text, SNAP_LEVEL_MAX);
	if (threads < 0 || threads > 1024)
		return snap_usage_error(error, "--threads=%d: want 0 to 1024",
					threads);
	*ret_opts = (struct snap_saver_opts){
		.buffer = buffer,
		.threads = (guint)threads,
		.level = (int)level,
	};
	return 0;
}

/* ---- where the stream comes from ---- */

struct source {
	int fd;
	int signals;
	const char *name;
	bool is_file;	  /* can be read at any offset */
	off_t base;	  /* offset in the file at which we began */
	uint64_t size;	  /* bytes; 0: not known */
	SnapHoles *holes; /* NULL: no hole is skipped */
	uint8_t *buf;	  /* BLOCK bytes, with those that were read last */
	uint64_t at;	  /* their offset */
	size_t n;	  /* how many they are */
	GByteArray *head; /* what stands before the stream, and its beginning */
	uint64_t head_at; /* its offset */
	uint64_t begin;	  /* where the stream begins */
};

static int open_source(struct source *s, GError **error)
{
	struct stat st;

	s->name = file_name ? file_name : "standard input";
	s->fd = file_name ? snap_open_named(file_name, O_RDONLY, 0)
			  : STDIN_FILENO;
	if (s->fd < 0)
		return snap_fail_errno(error, -s->fd, "%s", s->name);
	if (fstat(s->fd, &st) < 0)
		return snap_fail_errno(error, errno, "%s", s->name);
	if (S_ISDIR(st.st_mode))
		return snap_fail_errno(error, EISDIR, "%s", s->name);
	if (isatty(s->fd))
		return snap_fail(error, EINVAL,
				 "%s is a terminal; pipe a migration stream "
				 "into it, or use --file",
				 s->name);
	s->is_file = S_ISREG(st.st_mode);
	s->base = s->is_file ? lseek(s->fd, 0, SEEK_CUR) : 0;
	if (s->is_file && st.st_size > s->base)
		s->size = (uint64_t)(st.st_size - s->base);
	/* A larger pipe needs fewer reads. If it may not grow, it still works.
	 */
	if (S_ISFIFO(st.st_mode))
		fcntl(s->fd, F_SETPIPE_SZ, (int)BLOCK);
	s->buf = g_malloc(BLOCK);
	s->head = g_byte_array_new();
	return 0;
}

static void close_source(struct source *s)
{
	if (file_name)
		snap_close_fd(&s->fd);
	snap_holes_free(s->holes);
	g_clear_pointer(&s->head, g_byte_array_unref);
	g_free(s->buf);
}

/* Reads the next bytes; of a file, from behind a hole that may be skipped.
 * Returns 1, 0 at the end, or -errno; -EINTR with *ret_signal at a signal. */
static int read_block(struct source *s, int *ret_signal)
{
	uint64_t at = s->at + s->n, end = UINT64_MAX, most;
	ssize_t n;

	if (s->holes)
		at = snap_holes_skip(s->holes, at, &end);
	most = MIN(BLOCK, end - at);
	do {
		*ret_signal = snap_signals_wait(s->signals, s->fd);
		if (*ret_signal)
			return -EINTR;
		n = s->is_file ? pread(s->fd, s->buf, most, s->base + (off_t)at)
			       : read(s->fd, s->buf, most);
	} while (n < 0 && (errno == EINTR || errno == EAGAIN));
	if (n < 0)
		return -errno;
	s->at = at;
	s->n = (size_t)n;
	return n > 0;
}

/* Adds the block that was read to the head, and looks for the beginning of the
 * stream in it. Returns 1, 0 where it may still come, -EOPNOTSUPP, -EPROTO. */
static int look_for_stream(struct source *s, GError **error)
{
	guint had = s->head->len;
	guint from = had - MIN(had, SNAP_SAVE_FIND);
	size_t at;
	int r;

	/* Zeros at the beginning may be many, and are a hole. */
	if (!had && snap_zeros_before(s->buf, s->n) == s->n)
		return 0;
	if (!had)
		s->head_at = s->at;
	g_byte_array_append(s->head, s->buf, (guint)s->n);
	if (!s->head_at && s->head->len >= 4 &&
	    snap_save_begins(s->head->data, 4))
		return 1;
	if (snap_save_find(s->head->data + from, s->head->len - from, &at)) {
		s->begin = s->head_at + from + at;
		return 1;
	}
	r = snap_save_check_header(s->head->data, s->head->len, error);
	if (r == 0 && s->head->len > SNAP_CATALOG_PREAMBLE_MAX)
		r = snap_fail(error, EPROTO,
			      "%s: the magic QEVM, with which a migration "
			      "stream begins, is not in the first %u MiB",
			      s->name, SNAP_CATALOG_PREAMBLE_MAX >> 20);
	return r;
}

/* Reads up to the beginning of the stream. Another program's header may stand
 * before it, or the zeros of QEMU's file:NAME,offset=N. Returns 0, a signal, or
 * -errno. */
static int begin_source(struct source *s, GError **error)
{
	int signal, r, found = 0;

	do {
		r = read_block(s, &signal);
		if (signal)
			return signal;
		if (r < 0)
			return snap_fail_errno(error, -r, "%s", s->name);
		if (r > 0)
			found = look_for_stream(s, error);
	} while (r > 0 && found == 0);
	if (found < 0)
		return found;
	if (!found && !s->at)
		return snap_fail(error, EPROTO, "%s is empty", s->name);
	if (!found)
		return snap_fail(error, EPROTO,
				 s->head->len
					 ? "%s: the magic QEVM, with which "
					   "a migration stream begins, is "
					   "not in its bytes"
					 : "%s holds only zeros",
				 s->name);
	if (s->is_file)
		s->holes = snap_holes_new(s->fd, s->base, s->begin);
	return 0;
}

/* ---- where it goes ---- */

/* Writes the whole source into the save. Returns 0, a signal, or -errno;
 * without a sentence where snap_save_wait() will have one. */
static int pump(struct source *s, SnapSave *save, SnapProgress *progress,
		GError **error)
{
	int signal = 0, r, put;

	put = snap_save_put(save, s->head->data, s->head->len, s->head_at);
	if (put < 0)
		return put;
	g_byte_array_set_size(s->head, 0);
	while ((r = read_block(s, &signal)) > 0) {
		if (snap_save_state(save, NULL) == SNAP_SAVE_DONE)
			return snap_fail(error, EPROTO,
					 "%s: more follows the end of the "
					 "stream, at byte %" G_GUINT64_FORMAT
					 "; the snapshot is saved without it",
					 s->name, s->at);
		put = snap_save_put(save, s->buf, (size_t)s->n, s->at);
		if (put < 0)
			return put;
		snap_progress_show(progress, s->at + s->n, s->size);
	}
	if (signal || r == 0)
		return signal;
	return snap_fail_errno(error, -r, "%s", s->name);
}

/* ---- the verb ---- */

/* Is there a snapshot to be the parent? */
static int check_parent(SnapOpenTree *t, GError **error)
{
	g_autoptr(SnapReader) reader = NULL;
	snap_autofd int fd = -1;
	int r;

	if (!parent_path)
		return 0;
	r = snap_catalog_can_link(t->catalog, error);
	if (r < 0)
		return r;
	fd = snap_place_folder(t->catalog, parent_path, error);
	r = fd < 0 ? fd : snap_catalog_find(fd, &reader, error);
	return snap_fail_prefix(error, r, "--parent=%s", parent_name);
}

/* Saves the source into the existing folder `path`. */
static int save_into(SnapOpenTree *t, struct source *s, const char *path,
		     GError **error)
{
	g_autoptr(SnapProgress) progress = snap_progress_new(path);
	snap_autofd int fd = snap_place_folder(t->catalog, path, error);
	struct snap_save_opts opts = { .folder_fd = fd,
				       .path = path,
				       .begin = s->begin,
				       .preamble_fd = -1,
				       .parent = parent_path };
	g_autoptr(SnapSave) save = NULL;
	g_autoptr(GError) cause = NULL;
	mode_t mask = umask(0);
	int r, ended;

	umask(mask);
	opts.owner = (struct snap_catalog_owner){ .uid = (uid_t)-1,
						  .gid = (gid_t)-1,
						  .mode = 0660 & ~mask };
	r = fd < 0 ? fd : check_parent(t, error);
	if (r < 0)
		return r;
	r = snap_save_new(t->saver, &opts, &save, error);
	if (r < 0)
		return r;
	r = pump(s, save, progress, &cause);
	snap_save_end(save);
	ended = snap_save_wait(save, cause ? NULL : error);
	if (cause) {
		g_propagate_error(error, g_steal_pointer(&cause));
		return r;
	}
	if (ended == -EPROTO || ended == -EOPNOTSUPP)
		snap_fail_prefix(error, ended, "%s", s->name);
	/* If the snapshot is complete, the signal came too late. */
	return ended == 0 ? 0 : r > 0 ? r : ended;
}

static int import(const SnapPlace *place, struct source *s,
		  const struct snap_saver_opts *saver, const char *path,
		  GError **error)
{
	g_autofree char *holder = g_strconcat("snapfs import of ", path, NULL);
	g_autofree char *warning = NULL;
	g_autoptr(SnapOpenTree) t = NULL;
	guint made = 0;
	int r = snap_open_tree_new(place, saver, holder, &t, error);

	if (r < 0)
		return r;
	r = begin_source(s, error);
	if (r == 0)
		r = snap_open_tree_make(t, path, &made, error);
	if (r == 0) {
		r = save_into(t, s, path, error);
		warning = snap_log_take();
		/* After a failure, the error says the same. */
		if (r == 0 && warning)
			snap_print_error("%s", warning);
	}
	if (r != 0)
		snap_open_tree_unmake(t, path, made);
	return r;
}

/* Tells the mount that the parts in the folder are whole, which then has a
 * snapshot: 0, -errno. */
static int set_whole(int folder)
{
	if (fsetxattr(folder, SNAP_PARTS_ATTRIBUTE, SNAP_PARTS_WHOLE,
		      strlen(SNAP_PARTS_WHOLE), 0) < 0)
		return -errno;
	return fgetxattr(folder, "user.snapfs.physical", NULL, 0) < 0 ? -errno
								      : 0;
}

static int import_parts(GError **error)
{
	snap_autofd int folder =
		snap_open_named(parts_folder, O_RDONLY | O_DIRECTORY, 0);
	g_autoptr(SnapPlace) place = NULL;
	int r;

	if (folder < 0)
		return snap_fail_errno(error, -folder, "%s", parts_folder);
	r = snap_place_find(parts_folder, &place, error);
	if (r < 0)
		return r;
	if (!place->mount)
		return snap_fail(error, EINVAL,
				 "%s is not in a mount; mount the store first",
				 parts_folder);
	r = set_whole(folder);
	switch (r) {
	case 0:
		return 0;
	case -ENODATA:
		return snap_fail(error, ENODATA,
				 "%s: the mount has made no snapshot of it (an "
				 "older mount.snapfs?)",
				 parts_folder);
	case -ENOENT:
		return snap_fail(error, ENOENT,
				 "%s: no ram, devstate or preamble lies there",
				 parts_folder);
	case -EBUSY:
		return snap_fail(error, EBUSY,
				 "%s: a process has a part open to write it",
				 parts_folder);
	case -EPROTO:
		return snap_fail(error, EPROTO,
				 "%s: its ram and devstate are no snapshot; "
				 "user.snapfs.error of the folder, or the "
				 "mount's log, says why",
				 parts_folder);
	default:
		return snap_fail_errno(error, -r, "%s", parts_folder);
	}
}

static int run(char **arguments, guint n, GError **error)
{
	g_autoptr(SnapPlace) place = NULL;
	g_autofree char *path = NULL;
	struct snap_saver_opts saver;
	struct source source = { .fd = -1 };
	int r = check_options(&saver, error);

	if (r == 0 && n != (parts_folder ? 0 : 2))
		return snap_usage_error(
			error, parts_folder
				       ? "--parts takes no STORE and no NAME"
				       : "STORE and NAME are missing");
	if (r == 0 && parts_folder)
		return import_parts(error);
	if (r == 0)
		r = snap_place_find(arguments[0], &place, error);
	if (r < 0)
		return r;
	path = snap_place_path(place, arguments[1]);
	if (parent_name)
		parent_path = snap_place_path(place, parent_name);
	if (!*path)
		return snap_fail(error, EINVAL, "the snapshot needs a name");
	r = open_source(&source, error);
	/* Not before: opening a FIFO may wait, and a signal must end that. */
	source.signals = snap_signals_hold();
	if (r == 0)
		r = import(place, &source, &saver, path, error);
	close_source(&source);
	return r <= 0 ? r
		      : snap_signals_exit(
				r, "import: interrupted, nothing was saved",
				error);
}

const struct snap_verb snap_verb_import = {
	.name = "import",
	.arguments = "STORE NAME | --parts FOLDER",
	.max_arguments = 2,
	.summary = "save a migration stream as a snapshot",
	.help = "Reads a migration stream from standard input and saves it as "
		"the snapshot NAME,\nwhich it replaces. The stream may be "
		"classic or mapped-ram, with or without a\nheader of "
		"another program, such as libvirt, before it. QEMU writes it "
		"by:\n"
		"  migrate \"exec:exec snapfs import STORE NAME\"\n"
		"The store must not be mounted. If it is, write to the mount.\n"
		"With --parts, the ram and devstate that lie in FOLDER of a "
		"mount become its\nsnapshot, although the mount does not see "
		"that they are whole.",
	.options = options,
	.run = run,
};
