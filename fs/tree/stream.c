/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An open file by which a stream is written, or is read while it is on its way.
 * Here the snapshot that is there and the stream on its way in meet:
 *
 * Until a process writes or truncates it, the file reads as the snapshot's
 * `stream`. What it reads then is in fs/incoming/read.c. A file from which
 * bytes of a snapshot were read keeps to that snapshot, until it is written to.
 *
 * A write within the preamble changes the preamble: before a save begins, and
 * after it is done through a file that has written to it. libvirt marks its
 * header when the rest is written, and edits the XML in it. Every other write
 * goes to the stream on its way in.
 */
#include "fs/tree/tree-internal.h"

#include "format/base/cleanup.h"

/* Bytes of a preamble that are read at once. */
#define PIECE (512 * SNAP_KIB)

struct stream_handle {
	SnapHandle handle;
	struct snap_writer writer;
	SnapTree *tree;
	SnapIncoming *in; /* a reference; handle.node may be another node */
	bool reads_only;
	GMutex lock;
	SnapSealed *sealed; /* from which bytes were read; protected by lock */
};

static struct stream_handle *stream_of(SnapHandle *handle)
{
	return (struct stream_handle *)handle;
}

/* The view that the file is of a snapshot. */
static const SnapView *view_of(const struct stream_handle *h)
{
	return snap_view_find(snap_incoming_name(h->in));
}

/* The snapshot that the file shows: a reference, or NULL where that is not in
 * the folder any more. */
static SnapSealed *snapshot_of(const struct stream_handle *h)
{
	SnapNode *folder = snap_incoming_folder(h->in);
	g_autoptr(SnapSealed) sealed = NULL;
	struct snap_sealed_id id;

	if (snap_sealed_get(h->tree->snapshots, folder, &sealed) < 0 ||
	    snap_sealed_damaged(sealed) ||
	    !snap_view_present(view_of(h), sealed))
		return NULL;
	id = snap_sealed_id(sealed);
	if (!snap_incoming_has(h->in, id.dev, id.ino))
		return NULL;
	return g_steal_pointer(&sealed);
}

/* ---- reading ---- */

/* The snapshot that the file keeps to, or, with `begin`, will: a reference, or
 * NULL. */
static SnapSealed *keep_to(struct stream_handle *h, bool begin)
{
	SNAP_LOCKED(&h->lock);

	if (!h->sealed && begin)
		h->sealed = snapshot_of(h);
	return h->sealed ? snap_sealed_ref(h->sealed) : NULL;
}

/* The file was written to. */
static void let_go(struct stream_handle *h)
{
	SNAP_LOCKED(&h->lock);

	g_clear_pointer(&h->sealed, snap_sealed_unref);
}

static ssize_t stream_read(SnapHandle *handle, void *buf, size_t size,
			   uint64_t offset)
{
	struct stream_handle *h = stream_of(handle);
	bool writes = __atomic_load_n(&handle->changes, __ATOMIC_RELAXED);
	g_autoptr(SnapSealed) sealed = keep_to(h, false);

	if (!sealed) {
		switch (snap_incoming_reads(h->in, writes)) {
		case SNAP_INCOMING_BYTES:
			return snap_incoming_read(h->in, buf, size, offset);
		case SNAP_INCOMING_LATER:
			/* Its own save would wait for it. */
			return writes ? -EBUSY : SNAP_READ_LATER;
		case SNAP_INCOMING_GONE:
			return -ESTALE;
		case SNAP_INCOMING_LOST:
			return -EIO;
		case SNAP_INCOMING_SNAPSHOT:
			sealed = keep_to(h, true);
		}
	}
	return sealed ? snap_view_read(view_of(h), sealed, buf, size, offset)
		      : -ESTALE;
}

static bool stream_await(SnapHandle *handle, struct snap_waiter *waiter)
{
	return snap_incoming_await(stream_of(handle)->in, waiter);
}

static bool stream_forget(SnapHandle *handle, struct snap_waiter *waiter)
{
	return snap_incoming_forget(stream_of(handle)->in, waiter);
}

/* ---- writing ---- */

/* Changes the preamble of the snapshot, if the write means that: the answer to
 * the write, or 0 when it does not. */
static ssize_t edit(struct stream_handle *h, const void *buf, size_t size,
		    uint64_t offset)
{
	enum snap_incoming_state state = snap_incoming_state(h->in);
	bool untouched = state == SNAP_INCOMING_UNTOUCHED;
	g_autoptr(SnapSealed) sealed = NULL;
	uint64_t preamble;
	int r;

	if ((untouched || (state == SNAP_INCOMING_SAVED &&
			   snap_incoming_is_by(h->in, &h->writer))) &&
	    view_of(h) == &snap_view_stream)
		sealed = snapshot_of(h);
	preamble = sealed ? snap_preamble_size(sealed) : 0;
	if (offset < preamble && size <= preamble - offset) {
		r = snap_preamble_edit(sealed, snap_incoming_folder(h->in), buf,
				       size, offset);
		return r < 0 ? r : (ssize_t)size;
	}
	if (!preamble || !offset || !untouched)
		return 0;
	return snap_incoming_refuse(
		h->in, EINVAL,
		"only the preamble of a snapshot can be changed; write its "
		"stream anew from the beginning");
}

static void stream_write(SnapHandle *handle, const void *buf, size_t size,
			 uint64_t offset, snap_handle_answer answer, void *data)
{
	struct stream_handle *h = stream_of(handle);
	ssize_t n = edit(h, buf, size, offset);

	let_go(h);
	if (n)
		answer(data, n);
	else
		snap_incoming_write(h->in, &h->writer, buf, size, offset,
				    answer, data);
}

static void stream_flush(SnapHandle *handle, snap_handle_answer answer,
			 void *data)
{
	struct stream_handle *h = stream_of(handle);

	snap_incoming_flush(h->in, &h->writer, answer, data);
}

/* Of a complete stream, it answers when that is on disk. */
static void stream_sync(SnapHandle *handle, bool data_only,
			snap_handle_answer answer, void *data)
{
	snap_incoming_sync(stream_of(handle)->in, answer, data);
}

/* Nobody waits for bytes that no process has written. */
static void ignore(void *data, ssize_t result)
{
}

/* The file is cut to `size`, which lies in the preamble of the snapshot that is
 * there: writes these bytes to it, as they would be left in a plain file. */
static void leave_preamble(struct stream_handle *h, uint64_t size)
{
	g_autoptr(SnapSealed) sealed = NULL;
	g_autofree uint8_t *bytes = NULL;
	ssize_t n = 1;

	if (snap_incoming_state(h->in) != SNAP_INCOMING_UNTOUCHED ||
	    view_of(h) != &snap_view_stream || !size ||
	    size > SNAP_CATALOG_PREAMBLE_MAX)
		return;
	sealed = snapshot_of(h);
	if (!sealed || size > snap_preamble_size(sealed))
		return;
	bytes = g_malloc(PIECE);
	for (uint64_t at = 0; n > 0 && at < size; at += (uint64_t)n) {
		n = snap_view_read(&snap_view_stream, sealed, bytes,
				   MIN(PIECE, size - at), at);
		if (n > 0)
			snap_incoming_write(h->in, &h->writer, bytes, (size_t)n,
					    at, ignore, NULL);
	}
}

static int stream_truncate(SnapHandle *handle, uint64_t size)
{
	struct stream_handle *h = stream_of(handle);

	let_go(h);
	leave_preamble(h, size);
	return snap_incoming_truncate(h->in, &h->writer, size);
}

static void stream_clear(SnapHandle *handle)
{
	struct stream_handle *h = stream_of(handle);

	if (!h->reads_only)
		snap_incoming_leave(h->in, &h->writer);
	snap_node_unref(snap_incoming_node(h->in), 1);
	let_go(h);
	g_mutex_clear(&h->lock);
}

static const struct snap_handle_ops stream_handle_ops = {
	.mode = SNAP_HANDLE_DIRECT,
	.truncates_on_open = true,
	.read = stream_read,
	.await = stream_await,
	.forget = stream_forget,
	.write = stream_write,
	.flush = stream_flush,
	.sync = stream_sync,
	.truncate = stream_truncate,
	.clear = stream_clear,
};

static const struct snap_handle_ops reader_handle_ops = {
	.mode = SNAP_HANDLE_DIRECT,
	.read = stream_read,
	.await = stream_await,
	.forget = stream_forget,
	.clear = stream_clear,
};

/* ---- opening ---- */

int snap_stream_former(SnapSealed *sealed, struct snap_former *ret)
{
	struct snap_former former = { .exists = !snap_sealed_damaged(sealed) };
	struct stat st;
	int r = snap_sealed_stat(sealed, &st);

	if (r < 0)
		return r;
	former.owner.uid = st.st_uid;
	former.owner.gid = st.st_gid;
	former.owner.mode = st.st_mode & 07777;
	former.dev = st.st_dev;
	former.ino = st.st_ino;
	if (snap_view_size(&snap_view_stream, sealed, &former.size) < 0)
		former.exists = false;
	*ret = former;
	return 0;
}

SnapHandle *snap_stream_open(SnapTree *tree, SnapNode *folder, const char *name,
			     const struct snap_former *former,
			     const struct snap_caller *caller, SnapNode *node,
			     SnapNode **ret_node)
{
	SnapIncoming *in = NULL;
	struct stream_handle *h;

	for (;;) {
		in = snap_incoming_join(tree->incoming, folder, name, former);
		if (snap_incoming_enter(in))
			break;
		snap_node_unref(snap_incoming_node(in), 1);
	}
	h = snap_handle_new(sizeof(*h), &stream_handle_ops,
			    node ? node : snap_incoming_node(in));
	g_mutex_init(&h->lock);
	h->tree = tree;
	h->writer.uid = caller->uid;
	h->in = in;
	if (ret_node)
		*ret_node = snap_node_ref(h->handle.node);
	return &h->handle;
}

SnapHandle *snap_stream_open_to_read(SnapTree *tree, SnapNode *node)
{
	struct stream_handle *h =
		snap_handle_new(sizeof(*h), &reader_handle_ops, node);

	g_mutex_init(&h->lock);
	h->tree = tree;
	h->in = snap_incoming_of(snap_node_ref(node));
	h->reads_only = true;
	return &h->handle;
}
