/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stream on its way into a folder, and the handles it is written by.
 *
 * Who opens `stream` to write joins the one that is under way, so a second
 * channel is never refused; QEMU would crash its guest. Nothing happens before
 * the first byte. It begins the save, and makes its handle the writer: another
 * one may go on where the stream stands, but neither begin anew nor elsewhere.
 * When the last handle is closed the stream has ended.
 *
 *	no save ──first byte──▶ running ──▶ done, or failed
 *	   ▲                       │
 *	   └──truncate(0) by writer┘
 */
#include "fs/view/view-internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/log.h"

static SnapIncoming *incoming(SnapNode *node)
{
	return (SnapIncoming *)node;
}

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
	gint users; /* who hands it on, and who answers; atomic */
};

static bool save_is_over(SnapSave *save)
{
	uint64_t bytes;

	return snap_save_state(save, &bytes) != SNAP_SAVE_RUNNING;
}

/* Logs a refusal with the name of the stream. */
static int refuse(SnapIncoming *in, int code, const char *why)
{
	g_autofree char *path =
		snap_folder_path(in->folder, snap_view_stream.name);

	snap_log(SNAP_LOG_WARNING, "%s: %s", path, why);
	return -code;
}

bool snap_incoming_open_for(SnapIncoming *in)
{
	bool open;

	g_mutex_lock(&in->lock);
	open = !in->ended && !(in->save && save_is_over(in->save));
	g_mutex_unlock(&in->lock);
	return open;
}

bool snap_incoming_shown(SnapIncoming *in)
{
	bool shown;

	g_mutex_lock(&in->lock);
	shown = in->save ? !in->removed && !save_is_over(in->save)
			 : in->handles > 0;
	g_mutex_unlock(&in->lock);
	return shown;
}

/* ---- writing ---- */

/* The number of the mount that something lies on; 0 when it is not known. */
static uint64_t mount_number(int fd, const char *name)
{
	struct statx stx;

	if (statx(fd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_MNT_ID,
		  &stx) < 0 ||
	    !(stx.stx_mask & STATX_MNT_ID))
		return 0;
	return stx.stx_mnt_id;
}

/* Checks that what is saved can be moved into the folder at the end. */
static int check_mount(SnapIncoming *in, int folder_fd)
{
	int store_fd = snap_catalog_fd(in->node.tree->opts.catalog);
	uint64_t here = mount_number(folder_fd, "");
	uint64_t there = mount_number(store_fd, SNAP_CATALOG_TMP);

	if (!here || !there || here == there)
		return 0;
	return refuse(
		in, EXDEV,
		"the folder is on another file system than the store's " SNAP_CATALOG_TMP
		", from where a snapshot is moved into "
		"it");
}

/* Begins the save. */
static int begin_locked(SnapIncoming *in)
{
	SnapTree *tree = in->node.tree;
	g_autofree char *path = snap_folder_path(in->folder, NULL);
	snap_autofd int fd = openat(snap_store_node(in->folder)->fd, ".",
				    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct snap_save_opts opts = { .folder_fd = fd,
				       .path = path,
				       .owner = in->owner };
	g_autoptr(GError) error = NULL;
	int r;

	if (fd < 0)
		return -errno;
	r = check_mount(in, fd);
	if (r < 0)
		return r;
	r = snap_save_new(tree->opts.saver, &opts, &in->save, &error);
	if (r < 0)
		return refuse(in, -r, error->message);
	snap_writers_watch(tree, in->save);
	snap_writers_put(in);
	return 0;
}

/* Checks that a write may be handed on, and begins the save if it is the
 * first. */
static int accept_locked(SnapIncoming *in, SnapHandle *handle, uint64_t offset)
{
	g_autofree char *why = NULL;
	int r;

	if (in->removed)
		return -ECANCELED;
	if (in->save && handle != in->writer && offset != in->received)
		return refuse(in, EBUSY, "is being saved by another writer");
	if (offset != in->received) {
		why = g_strdup_printf(
			"a write at offset %" G_GUINT64_FORMAT
			" where the stream stands at %" G_GUINT64_FORMAT
			"; a stream is written from its beginning to its end",
			offset, in->received);
		return refuse(in, EINVAL, why);
	}
	if (in->save)
		return 0;
	r = begin_locked(in);
	if (r == 0)
		in->writer = handle;
	return r;
}

/* Tells that the names of the views in a folder mean something else now. */
static void tell_change(SnapIncoming *in)
{
	SnapTree *tree = in->node.tree;

	for (guint i = 0; tree->changed && i < snap_n_views; i++)
		tree->changed(tree->changed_data, in->folder,
			      snap_views[i]->name);
}

void snap_incoming_reap(SnapIncoming *in)
{
	bool over;

	g_mutex_lock(&in->lock);
	over = in->save && save_is_over(in->save);
	g_mutex_unlock(&in->lock);
	if (over && snap_writers_drop(in))
		tell_change(in);
}

/* One write less. */
static void write_over_locked(SnapTree *tree)
{
	if (--tree->writes == 0)
		g_cond_broadcast(&tree->idle);
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
	g_mutex_lock(&tree->lock);
	if (in->node.refs > 1) {
		in->node.refs--;
		write_over_locked(tree);
		g_mutex_unlock(&tree->lock);
		return;
	}
	g_mutex_unlock(&tree->lock);
	snap_node_unref(&in->node, 1);
	/* The tree may go as soon as no write is left. */
	g_mutex_lock(&tree->lock);
	write_over_locked(tree);
	g_mutex_unlock(&tree->lock);
}

static void answered(void *data, ssize_t result)
{
	struct pending *p = data;
	bool over = save_is_over(p->save) && snap_writers_drop(p->in);

	p->answer(p->data, result < 0 ? snap_told((int)result) : result);
	if (over)
		tell_change(p->in);
	pending_done(p);
}

/* What is remembered until a write is answered, and has returned. */
static struct pending *pending_new(SnapIncoming *in, snap_handle_answer answer,
				   void *data)
{
	struct pending *p = g_new0(struct pending, 1);
	SnapTree *tree = in->node.tree;

	p->in = in;
	p->save = snap_save_ref(in->save);
	p->answer = answer;
	p->data = data;
	p->users = 2;
	g_mutex_lock(&tree->lock);
	tree->writes++;
	in->node.refs++;
	g_mutex_unlock(&tree->lock);
	return p;
}

static void incoming_write(SnapHandle *handle, const void *buf, size_t size,
			   uint64_t offset, snap_handle_answer answer,
			   void *data)
{
	SnapIncoming *in = ((struct incoming_handle *)handle)->in;
	struct pending *p;
	int r;

	/* Held while the save takes the bytes: they come in order. */
	g_mutex_lock(&in->lock);
	r = accept_locked(in, handle, offset);
	if (r < 0) {
		g_mutex_unlock(&in->lock);
		answer(data, r);
		return;
	}
	p = pending_new(in, answer, data);
	if (offset == in->received)
		in->received += size;
	snap_save_write(in->save, buf, size, offset, answered, p);
	g_mutex_unlock(&in->lock);
	pending_done(p);
}

/* QEMU does not look at what close says, but mv and cp do, before the one
 * deletes its source. Of several writers the first speaks for the stream. */
static void incoming_flush(SnapHandle *handle, snap_handle_answer answer,
			   void *data)
{
	SnapIncoming *in = ((struct incoming_handle *)handle)->in;
	struct pending *p;

	g_mutex_lock(&in->lock);
	if (!in->save || in->removed || handle != in->writer) {
		g_mutex_unlock(&in->lock);
		answer(data, 0);
		return;
	}
	p = pending_new(in, answer, data);
	snap_save_check(in->save, answered, p);
	g_mutex_unlock(&in->lock);
	pending_done(p);
}

/* Lets go of the save; one that runs is dropped on purpose. */
static void drop_save_locked(SnapIncoming *in)
{
	if (!in->save)
		return;
	snap_save_abort(in->save, NULL);
	g_clear_pointer(&in->save, snap_save_unref);
	in->writer = NULL;
	in->received = 0;
}

static int truncate_locked(SnapIncoming *in, SnapHandle *handle, uint64_t size)
{
	if (size == in->received)
		return 0;
	if (size)
		return refuse(in, EINVAL,
			      "cannot be cut to a size: a stream is written "
			      "from its beginning to its end");
	if ((!handle || handle != in->writer) && !save_is_over(in->save))
		return refuse(in, EBUSY, "is being saved by another writer");
	drop_save_locked(in);
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
	if (in->save && save_is_over(in->save))
		r = 0;
	else
		r = truncate_locked(in, NULL, size);
	g_mutex_unlock(&in->lock);
	return r;
}

static ssize_t incoming_read(SnapHandle *handle, void *buf, size_t size,
			     uint64_t offset)
{
	return -EBUSY;
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
	}
	g_mutex_unlock(&in->lock);
	snap_node_unref(&in->node, 1);
}

static const struct snap_handle_ops incoming_handle_ops = {
	.mode = SNAP_HANDLE_DIRECT,
	.read = incoming_read,
	.write = incoming_write,
	.flush = incoming_flush,
	.truncate = incoming_truncate,
	.clear = incoming_handle_clear,
};

SnapHandle *snap_incoming_handle(SnapIncoming *in, SnapNode *node)
{
	struct incoming_handle *h;
	bool open;

	g_mutex_lock(&in->lock);
	open = !in->ended && !(in->save && save_is_over(in->save));
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
	if (in->save && !save_is_over(in->save))
		refuse(in, 0, "was removed while it was being saved");
	if (in->save)
		snap_save_abort(in->save, NULL);
	g_mutex_unlock(&in->lock);
	snap_writers_drop(in);
}

/* ---- the node ---- */

uint64_t snap_incoming_ino(const SnapNode *node)
{
	return node->serial | (uint64_t)1 << 62;
}

static int incoming_getattr(SnapNode *node, SnapHandle *handle,
			    struct snap_attr *ret_attr)
{
	SnapIncoming *in = incoming(node);
	struct stat *st = &ret_attr->st;

	if (fstatat(snap_store_node(in->folder)->fd, "", st, AT_EMPTY_PATH) < 0)
		return -errno;
	g_mutex_lock(&in->lock);
	st->st_size = (off_t)in->received;
	if (in->owner.uid != (uid_t)-1)
		st->st_uid = in->owner.uid;
	if (in->owner.gid != (gid_t)-1)
		st->st_gid = in->owner.gid;
	st->st_mode = S_IFREG | (in->owner.mode & 0777);
	g_mutex_unlock(&in->lock);
	st->st_blocks = 0;
	st->st_nlink = 1;
	st->st_ino = snap_incoming_ino(node);
	st->st_atim = st->st_mtim = st->st_ctim = in->began;
	return 0;
}

/* Before the first byte it is remembered; on a snapshot that is done it is
 * done to its file; between the two there is no file yet. */
static int incoming_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
			    const struct stat *st)
{
	SnapIncoming *in = incoming(node);
	snap_autofd int fd = -1;
	bool over;

	if (set & SNAP_SET_SIZE) {
		int r = snap_incoming_cut(in, (uint64_t)st->st_size);

		if (r < 0)
			return r;
	}
	g_mutex_lock(&in->lock);
	over = in->save && save_is_over(in->save);
	if (set & SNAP_SET_MODE)
		in->owner.mode = st->st_mode & 07777;
	if ((set & SNAP_SET_UID) && node->tree->privileged)
		in->owner.uid = st->st_uid;
	if ((set & SNAP_SET_GID) && node->tree->privileged)
		in->owner.gid = st->st_gid;
	g_mutex_unlock(&in->lock);
	if (!over)
		return 0;
	fd = openat(snap_store_node(in->folder)->fd, SNAP_CATALOG_SNAPSHOT,
		    O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : snap_store_setattr(fd, set, st);
}

static int incoming_open(SnapNode *node, int flags,
			 const struct snap_caller *caller,
			 SnapHandle **ret_handle)
{
	SnapIncoming *in = incoming(node);

	snap_ticket_find(in->folder, caller->pid, true);
	if ((flags & O_ACCMODE) == O_RDONLY)
		return -EBUSY;
	*ret_handle = snap_writers_open(in->folder, &in->owner, node);
	return 0;
}

static void incoming_clear(SnapNode *node)
{
	SnapIncoming *in = incoming(node);

	snap_writers_drop(in);
	if (in->save)
		snap_save_unref(in->save);
	snap_node_unref(in->folder, 1);
	g_mutex_clear(&in->lock);
}

const struct snap_node_ops snap_incoming_ops = {
	.getattr = incoming_getattr,
	.setattr = incoming_setattr,
	.open = incoming_open,
	.clear = incoming_clear,
};

SnapIncoming *snap_incoming_new(SnapNode *folder,
				const struct snap_catalog_owner *owner)
{
	SnapIncoming *in = g_new0(SnapIncoming, 1);
	static uint64_t number;

	in->node.ops = &snap_incoming_ops;
	in->node.tree = folder->tree;
	in->node.key.kind = &snap_incoming_ops;
	in->node.key.extra = __atomic_add_fetch(&number, 1, __ATOMIC_RELAXED);
	g_mutex_init(&in->lock);
	in->folder = snap_node_ref(folder);
	in->owner = *owner;
	if (!folder->tree->privileged) {
		in->owner.uid = (uid_t)-1;
		in->owner.gid = (gid_t)-1;
	}
	clock_gettime(CLOCK_REALTIME, &in->began);
	snap_node_intern(&in->node);
	return in;
}
