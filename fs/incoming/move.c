/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An ordinary file is moved onto the name of a stream, as programs do that
 * write a file elsewhere and put it in its place at once. If it holds a stream,
 * a save reads the file, which is removed when the snapshot is on disk. Only
 * then the move is answered. If not, it is the head of a stream.
 */
#include "fs/incoming/incoming-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "format/base/log.h"

struct move {
	SnapIncomingTable *table;
	SnapNode *from; /* references */
	SnapNode *to;
	char *name; /* in `from` */
	guint to_name;
	struct stat st;	  /* of the file */
	struct stat head; /* that it replaces; st_ino 0: none */
	snap_handle_answer answer;
	void *data;
};

static void move_free(struct move *m)
{
	snap_node_unref(m->from, 1);
	snap_node_unref(m->to, 1);
	g_free(m->name);
	g_free(m);
}

/* The file is a snapshot now, which gets its times. */
static void finish(struct move *m)
{
	snap_incoming_set_file(m->to, SNAP_CATALOG_SNAPSHOT, (uid_t)-1,
			       SNAP_SET_ATIME | SNAP_SET_MTIME, &m->st);
	snap_remove_file(m->from, m->name, &m->st);
	snap_remove_file(m->to, snap_incoming_of_number(m->to_name), &m->head);
	snap_folder_changed(m->to);
	snap_parts_replaced(m->table, m->to, true);
}

/* The save is over. Runs in its thread. */
static void on_over(void *data, SnapSave *save, bool saved)
{
	struct move *m = data;
	int r = snap_save_wait(save, NULL);

	if (r == 0)
		finish(m);
	snap_incoming_end_save(m->table, save);
	m->answer(m->data, r);
	move_free(m);
}

static int begin_save(struct move *m, int fd, uint64_t begin,
		      const struct snap_caller *caller, GError **error)
{
	g_autofree char *path = snap_folder_path(m->to, NULL);
	snap_autofd int at = snap_store_open(m->to);
	snap_autofd int folder_fd = at < 0 ? at : snap_open_folder(at);
	SnapIncomingTable *table = m->table; /* `m` is gone when it is over */
	bool privileged = snap_plain_privileged(table->opts.plain);
	struct snap_save_opts opts = {
		.folder_fd = folder_fd,
		.path = path,
		.name = snap_incoming_of_number(m->to_name),
		.owner = { privileged ? m->st.st_uid : (uid_t)-1,
			   privileged ? m->st.st_gid : (gid_t)-1,
			   m->st.st_mode & 0777 },
		.uid = caller->uid,
		.begin = begin,
		.preamble_fd = fd,
		.whole = true,
		.over = on_over,
		.over_data = m,
	};
	g_autoptr(SnapSave) save = NULL;
	int r;

	if (folder_fd < 0) {
		close(fd);
		return snap_fail_errno(error, -folder_fd, "its folder");
	}
	r = snap_save_new(table->opts.saver, &opts, &save, error);
	if (r == 0 && snap_incoming_begin_save(table, save) < 0)
		snap_save_abort(save,
				"the mount was ended while it was being saved");
	return r;
}

/* The file holds no stream: it gets the name. */
static int move_head(const struct move *m, GError **error)
{
	const char *name = snap_incoming_of_number(m->to_name);
	snap_autofd int from = snap_store_open(m->from);
	snap_autofd int to = snap_store_open(m->to);

	if (m->st.st_size > (off_t)SNAP_CATALOG_PREAMBLE_MAX)
		return snap_fail(error, EPROTO,
				 "no migration stream begins in the first %u "
				 "MiB of the file",
				 SNAP_CATALOG_PREAMBLE_MAX >> 20);
	if (renameat(from, m->name, to, name) < 0)
		return -errno;
	snap_folder_changed(m->to);
	return 0;
}

/* Moves the file: 0, -errno; 1 when a save answers. */
static int move(struct move *m, const struct snap_caller *caller,
		GError **error)
{
	snap_autofd int from = snap_store_open(m->from);
	int fd = snap_open_regular(from, m->name, &m->st);
	uint64_t begin;
	int r = fd < 0 ? fd : snap_save_find_in(fd, &begin);

	if (r > 0 && m->from != m->to) {
		close(fd);
		return -EXDEV;
	}
	if (r > 0) {
		r = begin_save(m, fd, begin, caller, error);
		return r < 0 ? r : 1;
	}
	snap_close_fd(&fd);
	return r < 0 ? r : move_head(m, error);
}

void snap_incoming_move(SnapIncomingTable *table, SnapNode *folder,
			const char *name, SnapNode *to_folder,
			const char *to_name, const struct snap_caller *caller,
			snap_handle_answer answer, void *data)
{
	g_autofree char *path = snap_folder_path(to_folder, to_name);
	struct move *m = g_new0(struct move, 1);
	g_autoptr(GError) error = NULL;
	int r;

	m->table = table;
	m->from = snap_node_ref(folder);
	m->to = snap_node_ref(to_folder);
	m->name = g_strdup(name);
	m->to_name = (guint)snap_incoming_number(to_name);
	m->answer = answer;
	m->data = data;
	if (!snap_head_stat(to_folder, to_name, &m->head))
		m->head.st_ino = 0;
	r = move(m, caller, &error);
	if (r > 0)
		return;
	move_free(m);
	if (error)
		snap_log(SNAP_LOG_WARNING, "%s: %s", path, error->message);
	answer(data, r);
}
