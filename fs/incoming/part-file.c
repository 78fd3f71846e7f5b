/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The node of a part, and the open files by which it is written and read. */
#include "fs/incoming/parts-internal.h"

#include <fcntl.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"

typedef struct {
	SnapStoreNode store;
	SnapIncomingTable *table;
	SnapNode *folder; /* its parent */
	enum snap_part part;
} PartNode;

/* ---- the open file ---- */

/* Notes that a handle changes its part: 0; -EBUSY while a snapshot is made of
 * the parts, and afterwards. */
static int begin_change(SnapHandle *handle)
{
	struct snap_part_handle *h = (struct snap_part_handle *)handle;
	SNAP_LOCKED(&h->parts->table->lock);

	h->wrote = true;
	h->closed = false;
	return h->parts->busy || h->replaced ? -EBUSY : 0;
}

/* The part is at least so long now. */
static void has_grown(struct snap_part_handle *h, uint64_t end)
{
	uint64_t *size = &h->parts->size[h->part];
	SNAP_LOCKED(&h->parts->table->lock);

	*size = MAX(*size, end);
}

static void keep_result(void *data, ssize_t result)
{
	*(ssize_t *)data = result;
}

static void part_write(SnapHandle *handle, const void *buf, size_t size,
		       uint64_t offset, snap_handle_answer answer, void *data)
{
	struct snap_part_handle *h = (struct snap_part_handle *)handle;
	ssize_t n = begin_change(handle);

	if (n == 0)
		n = snap_part_proof_write(h, offset);
	if (n == 0) {
		snap_ordinary_write(handle, buf, size, offset, keep_result, &n);
		if (n > 0)
			has_grown(h, offset + (uint64_t)n);
	}
	answer(data, n);
}

static int part_truncate(SnapHandle *handle, uint64_t size)
{
	struct snap_part_handle *h = (struct snap_part_handle *)handle;
	int r = begin_change(handle);

	if (r == 0)
		r = snap_part_proof_truncate(h, size);
	if (r == 0)
		r = snap_ordinary_truncate(handle, size);
	if (r == 0) {
		SNAP_LOCKED(&h->parts->table->lock);
		h->parts->size[h->part] = size;
	}
	return r;
}

static int part_allocate(SnapHandle *handle, int mode, int64_t offset,
			 int64_t length)
{
	struct snap_part_handle *h = (struct snap_part_handle *)handle;
	int r = begin_change(handle);

	if (r == 0)
		r = snap_part_proof_allocate(h, mode, (uint64_t)offset,
					     (uint64_t)length);
	if (r == 0)
		r = snap_ordinary_allocate(handle, mode, offset, length);
	if (r == 0 && !(mode & FALLOC_FL_KEEP_SIZE))
		has_grown(h, (uint64_t)(offset + length));
	return r;
}

static void part_flush(SnapHandle *handle, snap_handle_answer answer,
		       void *data)
{
	struct snap_part_handle *h = (struct snap_part_handle *)handle;
	struct snap_closing closing = { answer, data };
	struct snap_parts *p = h->parts;
	bool waits;

	g_mutex_lock(&p->table->lock);
	waits = h->wrote && !h->replaced;
	if (waits) {
		h->closed = true;
		p->last_closed = h->part;
		g_array_append_val(p->closings, closing);
		p->users++; /* the answer may free the handle */
	}
	g_mutex_unlock(&p->table->lock);
	if (!waits) {
		answer(data, 0);
		return;
	}
	snap_parts_consider(p);
	snap_parts_release(p);
}

static void part_clear_handle(SnapHandle *handle)
{
	struct snap_part_handle *h = (struct snap_part_handle *)handle;
	struct snap_parts *p = h->parts;
	bool was_open;

	close(h->plain.fd);
	g_mutex_lock(&p->table->lock);
	g_queue_unlink(&p->handles, &h->link);
	was_open = !h->closed;
	g_mutex_unlock(&p->table->lock);
	/* The other parts may have waited for this one. */
	if (was_open)
		snap_parts_consider(p);
	snap_parts_release(p);
}

static const struct snap_handle_ops part_handle_ops = {
	/* Otherwise the kernel does not say which process writes. */
	.mode = SNAP_HANDLE_DIRECT, .truncates_on_open = true,
	.read = snap_ordinary_read, .write = part_write,
	.flush = part_flush,	    .truncate = part_truncate,
	.sync = snap_ordinary_sync, .seek = snap_ordinary_seek,
	.allocate = part_allocate,  .clear = part_clear_handle,
};

int snap_part_open(SnapNode *node, int fd, SnapHandle **ret_handle)
{
	PartNode *part = (PartNode *)node;
	struct snap_part_handle *h =
		snap_handle_new(sizeof(*h), &part_handle_ops, node);
	struct stat st;

	h->plain.fd = fd;
	h->link.data = h;
	h->parts = snap_parts_use(part->table, part->folder);
	h->part = part->part;
	g_mutex_lock(&part->table->lock);
	g_queue_push_tail_link(&h->parts->handles, &h->link);
	g_mutex_unlock(&part->table->lock);
	/* A save of the parts that runs does not know the handle. After it, the
	 * name is that of a view. */
	snap_parts_wait(part->table, part->folder);
	if (fstat(fd, &st) == 0 && st.st_nlink) {
		snap_part_proof_open(h);
		*ret_handle = &h->plain.handle;
		return 0;
	}
	snap_handle_close(&h->plain.handle);
	return -ESTALE;
}

static void reader_clear(SnapHandle *handle)
{
	close(snap_ordinary_fd(handle));
}

static const struct snap_handle_ops reader_ops = {
	/* Its writers are not cached. */
	.mode = SNAP_HANDLE_DIRECT,
	.read = snap_ordinary_read,
	.seek = snap_ordinary_seek,
	.clear = reader_clear,
};

/* ---- the node ---- */

static int part_open(SnapNode *node, int flags,
		     const struct snap_caller *caller, SnapHandle **ret_handle)
{
	int fd = snap_ordinary_reopen(node, flags);
	struct snap_ordinary_handle *h;

	if (fd < 0)
		return fd;
	if ((flags & O_ACCMODE) != O_RDONLY)
		return snap_part_open(node, fd, ret_handle);
	h = snap_handle_new(sizeof(*h), &reader_ops, node);
	h->fd = fd;
	*ret_handle = &h->handle;
	return 0;
}

/* Notes that a part is given a length by its name. */
static int note_length(SnapNode *node, off_t size)
{
	snap_autofd int fd = snap_ordinary_reopen(node, O_WRONLY);
	struct stat now;

	if (fd < 0)
		return fd;
	if (fstat(fd, &now) < 0)
		return -errno;
	return size > now.st_size ? snap_part_proof_set(fd, SNAP_PART_AHEAD)
				  : 0;
}

/* A process may cut a part by its name while another one has it open. */
static int part_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
			const struct stat *st)
{
	PartNode *part = (PartNode *)node;
	int r = set & SNAP_SET_SIZE ? note_length(node, st->st_size) : 0;
	struct snap_parts *p;

	if (r == 0)
		r = snap_ordinary_setattr(node, handle, set, st);
	if (r < 0 || !(set & SNAP_SET_SIZE))
		return r;
	p = snap_parts_use(part->table, part->folder);
	g_mutex_lock(&part->table->lock);
	p->size[part->part] = (uint64_t)st->st_size;
	g_mutex_unlock(&part->table->lock);
	snap_parts_release(p);
	return 0;
}

static const struct snap_node_ops part_ops = {
	.getattr = snap_store_getattr,
	.setattr = part_setattr,
	.open = part_open,
	.clear = snap_store_clear,
};

int snap_part_lookup(SnapIncomingTable *table, SnapNode *folder,
		     const char *name, SnapNode **ret_node)
{
	snap_autofd int at = snap_store_open(folder);
	snap_autofd int fd = -1;
	struct snap_store_look look;
	PartNode *p;
	int r;

	if (at < 0)
		return at;
	fd = snap_open_below(at, name, O_PATH, 0);
	r = fd < 0 ? fd : snap_store_look(fd, "", &look);
	if (r < 0)
		return r;
	if (!S_ISREG(look.mode) || !snap_part_is_name(name))
		return -ENOENT;
	p = g_new0(PartNode, 1);
	p->store.node.ops = &part_ops;
	p->store.node.key = snap_store_key(&look);
	p->store.node.key.kind = &part_ops;
	p->store.node.key.words[SNAP_STORE_WORDS] = snap_node_number(folder);
	p->store.type = S_IFREG;
	p->table = table;
	p->folder = folder;
	p->part = snap_part_of(name);
	*ret_node = snap_store_intern(table->opts.plain, &p->store,
				      snap_steal_fd(&fd), folder, name);
	return 0;
}
