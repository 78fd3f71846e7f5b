/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first bytes of a file: its head, or the stream, whose first byte begins
 * the save.
 */
#include "fs/incoming/incoming-internal.h"

#include <fcntl.h>
#include <unistd.h>

#include "format/base/asked.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "format/base/log.h"

/* The number of the mount that a file lies on; 0 where it is not known. */
static uint64_t mount_number(int fd)
{
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_MNT_ID,
		  &stx) < 0 ||
	    !(stx.stx_mask & STATX_MNT_ID))
		return 0;
	return stx.stx_mnt_id;
}

/* Checks that the snapshot can be moved into the folder at the end. */
static int check_mount(SnapIncoming *in, int folder_fd)
{
	uint64_t here = mount_number(folder_fd);
	uint64_t there =
		mount_number(snap_catalog_tmp_fd(in->table->opts.catalog));

	if (!here || !there || here == there)
		return 0;
	return snap_incoming_refuse_locked(
		in, EXDEV,
		"the folder is on another file system than the store's " SNAP_CATALOG_TMP
		", from where a snapshot is moved into it");
}

/* The save is over: the stream leaves the table, and the names in its folder
 * stand for other nodes. Runs in the save's thread, before the last write is
 * answered. */
static void on_over(void *data, SnapSave *save, bool saved)
{
	SnapIncoming *in = data;
	SnapIncomingTable *table = in->table;
	GQueue readers;
	bool current;
	GList *link;

	g_mutex_lock(&in->lock);
	current = in->save == save;
	snap_incoming_note_locked(in);
	/* The snapshot has it. If the save has timed out, another writer may
	 * use it by now. */
	if (current && saved && snap_incoming_is_put(in))
		snap_head_drop(in);
	readers = in->readers;
	g_queue_init(&in->readers);
	for (link = readers.head; link; link = link->next)
		((struct snap_waiter *)link->data)->waits = false;
	g_mutex_unlock(&in->lock);
	if (current)
		snap_incoming_drop(in);
	snap_incoming_end_save(table, save);
	snap_folder_changed(in->folder);
	if (saved)
		snap_parts_replaced(table, in->folder, true);
	while ((link = g_queue_pop_head_link(&readers)))
		((struct snap_waiter *)link->data)->wake(link->data);
	snap_node_unref(&in->node, 1);
}

int snap_parent_ask(SnapIncomingTable *table, SnapNode *folder,
		    const void *path, size_t size)
{
	g_autoptr(GError) error = NULL;
	int r = snap_catalog_can_link(table->opts.catalog, &error);

	if (r == 0)
		return snap_store_setxattr(folder, SNAP_PARENT_ATTRIBUTE, path,
					   size, 0);
	snap_log(SNAP_LOG_WARNING, "%s", error->message);
	return r;
}

/* Takes the path of the parent that a caller has asked for; NULL: of none. */
static char *take_parent(SnapNode *folder)
{
	char path[PATH_MAX];
	ssize_t n = snap_store_getxattr(folder, SNAP_PARENT_ATTRIBUTE, path,
					sizeof(path));

	if (n <= 0)
		return NULL;
	(void)snap_store_removexattr(folder, SNAP_PARENT_ATTRIBUTE);
	return g_strndup(path, (gsize)n);
}

/* Begins the save of a stream that begins at `begin`. */
static int begin_locked(SnapIncoming *in, const struct snap_writer *writer,
			uint64_t begin)
{
	SnapIncomingTable *table = in->table;
	g_autofree char *path = snap_folder_path(in->folder, NULL);
	g_autofree char *parent = take_parent(in->folder);
	snap_autofd int at = snap_store_open(in->folder);
	snap_autofd int fd = at < 0 ? at : snap_open_folder(at);
	struct snap_save_opts opts = { .folder_fd = fd,
				       .path = path,
				       .parent = parent,
				       .name = snap_incoming_name(in),
				       .owner = in->former.owner,
				       .uid = writer->uid,
				       .begin = begin,
				       .preamble_fd = -ENOENT,
				       .over = on_over,
				       .over_data = in };
	g_autoptr(GError) error = NULL;
	int r;

	if (fd < 0)
		return fd;
	r = check_mount(in, fd);
	if (r < 0)
		return r;
	if (begin)
		opts.preamble_fd = snap_head_open(in);
	if (opts.preamble_fd < 0 && opts.preamble_fd != -ENOENT)
		return snap_incoming_refuse_locked(
			in, -opts.preamble_fd,
			"what stands before the stream cannot be read");
	snap_node_ref(&in->node);
	r = snap_save_new(table->opts.saver, &opts, &in->save, &error);
	if (r < 0) {
		snap_node_unref(&in->node, 1);
		return snap_incoming_refuse_locked(in, -r, error->message);
	}
	if (snap_incoming_begin_save(table, in->save) < 0)
		snap_save_abort(in->save,
				"the mount was ended while it was being saved");
	snap_incoming_put(in);
	in->state = SNAP_INCOMING_SAVING;
	in->writer = writer;
	in->head.begin = begin;
	return 0;
}

/* Nobody waits for bytes that another write has brought. */
static void ignore(void *data, ssize_t result)
{
}

/* Gives the save the bytes of the stream that are in the head: its beginning
 * stands at the border of two writes. */
static void give_beginning_locked(SnapIncoming *in, uint64_t begin,
				  uint64_t offset)
{
	uint8_t bytes[SNAP_SAVE_FIND];
	ssize_t n = snap_head_read(in, bytes, (size_t)(offset - begin), begin);

	if (n > 0)
		snap_save_write(in->save, bytes, (size_t)n, begin, ignore,
				NULL);
}

/* Takes a write to the head. Bytes without end in which no stream begins are
 * not kept. */
static ssize_t write_head_locked(SnapIncoming *in, const uint8_t *buf,
				 size_t size, uint64_t offset)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *why = NULL;
	snap_autofd int at = -1;
	int r = snap_head_write(in, buf, size, offset, &error);

	if (r == 0) {
		in->state = SNAP_INCOMING_HEAD;
		return (ssize_t)size;
	}
	if (r != -EPROTO && r != -EOPNOTSUPP)
		return snap_incoming_refuse_locked(in, -r, error->message);
	snap_head_drop(in);
	in->state = SNAP_INCOMING_EMPTY;
	at = snap_store_open(in->folder);
	snap_catalog_note(at, error->message);
	why = g_strconcat("not saved: ", error->message, NULL);
	return snap_incoming_refuse_locked(in, -r, why);
}

ssize_t snap_incoming_first_locked(SnapIncoming *in,
				   const struct snap_writer *writer,
				   const uint8_t *buf, size_t size,
				   uint64_t offset)
{
	uint64_t begin;
	int r;

	if (!snap_head_find(in, buf, size, offset, &begin))
		return write_head_locked(in, buf, size, offset);
	if (in->head.reach > offset)
		return snap_incoming_refuse_locked(
			in, EINVAL,
			"the beginning of the stream was written after bytes "
			"that stand behind it");
	r = begin_locked(in, writer, begin);
	if (r == 0 && begin < offset)
		give_beginning_locked(in, begin, offset);
	if (r == 0)
		snap_head_end(in, begin);
	return r;
}
