/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stream on its way into a folder, and the handles it is written by.
 *
 * Who opens `stream` to write joins the one that is under way, so a second
 * channel is never refused; QEMU would crash its guest. Nothing happens before
 * the first byte that is not 0. It begins the save, and makes its handle the
 * writer. Where a byte may be written is judged by the save: a mapped-ram
 * stream is written at any offset by any handle, others where they stand. Only
 * the writer may begin anew. When the last handle is closed the stream has
 * ended.
 *
 *	no save ──first byte──▶ running ──▶ done, or failed
 *	   ▲                       │
 *	   └──truncate(0) by writer┘
 *
 * Zeros at the beginning are a hole, whether they were written, skipped or cut
 * to (QEMU's file:PATH,offset=N): the stream begins behind.
 */
#include "fs/view/writing-internal.h"

#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/log.h"
#include "format/base/zero.h"

struct incoming_handle {
	SnapHandle handle;
	SnapIncoming *in; /* a reference; handle.node may be another */
};

/* A write that was not answered yet. */
struct pending {
	SnapIncoming *in; /* references */
	SnapSave *save;
	snap_handle_answer answer;
	void *data;
	gint users;  /* who hands it on, and who answers; atomic */
	bool other;  /* a write by another handle than the writer */
	bool syncs;  /* an fsync: of a stream that is not whole it is fine */
	bool closes; /* a close: of a mapped-ram stream it is never more */
	size_t skip; /* bytes of the write that were zeros of the hole */
	uint64_t offset;
};

int snap_incoming_refuse(SnapIncoming *in, int code, const char *why)
{
	g_autofree char *path = snap_folder_path(in->folder, in->view->name);

	snap_log(SNAP_LOG_WARNING, "%s: %s", path, why);
	return -code;
}

int snap_incoming_refuse_once(SnapIncoming *in, int code, const char *why)
{
	if (!g_atomic_int_compare_and_exchange(&in->told, 0, 1))
		return -code;
	return snap_incoming_refuse(in, code, why);
}

bool snap_incoming_open_for(SnapIncoming *in)
{
	bool open;

	g_mutex_lock(&in->lock);
	open = !in->ended && !(in->save && snap_save_over(in->save));
	g_mutex_unlock(&in->lock);
	return open;
}

bool snap_incoming_shown(SnapIncoming *in)
{
	bool shown;

	g_mutex_lock(&in->lock);
	shown = in->save ? !in->removed && !snap_save_over(in->save)
			 : in->handles > 0;
	g_mutex_unlock(&in->lock);
	return shown;
}

bool snap_incoming_begun(SnapIncoming *in)
{
	bool begun;

	g_mutex_lock(&in->lock);
	begun = in->save != NULL;
	g_mutex_unlock(&in->lock);
	return begun;
}

/* ---- writing ---- */

void snap_writers_tell(SnapNode *folder)
{
	SnapTree *tree = folder->tree;

	for (guint i = 0; tree->changed && i < snap_n_views; i++)
		tree->changed(tree->changed_data, folder, snap_views[i]->name);
}

/* A save that came to nothing leaves the snapshot that was there, also to who
 * removed its name first to make room. */
static void show_former(SnapIncoming *in, SnapSave *save)
{
	g_autoptr(SnapSealed) sealed = NULL;

	if (snap_save_state(save, NULL) == SNAP_SAVE_FAILED &&
	    snap_sealed_get(in->folder, &sealed) == 0)
		snap_hidden_remove(sealed, snap_view_number(in->view));
}

/* It has left the table, and its save is over. Its lock may be held. */
static void tell_over(SnapIncoming *in, SnapSave *save)
{
	show_former(in, save);
	snap_writers_tell(in->folder);
	snap_parts_check(in->folder);
}

void snap_incoming_reap(SnapIncoming *in)
{
	g_autoptr(SnapSave) save = NULL;

	g_mutex_lock(&in->lock);
	if (in->save && snap_save_over(in->save))
		save = snap_save_ref(in->save);
	g_mutex_unlock(&in->lock);
	if (save && snap_writers_drop(in))
		tell_over(in, save);
}

/* One of the two that use it is done; the last lets go of it. */
static void pending_done(struct pending *p)
{
	SnapIncoming *in = p->in;
	SnapTree *tree = in->node.tree;

	if (!g_atomic_int_dec_and_test(&p->users))
		return;
	snap_save_unref(p->save);
	g_free(p);
	snap_node_unref(&in->node, 1);
	/* The tree may go as soon as no write is left. */
	snap_writers_over(tree);
}

/* What is said of a write, or of a question, that the save has answered. */
static ssize_t judge(struct pending *p, ssize_t result)
{
	uint64_t bytes;
	bool running = snap_save_state(p->save, &bytes) == SNAP_SAVE_RUNNING;

	if (result >= 0)
		return result + (ssize_t)p->skip;
	/* QEMU aborts, guest and all, when a channel cannot be closed. */
	if (p->closes && snap_save_scattered(p->save))
		return 0;
	if (p->syncs && running && result == -EPROTO)
		return 0;
	if (!running && result == -EPROTO &&
	    snap_save_state(p->save, NULL) == SNAP_SAVE_DONE)
		return snap_incoming_refuse_once(
			p->in, EPROTO,
			"is complete; what is written after that is "
			"refused");
	if (!running || result != -EINVAL)
		return snap_told((int)result);
	if (p->other)
		return snap_incoming_refuse_once(
			p->in, EBUSY, "is being saved by another writer");
	/* The save has said so. */
	return -EINVAL;
}

static void answered(void *data, ssize_t result)
{
	struct pending *p = data;
	bool over = snap_save_over(p->save) && snap_writers_drop(p->in);

	p->answer(p->data, judge(p, result));
	if (over)
		tell_over(p->in, p->save);
	pending_done(p);
}

/* What is remembered until a write is answered, and has returned. */
static struct pending *pending_new(SnapIncoming *in, snap_handle_answer answer,
				   void *data)
{
	struct pending *p = g_new0(struct pending, 1);

	p->in = in;
	p->save = snap_save_ref(in->save);
	p->answer = answer;
	p->data = data;
	p->users = 2;
	snap_writers_begin(in->node.tree);
	snap_node_ref(&in->node);
	return p;
}

/* What is answered to a write without the save; 0: it takes all but the first
 * *ret_skip bytes. */
static ssize_t accept_locked(SnapIncoming *in, SnapHandle *handle,
			     const uint8_t *buf, size_t size, uint64_t offset,
			     size_t *ret_skip)
{
	ssize_t n;

	*ret_skip = 0;
	if (in->removed)
		return -ECANCELED;
	if (!size)
		return 0;
	n = snap_incoming_edit_locked(in, buf, size, offset);
	if (n || in->save)
		return n;
	return snap_incoming_first_locked(in, handle, buf, size, offset,
					  ret_skip);
}

static void incoming_write(SnapHandle *handle, const void *buf, size_t size,
			   uint64_t offset, snap_handle_answer answer,
			   void *data)
{
	SnapIncoming *in = ((struct incoming_handle *)handle)->in;
	struct pending *p;
	bool ordered;
	size_t skip;
	ssize_t n;

	/* Held while the save takes the bytes, where their order matters. */
	g_mutex_lock(&in->lock);
	n = accept_locked(in, handle, buf, size, offset, &skip);
	if (n || !in->save) {
		g_mutex_unlock(&in->lock);
		answer(data, n);
		return;
	}
	p = pending_new(in, answer, data);
	p->other = handle != in->writer;
	p->offset = offset;
	p->skip = skip;
	in->solid =
		MAX(in->solid, offset + size - snap_zeros_behind(buf, size));
	in->tail = 0;
	ordered = !snap_save_scattered(p->save);
	if (!ordered)
		g_mutex_unlock(&in->lock);
	snap_save_write(p->save, (const uint8_t *)buf + skip, size - skip,
			offset + skip, answered, p);
	if (ordered)
		g_mutex_unlock(&in->lock);
	pending_done(p);
}

/* Asks the save how it stands with what has come, and lets go of the lock. */
static void ask_locked(SnapIncoming *in, bool syncs, snap_handle_answer answer,
		       void *data)
{
	struct pending *p = pending_new(in, answer, data);

	p->syncs = syncs;
	p->closes = !syncs;
	snap_save_check(in->save, answered, p);
	g_mutex_unlock(&in->lock);
	pending_done(p);
}

/* Whether a close by the handle is to be told how the stream stands: QEMU does
 * not look at what it says, but mv and cp do, before the one deletes its
 * source. Of several writers the first speaks for the stream; of one that all
 * of them may write to, none, since asking would end it. */
static bool close_asks_locked(SnapIncoming *in, SnapHandle *handle)
{
	return in->save && !in->removed && handle == in->writer &&
	       (in->handles == 1 || !snap_save_scattered(in->save));
}

static void incoming_flush(SnapHandle *handle, snap_handle_answer answer,
			   void *data)
{
	SnapIncoming *in = ((struct incoming_handle *)handle)->in;
	int r = 0;

	g_mutex_lock(&in->lock);
	if (close_asks_locked(in, handle)) {
		ask_locked(in, false, answer, data);
		return;
	}
	if (!in->save && in->zeros)
		r = snap_incoming_refuse(in, EPROTO,
					 "nothing but zeros was written");
	g_mutex_unlock(&in->lock);
	answer(data, r);
}

/* Of a stream that is complete, it answers when that is on disk. */
static void incoming_sync(SnapHandle *handle, bool data_only,
			  snap_handle_answer answer, void *data)
{
	SnapIncoming *in = ((struct incoming_handle *)handle)->in;

	g_mutex_lock(&in->lock);
	if (in->save && !in->removed) {
		ask_locked(in, true, answer, data);
		return;
	}
	g_mutex_unlock(&in->lock);
	answer(data, 0);
}

/* Forgets what has come; a save that runs is dropped on purpose. */
static void drop_locked(SnapIncoming *in)
{
	if (in->save)
		snap_save_abort(in->save, NULL);
	g_clear_pointer(&in->save, snap_save_unref);
	in->writer = NULL;
	in->hole = in->solid = in->tail = 0;
	in->zeros = false;
}

/* Cuts what no byte but zeros has been written of yet. */
static int truncate_first_locked(SnapIncoming *in, uint64_t size)
{
	g_autoptr(SnapSealed) base = snap_incoming_base_locked(in);
	uint64_t now;

	if (base && in->view->size(base, &now) == 0 && size == now)
		return 0;
	drop_locked(in);
	in->cut = true;
	in->hole = size;
	return 0;
}

static int truncate_locked(SnapIncoming *in, SnapHandle *handle, uint64_t size)
{
	uint64_t bytes;
	bool running;

	if (!in->save)
		return truncate_first_locked(in, size);
	running = snap_save_state(in->save, &bytes) == SNAP_SAVE_RUNNING;
	/* Who writes in blocks fills the last one up, and cuts that off. */
	if (size && (size == bytes || (size >= in->solid && size < bytes))) {
		in->tail = size;
		return 0;
	}
	if (running && (!handle || handle != in->writer))
		return snap_incoming_refuse(in, EBUSY,
					    "is being saved by another writer");
	if (size)
		return snap_incoming_refuse(
			in, EINVAL,
			"cannot be cut to a size once it is being written");
	drop_locked(in);
	in->cut = true;
	return 0;
}

static int incoming_truncate(SnapHandle *handle, uint64_t size)
{
	SnapIncoming *in = ((struct incoming_handle *)handle)->in;
	int r;

	g_mutex_lock(&in->lock);
	r = truncate_locked(in, handle, size);
	g_mutex_unlock(&in->lock);
	return r;
}

int snap_incoming_cut(SnapIncoming *in, uint64_t size)
{
	int r;

	g_mutex_lock(&in->lock);
	/* Of one that is over there is nothing left to be cut. */
	if (in->save && snap_save_over(in->save))
		r = 0;
	else
		r = truncate_locked(in, NULL, size);
	g_mutex_unlock(&in->lock);
	return r;
}

/* Who has not changed it reads the snapshot that is there. */
static ssize_t incoming_read(SnapHandle *handle, void *buf, size_t size,
			     uint64_t offset)
{
	SnapIncoming *in = ((struct incoming_handle *)handle)->in;
	g_autoptr(SnapSealed) base = NULL;
	uint64_t end;
	int r;

	g_mutex_lock(&in->lock);
	base = snap_incoming_base_locked(in);
	g_mutex_unlock(&in->lock);
	if (!base)
		return -EBUSY;
	r = in->view->size(base, &end);
	if (r < 0)
		return snap_told(r);
	if (offset >= end)
		return 0;
	size = MIN(size, end - offset);
	r = in->view->read(base, buf, size, offset, NULL);
	return r < 0 ? snap_told(r) : (ssize_t)size;
}

static void incoming_handle_clear(SnapHandle *handle)
{
	SnapIncoming *in = ((struct incoming_handle *)handle)->in;

	g_mutex_lock(&in->lock);
	if (in->writer == handle)
		in->writer = NULL;
	if (--in->handles == 0 && in->save) {
		in->ended = true;
		snap_save_end(in->save);
	} else if (in->handles == 0) {
		drop_locked(in);
		in->cut = false;
		g_atomic_int_set(&in->told, 0);
	}
	g_mutex_unlock(&in->lock);
	snap_node_unref(&in->node, 1);
}

static const struct snap_handle_ops incoming_handle_ops = {
	.mode = SNAP_HANDLE_DIRECT,
	.read = incoming_read,
	.write = incoming_write,
	.flush = incoming_flush,
	.sync = incoming_sync,
	.truncate = incoming_truncate,
	.clear = incoming_handle_clear,
};

bool snap_incoming_is_handle(const SnapHandle *handle)
{
	return handle->ops == &incoming_handle_ops;
}

SnapHandle *snap_incoming_handle(SnapIncoming *in, SnapNode *node)
{
	struct incoming_handle *h;
	bool open;

	g_mutex_lock(&in->lock);
	open = !in->ended && !(in->save && snap_save_over(in->save));
	if (open)
		in->handles++;
	g_mutex_unlock(&in->lock);
	if (!open)
		return NULL;
	h = snap_handle_new(sizeof(*h), &incoming_handle_ops, node);
	h->in = in;
	snap_node_ref(&in->node);
	return &h->handle;
}

void snap_incoming_remove(SnapIncoming *in)
{
	g_mutex_lock(&in->lock);
	in->removed = in->ended = true;
	if (in->save && !snap_save_over(in->save))
		snap_incoming_refuse(in, 0,
				     "was removed while it was being saved");
	if (in->save)
		snap_save_abort(in->save, NULL);
	g_mutex_unlock(&in->lock);
	snap_writers_drop(in);
}
