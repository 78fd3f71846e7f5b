/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The head of a stream: what is written before it is known where the stream
 * begins. A program may write a header of its own, close the file, and let QEMU
 * write behind it. So the head is an ordinary file of the store, by the name of
 * the stream, until a snapshot replaces it. It stays where no stream ever
 * comes.
 *
 * The stream begins where its magic stands, if that is the beginning of the
 * file or the place that it was cut to (QEMU's file:PATH,offset=N cuts it), or
 * else at the first place that looks like the beginning of a stream.
 */
#include "fs/incoming/incoming-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "format/base/units.h"
#include "format/base/zero.h"

/* The most zeros that may be written before a stream. More may be a hole. */
#define ZEROS_MAX (64 * SNAP_MIB)

bool snap_head_stat(SnapNode *folder, const char *name, struct stat *ret)
{
	snap_autofd int at = snap_store_open(folder);

	return fstatat(at, name, ret, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISREG(ret->st_mode);
}

bool snap_head_remove(SnapNode *folder, const char *name)
{
	snap_autofd int at = snap_store_open(folder);

	return unlinkat(at, name, 0) == 0;
}

/* Gives the file the owner and mode that its snapshot will have. */
static void give(int fd, const struct snap_catalog_owner *owner)
{
	/* Whoever may not give files away keeps them. */
	if (snap_set_owner(fd, owner->uid, owner->gid) == 0)
		snap_set_mode(fd, owner->mode & 0777);
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_ino && a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

void snap_remove_file(SnapNode *folder, const char *name, const struct stat *st)
{
	struct stat now;

	if (st->st_ino && snap_head_stat(folder, name, &now) &&
	    is_same(st, &now))
		snap_head_remove(folder, name);
}

/* True when the file grants at least what the stream does, of which the kernel
 * has asked. Its owner may grant himself anything. */
static bool grants(const struct stat *st,
		   const struct snap_catalog_owner *owner)
{
	return (owner->uid == (uid_t)-1 || owner->uid == st->st_uid) &&
	       (owner->gid == (gid_t)-1 || owner->gid == st->st_gid) &&
	       !(owner->mode & 0077 & ~st->st_mode);
}

void snap_head_take(SnapIncoming *in)
{
	struct snap_head *h = &in->head;
	struct stat st;

	*h = (struct snap_head){ .fd = h->fd };
	if (!snap_head_stat(in->folder, snap_incoming_name(in), &st))
		return;
	h->st = st;
	if (!grants(&st, &in->former.owner))
		return;
	h->ino = st.st_ino;
	h->size = (uint64_t)st.st_size;
}

/* Opens the file of the head. Another one may have its name by now, which the
 * process that has the stream open may not use: -ESTALE. -ENOENT, -errno. */
static int open_file(SnapIncoming *in, int flags)
{
	snap_autofd int at = snap_store_open(in->folder);
	snap_autofd int fd =
		at < 0 ? at
		       : snap_open_below(at, snap_incoming_name(in), flags, 0);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	/* The number of a file that was removed may be another one's. */
	if (!is_same(&in->head.st, &st) || !grants(&st, &in->former.owner))
		return -ESTALE;
	return snap_steal_fd(&fd);
}

/* Makes the file of the head: a descriptor, -errno. */
static int make_file(SnapIncoming *in)
{
	snap_autofd int at = snap_store_open(in->folder);
	snap_autofd int fd =
		at < 0 ? at
		       : snap_open_below(at, snap_incoming_name(in),
					 O_RDWR | O_CREAT | O_EXCL, 0600);

	if (fd < 0)
		return fd;
	if (!snap_plain_fd_fits(in->table->opts.plain, fd)) {
		unlinkat(at, snap_incoming_name(in), 0);
		return -ENFILE;
	}
	give(fd, &in->former.owner);
	if (fstat(fd, &in->head.st) < 0)
		return -errno;
	return snap_steal_fd(&fd);
}

/* Opens the file of the head; with `make`, makes it. 0, -ENOENT, -errno. */
static int open_head(SnapIncoming *in, bool make)
{
	struct snap_head *h = &in->head;

	if (h->fd >= 0)
		return 0;
	h->fd = open_file(in, O_RDWR);
	if (h->fd == -ENOENT && make)
		h->fd = make_file(in);
	return MIN(h->fd, 0);
}

void snap_head_close(struct snap_head *h)
{
	snap_close_fd(&h->fd);
	h->fd = -1;
}

void snap_head_drop(SnapIncoming *in)
{
	snap_head_close(&in->head);
	if (grants(&in->head.st, &in->former.owner))
		snap_remove_file(in->folder, snap_incoming_name(in),
				 &in->head.st);
	in->head = (struct snap_head){ .fd = -1 };
}

void snap_head_cut(SnapIncoming *in, uint64_t size)
{
	struct snap_head *h = &in->head;
	struct stat st;

	if (!size) {
		snap_head_drop(in);
		return;
	}
	if (open_head(in, false) == 0 && fstat(h->fd, &st) == 0 &&
	    (uint64_t)st.st_size > size && ftruncate(h->fd, (off_t)size) < 0)
		snap_head_drop(in);
	h->size = h->begin = size;
	h->reach = 0;
}

void snap_head_end(SnapIncoming *in, uint64_t begin)
{
	struct snap_head *h = &in->head;
	struct stat st;

	if (!begin && h->reach)
		snap_head_drop(in);
	else if (h->fd >= 0 && fstat(h->fd, &st) == 0 &&
		 (uint64_t)st.st_size > begin &&
		 ftruncate(h->fd, (off_t)begin) < 0)
		snap_head_drop(in);
}

int snap_head_open(SnapIncoming *in)
{
	int r = open_head(in, false);

	if (r == 0)
		r = fcntl(in->head.fd, F_DUPFD_CLOEXEC, 0);
	return r == -1 ? -errno : r;
}

int snap_head_keep(SnapIncoming *in)
{
	struct snap_head *h = &in->head;
	int r = open_head(in, true);

	if (r == 0 && ftruncate(h->fd, (off_t)h->size) < 0)
		r = -errno;
	snap_head_close(h);
	return r;
}

ssize_t snap_head_read(SnapIncoming *in, void *buf, size_t size,
		       uint64_t offset)
{
	struct snap_head *h = &in->head;
	snap_autofd int own = -1;
	ssize_t n = 0;

	if (offset >= h->size)
		return 0;
	size = (size_t)MIN(size, h->size - offset);
	if (h->fd < 0) {
		own = open_file(in, O_RDONLY);
		if (own < 0 && own != -ENOENT)
			return own;
	}
	if (h->fd >= 0 || own >= 0)
		n = snap_pread_all(h->fd >= 0 ? h->fd : own, buf, size, offset);
	if (n < 0)
		return n;
	memset((uint8_t *)buf + n, 0, size - (size_t)n);
	return (ssize_t)size;
}

/* ---- writing ---- */

/* True when a write may go to this place: no program skips bytes but holes. */
static bool fits(const struct snap_head *h, uint64_t offset)
{
	return offset <= h->size ||
	       (h->size && offset % SNAP_PAGE == 0 && h->size % SNAP_PAGE == 0);
}

/* Writes to the file; zeros at its end stay a hole. */
static int put(SnapIncoming *in, const uint8_t *buf, size_t size,
	       uint64_t offset)
{
	struct snap_head *h = &in->head;
	size_t zeros = snap_zeros_behind(buf, size);
	size_t n = offset < h->size ? size : size - zeros;
	int r = n ? open_head(in, zeros < size) : 0;

	if (r == -ENOENT) /* zeros, and there is no file */
		r = n = 0;
	if (r == 0 && n)
		r = snap_pwrite_all(h->fd, buf, n, offset);
	return r;
}

int snap_head_write(SnapIncoming *in, const uint8_t *buf, size_t size,
		    uint64_t offset, GError **error)
{
	struct snap_head *h = &in->head;
	uint64_t end = offset + size;
	bool zeros = snap_zeros_before(buf, size) == size;
	int r = offset ? 0 : snap_save_check_header(buf, size, error);

	if (r < 0)
		return r;
	if (!zeros && !fits(h, offset))
		return snap_fail(
			error, EINVAL,
			"a write at offset %" G_GUINT64_FORMAT
			" was refused: the stream continues at offset "
			"%" G_GUINT64_FORMAT
			"; only mapped-ram may be written in any order",
			offset, h->size);
	if (end > (zeros ? ZEROS_MAX : SNAP_CATALOG_PREAMBLE_MAX))
		return snap_fail(error, EPROTO,
				 "offset %" G_GUINT64_FORMAT
				 ": no migration stream has begun, and a "
				 "preamble has at most %u MiB",
				 offset, SNAP_CATALOG_PREAMBLE_MAX >> 20);
	r = put(in, buf, size, offset);
	/* A file may have been made for them. */
	if (r < 0 && !h->size)
		snap_head_drop(in);
	if (r < 0)
		return snap_fail_errno(error, -r, "writing its first bytes");
	h->size = MAX(h->size, end);
	h->reach = MAX(h->reach, end);
	return 0;
}

/* ---- where the stream begins ---- */

/* Looks for the beginning in `n` bytes at offset `base`. */
static bool find_in(const struct snap_head *h, const uint8_t *bytes, size_t n,
		    uint64_t base, uint64_t *ret_begin)
{
	size_t at;

	if (h->begin >= base && h->begin - base + 4 <= n &&
	    snap_save_begins(bytes + (h->begin - base), 4)) {
		*ret_begin = h->begin;
		return true;
	}
	if (!snap_save_find(bytes, n, &at))
		return false;
	*ret_begin = base + at;
	return true;
}

bool snap_head_find(SnapIncoming *in, const uint8_t *buf, size_t size,
		    uint64_t offset, uint64_t *ret_begin)
{
	size_t before = (size_t)MIN(offset, SNAP_SAVE_FIND - 1);
	g_autofree uint8_t *bytes = NULL;
	size_t more = MIN(size, SNAP_SAVE_FIND);

	/* It may stand at the border of two writes. */
	if (before && offset <= in->head.size && open_head(in, false) == 0) {
		bytes = g_malloc(before + more);
		memcpy(bytes + before, buf, more);
		if (snap_head_read(in, bytes, before, offset - before) ==
			    (ssize_t)before &&
		    find_in(&in->head, bytes, before + more, offset - before,
			    ret_begin))
			return true;
	}
	return find_in(&in->head, buf, size, offset, ret_begin);
}
