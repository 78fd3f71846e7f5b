/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The copy of one file: which pieces it has, and how they come and go.
 *
 * Readers look at `pieces` without a lock. A copy may lose pieces while they
 * read: then they get zeros or too few bytes, and read from the store. Only one
 * thread adds pieces, and makes room for them.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/fileio.h"
#include "format/base/log.h"
#include "fs/near/near-internal.h"

/* After a piece could not be written, this long nothing is added. */
#define QUIET_US (60 * G_TIME_SPAN_SECOND)

static guint8 piece_get(const struct snap_copy *copy, uint64_t piece)
{
	return __atomic_load_n(&copy->pieces[piece], __ATOMIC_ACQUIRE);
}

static void piece_set(struct snap_copy *copy, uint64_t piece, guint8 state)
{
	__atomic_store_n(&copy->pieces[piece], state, __ATOMIC_RELEASE);
}

static uint64_t pieces_of(const struct snap_copy *copy)
{
	return snap_div_up(copy->size, SNAP_NEAR_PIECE);
}

static void set_bytes_locked(struct snap_copy *copy, uint64_t bytes)
{
	copy->near->bytes += bytes - copy->bytes;
	copy->bytes = bytes;
}

/* ---- room ---- */

static void punch(const struct snap_copy *copy, uint64_t piece)
{
	(void)fallocate(copy->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)(piece * SNAP_NEAR_PIECE),
			(off_t)snap_copy_piece_size(copy, piece));
}

void snap_copy_drop(struct snap_copy *copy, uint64_t offset, size_t size)
{
	uint64_t end = MIN(offset + size, copy->size);
	SNAP_LOCKED(&copy->near->lock);

	for (uint64_t i = offset / SNAP_NEAR_PIECE;
	     copy->fd >= 0 && i * SNAP_NEAR_PIECE < end; i++) {
		if (piece_get(copy, i) != PIECE_THERE)
			continue;
		piece_set(copy, i, PIECE_AWAY);
		punch(copy, i);
		set_bytes_locked(
			copy, copy->bytes - MIN(copy->bytes,
						snap_copy_piece_size(copy, i)));
	}
}

/* Drops all of a copy; one that nobody has open goes. */
static void drop_all_locked(struct snap_copy *copy)
{
	SnapNear *near = copy->near;

	set_bytes_locked(copy, 0);
	if (copy->refs == 0) {
		(void)unlinkat(near->fd, copy->name, 0);
		g_hash_table_remove(near->copies, copy->name);
		return;
	}
	for (uint64_t i = 0; copy->fd >= 0 && i < pieces_of(copy); i++)
		if (piece_get(copy, i) == PIECE_THERE)
			piece_set(copy, i, PIECE_AWAY);
	if (copy->fd >= 0 && ftruncate(copy->fd, 0) == 0)
		(void)!ftruncate(copy->fd, (off_t)copy->size);
}

/* The copy that was read least recently, but for one. */
static struct snap_copy *oldest_locked(SnapNear *near,
				       const struct snap_copy *but)
{
	struct snap_copy *copy, *oldest = NULL;
	uint64_t used, least = UINT64_MAX;
	GHashTableIter iter;

	g_hash_table_iter_init(&iter, near->copies);
	while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&copy)) {
		used = __atomic_load_n(&copy->used, __ATOMIC_RELAXED);
		if (copy == but || !copy->bytes || used >= least)
			continue;
		least = used;
		oldest = copy;
	}
	return oldest;
}

/* Makes room for `size` bytes more. False where the copy alone fills the cache:
 * then it keeps what it has, as what is read in order would drive itself out.
 */
static bool make_room_locked(const struct snap_copy *copy, uint64_t size)
{
	SnapNear *near = copy->near;
	struct snap_copy *oldest;

	while (near->bytes + size > near->limit) {
		oldest = oldest_locked(near, copy);
		if (!oldest)
			return false;
		drop_all_locked(oldest);
	}
	return true;
}

/* ---- opening ---- */

/* Opens a file that nobody but this user can have put there, of the right size
 * or new. Returns the descriptor, or -errno. */
static int open_checked(const struct snap_copy *copy)
{
	snap_autofd int fd = snap_open_below(copy->near->fd, copy->name,
					     O_RDWR | O_CREAT, 0600);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
	    st.st_nlink != 1 ||
	    (st.st_size && (uint64_t)st.st_size != copy->size))
		return -EINVAL;
	if (!st.st_size && ftruncate(fd, (off_t)copy->size) < 0)
		return -errno;
	/* The order of use, for the next mount. */
	(void)futimens(fd, NULL);
	return snap_steal_fd(&fd);
}

/* Finds out which pieces are there: those without a hole. What is more than the
 * cache may take goes: an earlier mount may have had a larger one. */
static void find_pieces(struct snap_copy *copy)
{
	uint64_t from, to, bytes = 0;

	for (uint64_t at = 0; at < copy->size; at = to) {
		snap_next_data(copy->fd, at, copy->size, &from, &to);
		for (uint64_t i = snap_div_up(from, SNAP_NEAR_PIECE);
		     i < pieces_of(copy) &&
		     i * SNAP_NEAR_PIECE + snap_copy_piece_size(copy, i) <= to;
		     i++) {
			if (bytes + snap_copy_piece_size(copy, i) >
			    copy->near->limit) {
				punch(copy, i);
				continue;
			}
			piece_set(copy, i, PIECE_THERE);
			bytes += snap_copy_piece_size(copy, i);
		}
	}
	set_bytes_locked(copy, bytes);
}

/* Logs why a copy cannot be used. What is short for one is short for many, so
 * that is said once. */
static void unusable_locked(const struct snap_copy *copy, int r)
{
	SnapNear *near = copy->near;
	bool crowded = r == -EMFILE || r == -ENFILE;

	if (!crowded || !near->crowded)
		snap_log(SNAP_LOG_WARNING,
			 "disk cache %s: %s cannot be used: %s", near->path,
			 copy->name, g_strerror(-r));
	near->crowded |= crowded;
}

static void open_locked(struct snap_copy *copy, uint64_t size)
{
	SnapNear *near = copy->near;
	int fd;

	copy->size = size;
	fd = open_checked(copy);
	/* Another program put it there. */
	if (fd == -ELOOP || fd == -EINVAL) {
		(void)unlinkat(near->fd, copy->name, 0);
		fd = open_checked(copy);
	}
	copy->pieces = g_try_malloc0(MAX(pieces_of(copy), 1));
	if (fd >= 0 && copy->pieces) {
		copy->fd = fd;
		find_pieces(copy);
		(void)make_room_locked(copy, 0);
		return;
	}
	unusable_locked(copy, fd < 0 ? fd : -ENOMEM);
	snap_close_fd(&fd);
}

static void close_locked(struct snap_copy *copy)
{
	if (copy->fd >= 0)
		(void)futimens(copy->fd, NULL);
	snap_close_fd(&copy->fd);
	copy->fd = -1;
	g_clear_pointer(&copy->pieces, g_free);
}

struct snap_copy *snap_copy_new_locked(SnapNear *near, const char *name,
				       uint64_t bytes)
{
	struct snap_copy *copy = g_new0(struct snap_copy, 1);

	copy->near = near;
	copy->name = g_strdup(name);
	copy->fd = -1;
	copy->bytes = bytes;
	copy->used = SNAP_NEAR_COUNT(near, clock, 1);
	near->bytes += bytes;
	g_hash_table_insert(near->copies, copy->name, copy);
	return copy;
}

struct snap_copy *snap_copy_get(SnapNear *near, const char *name, uint64_t size)
{
	SNAP_LOCKED(&near->lock);
	struct snap_copy *copy = g_hash_table_lookup(near->copies, name);

	if (!copy)
		copy = snap_copy_new_locked(near, name, 0);
	if (copy->refs++ == 0)
		open_locked(copy, size);
	return copy;
}

void snap_copy_put(struct snap_copy *copy, bool removed)
{
	SNAP_LOCKED(&copy->near->lock);

	if (--copy->refs)
		return;
	close_locked(copy);
	if (removed)
		drop_all_locked(copy);
}

/* ---- reading ---- */

static bool has(const struct snap_copy *copy, uint64_t offset, uint64_t size)
{
	if (copy->fd < 0 || !size || offset > copy->size ||
	    size > copy->size - offset)
		return false;
	for (uint64_t i = offset / SNAP_NEAR_PIECE;
	     i * SNAP_NEAR_PIECE < offset + size; i++)
		if (piece_get(copy, i) != PIECE_THERE)
			return false;
	return true;
}

bool snap_copy_expect(struct snap_copy *copy, uint64_t offset, uint64_t size)
{
	if (!has(copy, offset, size))
		return false;
	snap_expect(copy->fd, offset, size);
	return true;
}

bool snap_copy_read(struct snap_copy *copy, void *buf, size_t size,
		    uint64_t offset)
{
	uint64_t clock = SNAP_NEAR_COUNT(copy->near, clock, 1);

	__atomic_store_n(&copy->used, clock, __ATOMIC_RELAXED);
	return has(copy, offset, size) &&
	       snap_pread_all(copy->fd, buf, size, offset) == (ssize_t)size;
}

/* ---- adding ---- */

static void failed_locked(SnapNear *near, int r)
{
	near->quiet_until = g_get_monotonic_time() + QUIET_US;
	if (!near->told)
		snap_log(SNAP_LOG_WARNING,
			 "disk cache %s takes no more: %s; what it lacks is "
			 "read from the store each time",
			 near->path, g_strerror(-r));
	near->told = true;
}

static bool may_add(const struct snap_copy *copy, size_t size)
{
	SNAP_LOCKED(&copy->near->lock);

	return g_get_monotonic_time() >= copy->near->quiet_until &&
	       make_room_locked(copy, size);
}

void snap_copy_add(struct snap_copy *copy, uint64_t piece, const void *data)
{
	size_t size = snap_copy_piece_size(copy, piece);
	SnapNear *near = copy->near;
	int r;

	if (!may_add(copy, size))
		return;
	r = snap_pwrite_all(copy->fd, data, size, piece * SNAP_NEAR_PIECE);
	g_mutex_lock(&near->lock);
	if (r < 0) {
		punch(copy, piece);
		failed_locked(near, r);
	} else {
		piece_set(copy, piece, PIECE_THERE);
		set_bytes_locked(copy, copy->bytes + size);
	}
	g_mutex_unlock(&near->lock);
}
