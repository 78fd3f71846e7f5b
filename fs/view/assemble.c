/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A snapshot made of `ram` and `devstate`.
 *
 * The two are put together as a mapped-ram stream and saved as a copy of one
 * would be: from its beginning to its end, of the memory what is no hole. The
 * bitmaps, which come before the pages, name them all.
 */
#include "fs/view/writing-internal.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/log.h"

#define CHUNK (512 * SNAP_KIB)

static const char mount_ended[] =
	"the mount was ended while it was being saved";

typedef struct parts {
	SnapNode *folder;
	int state_fd;
	int ram_fd;
	struct stat state_st;
	struct stat ram_st;
	SnapParser *parser;
	SnapLayout *layout;
	uint8_t *buf; /* CHUNK bytes */
	SnapSave *save;
} parts;

static void parts_clear(struct parts *p)
{
	snap_close_fd(&p->state_fd);
	snap_close_fd(&p->ram_fd);
	g_clear_pointer(&p->parser, snap_parser_free);
	g_clear_pointer(&p->layout, snap_layout_free);
	g_clear_pointer(&p->save, snap_save_unref);
	g_clear_pointer(&p->buf, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(parts, parts_clear)

/* Reads exactly `size` bytes of a part. */
static int read_part(int fd, void *buf, size_t size, uint64_t offset)
{
	uint8_t *at = buf;

	while (size) {
		ssize_t n = pread(fd, at, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EPROTO;
		at += n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

/* ---- are they whole? ---- */

/* Steps through what was fed: nothing but state may come out. */
static int parse_events(SnapParser *parser, GError **error)
{
	struct snap_event e;
	int r;

	while ((r = snap_parser_step(parser, &e, error)) > 0) {
		if (e.kind == SNAP_EVENT_OPAQUE)
			return snap_fail(error, EPROTO, "%s", e.why);
		if (e.kind != SNAP_EVENT_RAM && e.kind != SNAP_EVENT_STATE)
			return snap_fail(error, EPROTO,
					 "it has pages of memory in it, which "
					 "no devstate has");
	}
	return r;
}

static int parse_state(struct parts *p, GError **error)
{
	uint64_t size = (uint64_t)p->state_st.st_size;

	p->parser = snap_parser_new();
	snap_parser_expect_devstate(p->parser);
	for (uint64_t at = 0; at < size;) {
		size_t n = MIN(size - at, CHUNK);
		int r = read_part(p->state_fd, p->buf, n, at);

		if (snap_tree_ending(p->folder->tree))
			return -ECANCELED;
		if (r < 0)
			return snap_fail_errno(error, -r, "reading it");
		snap_parser_feed(p->parser, p->buf, n);
		r = parse_events(p->parser, error);
		if (r < 0)
			return r;
		at += n;
	}
	return snap_parser_end(p->parser, error);
}

/* What stands before the pages is put into memory. */
static int check_head(const struct parts *p, GError **error)
{
	uint64_t size = snap_parser_info(p->parser)->pages_at;

	if (size <= SNAP_HEAD_MAX)
		return 0;
	return snap_fail(error, EPROTO,
			 "%" G_GUINT64_FORMAT
			 " bytes of device state stand before the pages",
			 size);
}

static int check_ram(const struct parts *p, GError **error)
{
	uint64_t want = snap_parser_info(p->parser)->ram.flat_size;
	uint64_t has = (uint64_t)p->ram_st.st_size;

	if (has == want)
		return 0;
	return snap_fail(error, EPROTO,
			 "it is %" G_GUINT64_FORMAT
			 " bytes long where devstate lists RAM "
			 "of %" G_GUINT64_FORMAT,
			 has, want);
}

/* Opens a part: -1 where there is none. */
static int open_part(SnapNode *folder, const struct snap_view *view,
		     struct stat *ret)
{
	int fd =
		snap_part_stat(folder, view, NULL)
			? openat(snap_store_node(folder)->fd, view->name,
				 O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
			: -1;

	if (fd >= 0 && fstat(fd, ret) == 0)
		return fd;
	snap_close_fd(&fd);
	return -1;
}

/* Leaves word in the folder (user.snapfs.error). */
static void note(const struct parts *p, const struct snap_view *view,
		 const char *what)
{
	g_autofree char *text = g_strdup_printf("%s %s", view->name, what);
	snap_autofd int fd = openat(snap_store_node(p->folder)->fd, ".",
				    O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		snap_catalog_note(fd, text);
}

/* What is wrong with a part: it is told who closes that one. */
static int not_whole(const struct parts *p, const struct snap_view *view,
		     const struct snap_view *closing, int r, GError *error)
{
	g_autofree char *path = snap_folder_path(p->folder, view->name);
	g_autoptr(GError) taken = error;

	if (view != closing || r == -ECANCELED)
		return view == closing ? r : 0;
	snap_log(SNAP_LOG_WARNING, "%s: is not whole: %s", path,
		 taken->message);
	note(p, view, taken->message);
	return r;
}

/* Opens both and looks at them: 1 when a snapshot can be made of them. */
static int open_parts(struct parts *p, const struct snap_view *closing)
{
	GError *error = NULL;
	int r;

	p->state_fd = open_part(p->folder, &snap_view_devstate, &p->state_st);
	p->ram_fd = open_part(p->folder, &snap_view_ram, &p->ram_st);
	if (p->state_fd < 0)
		return 0;
	p->buf = g_malloc(CHUNK);
	r = parse_state(p, &error);
	if (r == 0)
		r = check_head(p, &error);
	if (r < 0)
		return not_whole(p, &snap_view_devstate, closing, r, error);
	if (p->ram_fd < 0)
		return 0;
	r = check_ram(p, &error);
	/* Both are closed: who closes the second is told, whichever it is. */
	if (r < 0)
		return not_whole(p, &snap_view_ram,
				 closing ? &snap_view_ram : NULL, r, error);
	return 1;
}

/* ---- saving them ---- */

/* Saves bytes of a part as the stream's at `offset`. */
static int put_part(struct parts *p, int fd, uint64_t from, uint64_t size,
		    uint64_t offset)
{
	while (size) {
		size_t n = MIN(size, CHUNK);
		int r = read_part(fd, p->buf, n, from);

		if (r == 0)
			r = snap_save_put(p->save, p->buf, n, offset);
		if (r < 0)
			return r;
		from += n;
		offset += n;
		size -= n;
	}
	return 0;
}

/* Where the next data begins and ends in [at, end) of `ram`, in whole pages of
 * the guest; `end` twice when there is none. */
static void next_pages(const struct parts *p, const struct snap_ram_block *b,
		       uint64_t at, uint64_t *ret_from, uint64_t *ret_to)
{
	uint32_t page = snap_parser_info(p->parser)->target_page;
	uint64_t end = b->flat + b->length;
	off_t from = lseek(p->ram_fd, (off_t)at, SEEK_DATA), to;

	*ret_from = *ret_to = end;
	if (from < 0 && errno == ENXIO)
		return;
	if (from < 0)
		from = (off_t)at; /* a file system without holes */
	if ((uint64_t)from >= end)
		return;
	to = lseek(p->ram_fd, from, SEEK_HOLE);
	*ret_from = b->flat + ((uint64_t)from - b->flat) / page * page;
	if (to > from && (uint64_t)to < end)
		*ret_to =
			MIN(end, b->flat + snap_round_up((uint64_t)to - b->flat,
							 page));
}

static int put_pages(struct parts *p, const struct snap_run *run)
{
	const struct snap_ram_block *b =
		&snap_parser_info(p->parser)->ram.blocks[run->block];
	uint64_t at = b->flat, from, to;

	while (at < b->flat + b->length) {
		int r;

		next_pages(p, b, at, &from, &to);
		r = put_part(p, p->ram_fd, from, to - from,
			     run->offset + (from - b->flat));
		if (r < 0)
			return r;
		at = to;
	}
	return 0;
}

static int put_bitmap(struct parts *p, const struct snap_run *run)
{
	const struct snap_stream_info *info = snap_parser_info(p->parser);
	uint64_t pages =
		info->ram.blocks[run->block].length / info->target_page;
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < run->length; at += CHUNK) {
		size_t n = MIN(run->length - at, CHUNK);
		uint64_t bits = MIN(pages - MIN(pages, at * 8), n * 8);

		memset(p->buf, 0, n);
		memset(p->buf, 0xff, bits / 8);
		if (bits % 8)
			p->buf[bits / 8] = (uint8_t)((1u << bits % 8) - 1);
		r = snap_save_put(p->save, p->buf, n, run->offset + at);
	}
	return r;
}

static int put_run(struct parts *p, const struct snap_run *run)
{
	switch (run->kind) {
	case SNAP_RUN_LITERAL:
		return snap_save_put(p->save, run->data, run->length,
				     run->offset);
	case SNAP_RUN_STATE:
		return put_part(p, p->state_fd, run->state, run->length,
				run->offset);
	case SNAP_RUN_BITMAP:
		return put_bitmap(p, run);
	case SNAP_RUN_PAGES:
		return put_pages(p, run);
	default:
		return 0;
	}
}

static int put_all(struct parts *p)
{
	uint64_t size = snap_layout_size(p->layout), at = 0;
	struct snap_run run;
	int r = 0;

	while (r == 0 && at < size && snap_layout_find(p->layout, at, &run)) {
		r = put_run(p, &run);
		at = run.offset + run.length;
	}
	return r;
}

/* Begins the save of a stream that the parts make. */
static int begin(struct parts *p, GError **error)
{
	SnapTree *tree = p->folder->tree;
	struct snap_stream_info info = *snap_parser_info(p->parser);
	g_autofree char *path = snap_folder_path(p->folder, NULL);
	g_autofree uint8_t *head = g_malloc(info.pages_at);
	snap_autofd int fd = openat(snap_store_node(p->folder)->fd, ".",
				    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct snap_save_opts opts = {
		.folder_fd = fd,
		.path = path,
		.name = snap_view_ram.name,
		.owner = { p->ram_st.st_uid, p->ram_st.st_gid,
			   p->ram_st.st_mode & 0777 },
		.classic = true,
		.first = true,
	};
	int r = fd < 0 ? -errno
		       : read_part(p->state_fd, head, info.pages_at, 0);

	if (r < 0)
		return snap_fail_errno(error, -r, "reading devstate");
	if (!tree->privileged)
		opts.owner.uid = opts.owner.gid = (uid_t)-1;
	info.state_size = (uint64_t)p->state_st.st_size;
	r = snap_layout_mapped(&info, head, info.pages_at, 0, &p->layout,
			       error);
	if (r < 0)
		return r;
	r = snap_save_new(tree->opts.saver, &opts, &p->save, error);
	if (r < 0)
		return r;
	snap_writers_watch(tree, p->save);
	/* Who ends the mount may have been too early to find it. */
	if (snap_tree_ending(tree))
		snap_save_abort(p->save, mount_ended);
	return 0;
}

/* Gives the snapshot the times that the parts have, which go. */
static void finish(struct parts *p, const struct stat *st)
{
	int folder = snap_store_node(p->folder)->fd;
	snap_autofd int fd = openat(folder, SNAP_CATALOG_SNAPSHOT,
				    O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		snap_store_setattr(fd, SNAP_SET_ATIME | SNAP_SET_MTIME, st);
	unlinkat(folder, snap_view_ram.name, 0);
	unlinkat(folder, snap_view_devstate.name, 0);
	snap_writers_tell(p->folder);
}

/* Saves parts that are whole: 1, -errno. */
static int save(struct parts *p)
{
	g_autofree char *path = snap_folder_path(p->folder, NULL);
	g_autoptr(GError) error = NULL;
	int r = begin(p, &error);

	if (r < 0) {
		snap_log(SNAP_LOG_ERROR,
			 "%s: no snapshot can be made of ram and devstate: %s",
			 path, error->message);
		return r == -EBADMSG ? -EPROTO : r;
	}
	r = put_all(p);
	if (r < 0)
		snap_save_abort(p->save, "its parts cannot be read");
	snap_save_end(p->save);
	/* It says itself why it failed. */
	r = snap_save_wait(p->save, NULL);
	return r < 0 ? snap_told(r) : 1;
}

int snap_parts_assemble(SnapNode *folder, const struct snap_view *closing)
{
	g_auto(parts) p = { .folder = folder, .state_fd = -1, .ram_fd = -1 };
	int r = open_parts(&p, closing);

	if (r <= 0)
		return r;
	snap_parts_take(folder, true);
	/* Who wrote meanwhile closes it, and then it is looked at again. */
	r = snap_parts_unfinished(folder, NULL) ? 0 : save(&p);
	if (r <= 0) {
		snap_parts_take(folder, false);
		return r;
	}
	finish(&p, closing == &snap_view_devstate ? &p.state_st : &p.ram_st);
	return 1;
}
