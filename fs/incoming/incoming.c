/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stream on its way into a folder, as its writers see it.
 *
 *	UNTOUCHED ──other bytes──▶ HEAD ──┐
 *	    │                       ▲     │ first byte of a stream
 *	    │ truncate ──▶ EMPTY ───┤     ▼
 *	    └───first byte of a stream──▶ SAVING ──last close──▶ ENDED
 *	                 EMPTY ◀─truncate(0) by the writer─┘
 *	any ──unlink──▶ REMOVED
 *
 * What comes before a stream is its head (head.c). The first byte of the stream
 * begins the save, and its writer becomes the writer of the stream. The save
 * decides where a byte may be written: mapped-ram is written at any offset by
 * any process, other streams from their beginning to their end by one. Only the
 * writer may begin anew.
 */
#include "fs/incoming/incoming-internal.h"

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/zero.h"

/* A request that the save answers. */
enum request {
	WRITE,
	SYNC,
	CLOSE,
};

struct snap_pending {
	SnapIncoming *in; /* the open file holds a reference until the answer */
	SnapSave *save;	  /* a reference */
	snap_handle_answer answer;
	void *data;
	enum request request;
};

enum snap_incoming_state snap_incoming_state(SnapIncoming *in)
{
	SNAP_LOCKED(&in->lock);

	if (in->state == SNAP_INCOMING_SAVING &&
	    snap_save_state(in->save, NULL) == SNAP_SAVE_DONE)
		return SNAP_INCOMING_SAVED;
	return in->state;
}

/* ---- requests that the save answers ---- */

/* The answer to a request whose outcome in the save is `result`. */
static ssize_t judge(const struct snap_pending *p, ssize_t result)
{
	enum snap_save_state state = snap_save_state(p->save, NULL);

	if (result >= 0)
		return result;
	/* QEMU aborts, and its guest with it, when it cannot close a channel.
	 */
	if (p->request == CLOSE && snap_save_scattered(p->save))
		return 0;
	if (p->request == SYNC && state == SNAP_SAVE_RUNNING &&
	    result == -EPROTO)
		return 0;
	if (state == SNAP_SAVE_DONE && result == -EPROTO)
		return snap_incoming_refuse(
			p->in, EPROTO,
			"a write was refused: the stream is complete");
	return result;
}

/* When the save has timed out, nothing here may wait for the store, nor for the
 * lock of the stream, which is held during calls of the store. The answer comes
 * last: the process that waits for it goes on at once, and its next request
 * should find no lock held. */
static void answered(void *data, ssize_t result)
{
	struct snap_pending *p = data;
	snap_handle_answer give = p->answer;
	void *give_data = p->data;
	ssize_t answer = judge(p, result);

	snap_save_unref(p->save);
	g_free(p);
	give(give_data, answer);
}

static struct snap_pending *pending_new_locked(SnapIncoming *in,
					       enum request request,
					       snap_handle_answer answer,
					       void *data)
{
	struct snap_pending *p = g_new(struct snap_pending, 1);

	*p = (struct snap_pending){ .in = in,
				    .save = snap_save_ref(in->save),
				    .answer = answer,
				    .data = data,
				    .request = request };
	return p;
}

/* True when these bytes may only come through another open file, the one that
 * began the stream. The pages of mapped-ram come through any. What stands
 * before the stream may be changed through a file that has written to it, and
 * in mapped-ram through any. */
static bool is_busy_locked(const SnapIncoming *in,
			   const struct snap_writer *writer, size_t size,
			   uint64_t offset)
{
	uint64_t begin = in->head.begin, end = offset + size;

	if (writer == in->writer)
		return false;
	if (end <= begin)
		return writer->era != in->era && !snap_save_scattered(in->save);
	return offset <= begin || !snap_save_scattered(in->save);
}

static int refuse_busy_locked(SnapIncoming *in)
{
	return snap_incoming_refuse_locked(
		in, EBUSY, "another process is saving the stream");
}

/* What is answered to a write without the save; 0: the save takes it. */
static ssize_t accept_locked(SnapIncoming *in, struct snap_writer *writer,
			     const uint8_t *buf, size_t size, uint64_t offset)
{
	bool running;
	ssize_t n = 0;

	if (in->state == SNAP_INCOMING_REMOVED)
		return -ECANCELED;
	if (!size)
		return 0;
	if (writer->era && writer->era != in->era)
		return snap_incoming_refuse_locked(
			in, ECANCELED, "another process has begun it anew");
	if (!in->save)
		n = snap_incoming_first_locked(in, writer, buf, size, offset);
	running = in->save &&
		  snap_save_state(in->save, NULL) == SNAP_SAVE_RUNNING;
	if (running && is_busy_locked(in, writer, size, offset))
		return refuse_busy_locked(in);
	if (n > 0 || running)
		writer->era = in->era;
	if (n || !in->save)
		return n;
	in->solid =
		MAX(in->solid, offset + size - snap_zeros_behind(buf, size));
	in->tail = 0;
	return 0;
}

/* Of two requests in flight at once (AIO), the second may reach the save first.
 * Then it is not where the stream goes on, unless that is mapped-ram. */
void snap_incoming_write(SnapIncoming *in, struct snap_writer *writer,
			 const void *buf, size_t size, uint64_t offset,
			 snap_handle_answer answer, void *data)
{
	struct snap_pending *p = NULL;
	ssize_t n;

	g_mutex_lock(&in->lock);
	n = accept_locked(in, writer, buf, size, offset);
	if (n == 0 && size && in->save)
		p = pending_new_locked(in, WRITE, answer, data);
	g_mutex_unlock(&in->lock);
	if (p)
		snap_save_write(p->save, buf, size, offset, answered, p);
	else
		answer(data, n);
}

/* Should a close by a writer say how the stream stands? QEMU ignores the
 * answer, but mv and cp do not: mv deletes its source afterwards. Of several
 * writers only the first one gets it. With mapped-ram, where all of them write,
 * none gets it, as asking would end the stream. */
static bool close_asks_locked(const SnapIncoming *in,
			      const struct snap_writer *writer)
{
	return in->save && in->state != SNAP_INCOMING_REMOVED &&
	       writer == in->writer &&
	       (in->writers == 1 || !snap_save_scattered(in->save));
}

void snap_incoming_flush(SnapIncoming *in, const struct snap_writer *writer,
			 snap_handle_answer answer, void *data)
{
	struct snap_pending *p = NULL;

	g_mutex_lock(&in->lock);
	if (close_asks_locked(in, writer))
		p = pending_new_locked(in, CLOSE, answer, data);
	g_mutex_unlock(&in->lock);
	if (p)
		snap_save_check(p->save, answered, p);
	else
		answer(data, 0);
}

void snap_incoming_sync(SnapIncoming *in, snap_handle_answer answer, void *data)
{
	struct snap_pending *p = NULL;

	g_mutex_lock(&in->lock);
	if (in->save && in->state != SNAP_INCOMING_REMOVED)
		p = pending_new_locked(in, SYNC, answer, data);
	g_mutex_unlock(&in->lock);
	if (p)
		snap_save_check(p->save, answered, p);
	else
		answer(data, 0);
}

/* ---- cutting ---- */

/* Drops the stream that has come. If that is a snapshot by now, it is what the
 * next stream replaces. */
static void begin_anew_locked(SnapIncoming *in)
{
	snap_incoming_note_locked(in);
	if (in->save)
		snap_save_abort(in->save, NULL);
	g_clear_pointer(&in->save, snap_save_unref);
	in->writer = NULL;
	in->solid = in->tail = 0;
	in->noted = in->refused = false;
	in->state = SNAP_INCOMING_EMPTY;
}

/* The writer cuts bytes off. Another process that wrote some of them does not
 * know that, and would go on in the middle of what comes next. So its writes
 * are refused from now on. */
static void next_era_locked(SnapIncoming *in, struct snap_writer *writer)
{
	in->era++;
	writer->era = 0;
}

/* Cuts a stream whose save has begun. */
static int truncate_save_locked(SnapIncoming *in, struct snap_writer *writer,
				uint64_t size)
{
	uint64_t bytes;
	bool running = snap_save_state(in->save, &bytes) == SNAP_SAVE_RUNNING;

	/* A program that writes whole blocks fills up the last one, and cuts
	 * that off. */
	if (size && (size == bytes || (size >= in->solid && size < bytes))) {
		in->tail = size;
		return 0;
	}
	if (running && writer != in->writer)
		return refuse_busy_locked(in);
	if (size)
		return snap_incoming_refuse_locked(
			in, EINVAL, "a stream cannot be cut while it is saved");
	next_era_locked(in, writer);
	begin_anew_locked(in);
	snap_head_cut(in, 0);
	return 0;
}

int snap_incoming_truncate(SnapIncoming *in, struct snap_writer *writer,
			   uint64_t size)
{
	SNAP_LOCKED(&in->lock);

	if (in->state == SNAP_INCOMING_REMOVED)
		return 0;
	if (in->save)
		return truncate_save_locked(in, writer, size);
	if (in->state == SNAP_INCOMING_UNTOUCHED && in->former.exists &&
	    size == in->former.size)
		return 0;
	if (size < in->head.size)
		next_era_locked(in, writer);
	begin_anew_locked(in);
	snap_head_cut(in, size);
	if (in->head.fd >= 0)
		in->state = SNAP_INCOMING_HEAD;
	return 0;
}

/* ---- coming and going ---- */

bool snap_incoming_enter(SnapIncoming *in)
{
	SNAP_LOCKED(&in->lock);

	if (in->state >= SNAP_INCOMING_ENDED || snap_incoming_over_locked(in))
		return false;
	in->writers++;
	snap_incoming_count_writer(in->table, 1);
	return true;
}

bool snap_incoming_is_by(SnapIncoming *in, const struct snap_writer *writer)
{
	SNAP_LOCKED(&in->lock);

	return writer->era == in->era;
}

/* The last writer has gone before a stream came. What he wrote stays, or an
 * empty file; but a snapshot is not replaced by nothing, and of what was
 * refused nothing is left. */
static void keep_head_locked(SnapIncoming *in)
{
	int r = 0;

	if (in->state == SNAP_INCOMING_HEAD ||
	    !(in->former.exists || in->refused))
		r = snap_head_keep(in);
	if (r < 0 && r != -ENOENT)
		snap_incoming_refuse_locked(in, -r,
					    "its first bytes cannot be kept");
	else if (in->state == SNAP_INCOMING_HEAD)
		snap_incoming_refuse_locked(
			in, 0,
			"no migration stream was written; the bytes are kept "
			"as what may stand before one");
	begin_anew_locked(in);
	in->head.begin = in->head.reach = 0;
	in->state = SNAP_INCOMING_UNTOUCHED;
}

/* The last writer has gone; returns the save that has ended, a reference, or
 * NULL. */
static SnapSave *last_left_locked(SnapIncoming *in)
{
	if (in->save) {
		if (in->state != SNAP_INCOMING_REMOVED)
			in->state = SNAP_INCOMING_ENDED;
		return snap_save_ref(in->save);
	}
	if (in->state != SNAP_INCOMING_REMOVED)
		keep_head_locked(in);
	return NULL;
}

/* True when the writer writes a stream that nobody else can go on with. */
static bool is_alone_locked(const SnapIncoming *in,
			    const struct snap_writer *writer)
{
	return in->writer == writer && in->save &&
	       !snap_save_scattered(in->save);
}

void snap_incoming_leave(SnapIncoming *in, const struct snap_writer *writer)
{
	g_autoptr(SnapSave) ended = NULL;
	bool last;

	g_mutex_lock(&in->lock);
	last = --in->writers == 0;
	if (!last && is_alone_locked(in, writer))
		ended = snap_save_ref(in->save);
	if (in->writer == writer)
		in->writer = NULL;
	if (last)
		ended = last_left_locked(in);
	g_mutex_unlock(&in->lock);
	if (ended)
		snap_save_end(ended);
	snap_incoming_count_writer(in->table, -1);
}

void snap_incoming_remove(SnapIncoming *in)
{
	g_autoptr(SnapSave) save = NULL;

	g_mutex_lock(&in->lock);
	in->refused = false;
	if (in->save && !snap_save_over(in->save))
		snap_incoming_refuse_locked(
			in, 0, "it was removed while it was being saved");
	if (in->save)
		save = snap_save_ref(in->save);
	in->state = SNAP_INCOMING_REMOVED;
	snap_head_drop(in);
	g_mutex_unlock(&in->lock);
	if (save)
		snap_save_abort(save, NULL);
	snap_incoming_drop(in);
}
