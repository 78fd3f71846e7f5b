/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parts of a snapshot that are copied into a folder: `ram`, `devstate` and
 * `preamble`. Each is an ordinary file of the store until the first two are
 * whole. Then a save makes a snapshot of them, and the close of the last one
 * waits for it.
 *
 * A part is open while a process has it open to write and has not closed it
 * since it wrote. (A shell that duplicates a descriptor closes one of the two
 * before it writes.) The parts are considered when none is open. While they are
 * considered, nobody can write them.
 *
 * A snapshot that arrives meanwhile replaces `ram` and `devstate`. A `preamble`
 * that is copied in after the snapshot becomes its preamble, if it has none.
 */
#include "fs/incoming/parts-internal.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "format/base/log.h"

static bool has_writer_locked(const struct snap_parts *p)
{
	for (GList *l = p->handles.head; l; l = l->next)
		if (!((struct snap_part_handle *)l->data)->closed)
			return true;
	return false;
}

static bool is_open_locked(const struct snap_parts *p)
{
	return p->holds || has_writer_locked(p);
}

static void answer_all(GArray *closings, int result)
{
	for (guint i = 0; i < closings->len; i++) {
		const struct snap_closing *c =
			&g_array_index(closings, struct snap_closing, i);

		c->answer(c->data, result);
	}
	g_array_unref(closings);
}

/* ---- a snapshot is there ---- */

static bool has_snapshot(SnapNode *folder)
{
	snap_autofd int at = snap_store_open(folder);
	struct stat st;

	return fstatat(at, SNAP_CATALOG_SNAPSHOT, &st, AT_SYMLINK_NOFOLLOW) ==
	       0;
}

/* Ends writing to a part that is gone: the bytes would be lost. */
static void end_writing(struct snap_parts *p, enum snap_part part)
{
	SNAP_LOCKED(&p->table->lock);

	for (GList *l = p->handles.head; l; l = l->next) {
		struct snap_part_handle *h = l->data;

		h->replaced = h->replaced || h->part == part;
	}
}

/* Removes the name of a part: false where that fails. */
static bool remove_name(struct snap_parts *p, enum snap_part part)
{
	snap_autofd int at = snap_store_open(p->folder);

	return unlinkat(at, snap_part_names[part], 0) == 0;
}

/* Removes a part that a snapshot has replaced. */
static void remove_replaced(struct snap_parts *p, enum snap_part part)
{
	g_autofree char *path =
		snap_folder_path(p->folder, snap_part_names[part]);

	if (!remove_name(p, part))
		return;
	end_writing(p, part);
	snap_log(SNAP_LOG_WARNING,
		 "%s: removed: the snapshot that was saved here replaces it",
		 path);
}

/* Tells why no snapshot is made of the parts, in the log and in the folder's
 * note; once. */
static void tell_doubt(struct snap_parts *p, int folder_fd, const char *why)
{
	g_autofree char *path = snap_folder_path(p->folder, NULL);
	g_autofree char *told = snap_catalog_noted(folder_fd);

	if (!g_strcmp0(told, why))
		return;
	snap_log(SNAP_LOG_WARNING, "%s: not saved: %s", path, why);
	snap_catalog_note(folder_fd, why);
}

/* Opens a part: -1 where there is none. */
static int open_part(struct snap_parts *p, int folder_fd, enum snap_part part)
{
	int fd = snap_open_regular(folder_fd, snap_part_names[part],
				   &p->st[part]);

	if (fd < 0)
		p->st[part].st_ino = 0;
	return fd < 0 ? -1 : fd;
}

/* True for a file that root has written and not closed yet: its copier gives
 * it away next, as rsync does. */
static bool is_roots_copy(struct snap_parts *p, enum snap_part part)
{
	const struct stat *st = &p->st[part];
	struct stat now;
	SNAP_LOCKED(&p->table->lock);

	for (GList *l = p->handles.head; l; l = l->next) {
		const struct snap_part_handle *h = l->data;

		if (h->part == part && h->wrote &&
		    fstat(h->plain.fd, &now) == 0 && now.st_ino == st->st_ino &&
		    now.st_dev == st->st_dev)
			return st->st_uid == 0 && !(st->st_mode & 0022);
	}
	return false;
}

/* The owner of a snapshot must not get what is another user's: who may write
 * to a folder can move anybody's files in it. */
static char *foreign_doubt(struct snap_parts *p, enum snap_part part, uid_t uid)
{
	return p->st[part].st_uid == uid || is_roots_copy(p, part)
		       ? NULL
		       : g_strdup_printf("%s belongs to another user than the "
					 "rest of the snapshot",
					 snap_part_names[part]);
}

/* The owner that the parts have; of a file that root copies, it is not known.
 */
static uid_t uid_of(struct snap_parts *p)
{
	enum snap_part part = 0;

	while (part < SNAP_PARTS - 1 &&
	       (!p->st[part].st_ino || is_roots_copy(p, part)))
		part++;
	return p->st[part].st_ino ? p->st[part].st_uid
				  : p->st[SNAP_PART_DEVSTATE].st_uid;
}

/* Gives the snapshot the preamble that was copied in after it. */
static int read_and_adopt(struct snap_parts *p, int folder_fd, int fd,
			  GError **error)
{
	g_autofree char *bytes = NULL;
	size_t size = 0;
	int r = snap_read_fd(fd, SNAP_CATALOG_PREAMBLE_MAX, &bytes, &size);

	if (r == -EFBIG)
		return snap_fail(error, EFBIG, "it is longer than %u MiB",
				 SNAP_CATALOG_PREAMBLE_MAX >> 20);
	if (r < 0)
		return snap_fail_errno(error, -r, "reading it");
	r = snap_save_check_preamble(bytes, size, size, error);
	if (r < 0)
		return r;
	return snap_catalog_preamble_adopt(p->table->opts.catalog, folder_fd,
					   bytes, size, error);
}

/* Why the preamble must not become that of the snapshot; NULL. g_free. */
static char *adoption_doubt(struct snap_parts *p, int folder_fd, int fd)
{
	char *why = snap_part_doubt(fd, SNAP_PART_PREAMBLE);
	struct stat st;

	if (!why && fstatat(folder_fd, SNAP_CATALOG_SNAPSHOT, &st,
			    AT_SYMLINK_NOFOLLOW) == 0)
		why = foreign_doubt(p, SNAP_PART_PREAMBLE, st.st_uid);
	return why;
}

static int adopt_preamble(struct snap_parts *p)
{
	g_autofree char *path =
		snap_folder_path(p->folder, SNAP_PART_PREAMBLE_NAME);
	snap_autofd int folder_fd = snap_store_open(p->folder);
	snap_autofd int fd = open_part(p, folder_fd, SNAP_PART_PREAMBLE);
	g_autofree char *why = fd < 0 ? NULL : adoption_doubt(p, folder_fd, fd);
	g_autoptr(GError) error = NULL;
	int r;

	if (fd < 0)
		return 0;
	if (why) {
		tell_doubt(p, folder_fd, why);
		return 0;
	}
	r = read_and_adopt(p, folder_fd, fd, &error);
	if (r < 0) {
		snap_log(SNAP_LOG_ERROR,
			 "%s: cannot become the preamble of the snapshot: %s",
			 path, error->message);
		return r;
	}
	remove_name(p, SNAP_PART_PREAMBLE);
	end_writing(p, SNAP_PART_PREAMBLE);
	snap_folder_changed(p->folder);
	return 0;
}

/* The folder holds a snapshot, so there is nothing to make of the parts. A
 * `preamble` whose writer does not wait may be a part of one: it stays, unless
 * it is empty or the snapshot has one. */
static int replace_parts(struct snap_parts *p, enum snap_part closed)
{
	snap_autofd int at = -1;
	struct stat st;

	remove_replaced(p, SNAP_PART_RAM);
	remove_replaced(p, SNAP_PART_DEVSTATE);
	if (!snap_part_stat(p->folder, SNAP_PART_PREAMBLE_NAME, &st))
		return 0;
	if (closed == SNAP_PART_PREAMBLE)
		return adopt_preamble(p);
	at = snap_store_open(p->folder);
	if (!st.st_size || snap_catalog_preamble_exists(at))
		remove_replaced(p, SNAP_PART_PREAMBLE);
	return 0;
}

/* ---- a snapshot is made of them ---- */

/* The parts have been considered. */
static void considered(struct snap_parts *p, int result)
{
	SnapIncomingTable *table = p->table;
	GArray *closings;
	bool again;

	g_mutex_lock(&table->lock);
	closings = g_steal_pointer(&p->answerable);
	again = p->again;
	p->busy = p->again = false;
	g_cond_broadcast(&table->changed);
	g_mutex_unlock(&table->lock);
	answer_all(closings, result);
	if (again)
		snap_parts_consider(p);
	snap_parts_release(p);
}

/* Removes a part that was saved, unless another one has its name by now. */
static void remove_saved(struct snap_parts *p, enum snap_part part)
{
	snap_remove_file(p->folder, snap_part_names[part], &p->st[part]);
	end_writing(p, part);
}

/* The parts are a snapshot now, which gets their times. */
static void finish_saved(struct snap_parts *p)
{
	snap_incoming_set_file(p->folder, SNAP_CATALOG_SNAPSHOT, (uid_t)-1,
			       SNAP_SET_ATIME | SNAP_SET_MTIME,
			       &p->st[p->times]);
	for (enum snap_part part = 0; part < SNAP_PARTS; part++)
		remove_saved(p, part);
	snap_folder_changed(p->folder);
}

/* The save of the parts is over. Runs in its thread. */
static void on_over(void *data, SnapSave *save, bool saved)
{
	struct snap_parts *p = data;
	int r = snap_save_wait(save, NULL);

	if (r == 0)
		finish_saved(p);
	else if (r == -EEXIST)
		r = replace_parts(p, SNAP_PART_NONE);
	else if (r == SNAP_SAVE_NOTHING)
		r = 0;
	snap_incoming_end_save(p->table, save);
	considered(p, r);
}

/* The owner of the snapshot: that of `ram`. */
static struct snap_catalog_owner owner_of(const struct snap_parts *p)
{
	const struct stat *st = &p->st[SNAP_PART_RAM];
	struct snap_catalog_owner owner = { (uid_t)-1, (gid_t)-1, 0600 };

	if (!st->st_ino)
		return owner;
	owner.mode = st->st_mode & 0777;
	if (snap_plain_privileged(p->table->opts.plain)) {
		owner.uid = st->st_uid;
		owner.gid = st->st_gid;
	}
	return owner;
}

/* Begins a save of the parts, which are taken over: 0; -errno, logged. */
static int begin_save(struct snap_parts *p, struct snap_save_parts *parts,
		      int folder_fd, enum snap_part closed)
{
	SnapIncomingTable *table = p->table;
	g_autofree char *path = snap_folder_path(p->folder, NULL);
	struct snap_save_opts opts = {
		.folder_fd = folder_fd,
		.path = path,
		.name = snap_part_names[closed % SNAP_PARTS],
		.owner = owner_of(p),
		.uid = p->st[SNAP_PART_DEVSTATE].st_uid,
		.preamble_fd = -1,
		.parts = parts,
		.over = on_over,
		.over_data = p,
	};
	g_autoptr(SnapSave) save = NULL;
	g_autoptr(GError) error = NULL;
	int r = snap_save_new(table->opts.saver, &opts, &save, &error);

	if (r < 0) {
		snap_log(SNAP_LOG_ERROR, "%s: not saved: %s", path,
			 error->message);
		return r;
	}
	if (snap_incoming_begin_save(table, save) < 0)
		snap_save_abort(save,
				"the mount was ended while it was being saved");
	return 0;
}

/* True when a part is not taken for whole; that is told. The copier gets no
 * error: it did its work. */
static bool is_doubtful(struct snap_parts *p,
			const struct snap_save_parts *parts, int folder_fd)
{
	const int fds[SNAP_PARTS] = { parts->ram_fd, parts->state_fd,
				      parts->preamble_fd };
	uid_t uid = uid_of(p);

	for (enum snap_part part = 0; part < SNAP_PARTS; part++) {
		g_autofree char *why =
			fds[part] < 0 ? NULL : snap_part_doubt(fds[part], part);

		if (!why && fds[part] >= 0)
			why = foreign_doubt(p, part, uid);
		if (!why)
			continue;
		tell_doubt(p, folder_fd, why);
		return true;
	}
	return false;
}

/* Makes a snapshot of the parts in a thread of its own, if they are whole: 1,
 * or the answer to the closes. */
static int make_snapshot(struct snap_parts *p, enum snap_part closed)
{
	snap_autofd int at = snap_store_open(p->folder);
	snap_autofd int folder_fd = at < 0 ? at : snap_open_folder(at);
	struct snap_save_parts parts = {
		.ram_fd = open_part(p, folder_fd, SNAP_PART_RAM),
		.state_fd = open_part(p, folder_fd, SNAP_PART_DEVSTATE),
		.preamble_fd = open_part(p, folder_fd, SNAP_PART_PREAMBLE),
		.state_closed = closed == SNAP_PART_DEVSTATE,
		.any_closed = closed != SNAP_PART_NONE,
	};
	int r;

	p->times = closed == SNAP_PART_DEVSTATE ? SNAP_PART_DEVSTATE
						: SNAP_PART_RAM;
	if (folder_fd < 0 || parts.state_fd < 0) {
		snap_save_parts_close(&parts);
		return MIN(folder_fd, 0);
	}
	if (parts.ram_fd >= 0 && is_doubtful(p, &parts, folder_fd)) {
		snap_save_parts_close(&parts);
		return 0;
	}
	parts.ram_zero = snap_part_proof_get(parts.ram_fd) == SNAP_PART_WHOLE;
	r = begin_save(p, &parts, folder_fd, closed);
	return r < 0 ? r : 1;
}

/* Takes the closes since the parts were considered last. True when the parts
 * are to be considered; else *ret_result answers the closes. */
static bool take_closings(struct snap_parts *p, GArray **ret_closings,
			  enum snap_part *ret_closed, int *ret_result)
{
	SNAP_LOCKED(&p->table->lock);

	*ret_closings = NULL;
	if (p->busy) {
		p->again = true;
		return false;
	}
	*ret_closings = p->closings;
	p->closings = g_array_new(FALSE, FALSE, sizeof(struct snap_closing));
	*ret_closed = p->last_closed;
	p->last_closed = SNAP_PART_NONE;
	*ret_result = p->table->ending ? -ECANCELED : 0;
	if (p->table->ending || is_open_locked(p))
		return false;
	p->busy = true;
	p->users++;
	p->answerable = g_steal_pointer(ret_closings);
	return true;
}

void snap_parts_consider(struct snap_parts *p)
{
	enum snap_part closed;
	GArray *closings;
	int r;

	if (!take_closings(p, &closings, &closed, &r)) {
		if (closings)
			answer_all(closings, r);
		return;
	}
	r = has_snapshot(p->folder) ? replace_parts(p, closed)
				    : make_snapshot(p, closed);
	if (r <= 0)
		considered(p, r);
}

/* True when no part is open, considered or saved. */
static bool is_idle(struct snap_parts *p)
{
	SNAP_LOCKED(&p->table->lock);

	return !p->busy && !is_open_locked(p);
}

void snap_parts_replaced(SnapIncomingTable *table, SnapNode *folder, bool saved)
{
	struct snap_parts *p;
	bool any = false;

	for (enum snap_part part = 0; part < SNAP_PARTS; part++)
		any = any ||
		      snap_part_stat(folder, snap_part_names[part], NULL);
	if (!any)
		return;
	p = snap_parts_use(table, folder);
	if (saved && is_idle(p))
		remove_replaced(p, SNAP_PART_PREAMBLE);
	snap_parts_consider(p);
	snap_parts_release(p);
}

struct snap_parts *snap_parts_hold(SnapIncomingTable *table, SnapNode *folder)
{
	struct snap_parts *p = snap_parts_use(table, folder);
	SNAP_LOCKED(&table->lock);

	for (; p->busy; g_cond_wait(&table->changed, &table->lock))
		snap_call_hush_mine();
	p->holds++;
	return p;
}

void snap_parts_let_go(struct snap_parts *parts)
{
	g_mutex_lock(&parts->table->lock);
	parts->holds--;
	g_mutex_unlock(&parts->table->lock);
	/* The other parts may have waited. */
	snap_parts_consider(parts);
	snap_parts_release(parts);
}

/* Notes that all parts are whole. */
static int note_whole(SnapNode *folder)
{
	snap_autofd int at = snap_store_open(folder);
	int r = -ENOENT;

	for (enum snap_part part = 0; part < SNAP_PARTS; part++) {
		snap_autofd int fd =
			snap_open_regular(at, snap_part_names[part], NULL);

		if (fd < 0)
			continue;
		r = snap_part_proof_set(fd, SNAP_PART_WHOLE);
		if (r < 0)
			break;
	}
	return r;
}

/* Counts the parts of a folder. */
static guint count_parts(SnapNode *folder)
{
	guint n = 0;

	for (enum snap_part part = 0; part < SNAP_PARTS; part++)
		n += snap_part_stat(folder, snap_part_names[part], NULL);
	return n;
}

int snap_parts_prove(SnapIncomingTable *table, SnapNode *folder)
{
	struct snap_parts *p = snap_parts_hold(table, folder);
	bool written;
	int r;

	g_mutex_lock(&table->lock);
	written = has_writer_locked(p);
	/* As if the caller had closed it: it hears how it goes. */
	if (!written)
		p->last_closed = has_snapshot(folder) ? SNAP_PART_PREAMBLE
						      : SNAP_PART_DEVSTATE;
	g_mutex_unlock(&table->lock);
	r = written ? -EBUSY : note_whole(folder);
	snap_parts_let_go(p);
	snap_parts_wait(table, folder);
	return r < 0 ? r : count_parts(folder) ? -EPROTO : 0;
}
