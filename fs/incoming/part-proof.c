/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is all data of a part there? Its length does not say so. A file that grows
 * with its data, and whose length is set last, has all of it when it is closed:
 * so do cp, rsync, tar, bsdtar, dd and rclone write, also with holes. A file
 * whose length was set first (truncate, posix_fallocate, qemu-img convert,
 * restic) shows by no sign of its own when the last byte has come. It is known
 * by a write in front of its end, and by an end that is set by another open
 * than the one that wrote the data: who opens a file that has bytes already
 * goes on where it ends, or does not know whether they are all there.
 *
 * An extended attribute of the file in the store remembers that, also over a
 * kill of the process and over a mount. The mount does not show it.
 */
#include "fs/incoming/parts-internal.h"

#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/log.h"

#define ATTRIBUTE "user.snapfs-part"

enum snap_part_proof snap_part_proof_get(int fd)
{
	char value = 0;

	if (fgetxattr(fd, ATTRIBUTE, &value, sizeof(value)) != sizeof(value))
		return SNAP_PART_GROWN;
	return value == SNAP_PART_WHOLE ? SNAP_PART_WHOLE : SNAP_PART_AHEAD;
}

int snap_part_proof_set(int fd, enum snap_part_proof proof)
{
	char value = (char)proof;

	if (proof != SNAP_PART_GROWN)
		return fsetxattr(fd, ATTRIBUTE, &value, sizeof(value), 0) < 0
			       ? -errno
			       : 0;
	/* Where there are no attributes, none is set. */
	if (fremovexattr(fd, ATTRIBUTE) < 0 && errno != ENODATA &&
	    errno != EOPNOTSUPP)
		return -errno;
	return 0;
}

/* Changes what is known of the part that a handle writes: 0; -errno, logged. */
static int change(struct snap_part_handle *h, enum snap_part_proof proof)
{
	struct snap_parts *p = h->parts;
	g_autofree char *path = NULL;
	int r = snap_part_proof_set(h->plain.fd, proof);

	if (r < 0) {
		path = snap_folder_path(p->folder, snap_part_names[h->part]);
		snap_log(SNAP_LOG_ERROR,
			 "%s: a write in front of its end was refused: the "
			 "store cannot note that (setxattr: %s); write the "
			 "file from its beginning to its end",
			 path, g_strerror(-r));
		return r;
	}
	g_mutex_lock(&p->table->lock);
	p->proof[h->part] = proof;
	g_mutex_unlock(&p->table->lock);
	return 0;
}

int snap_part_proof_write(struct snap_part_handle *h, uint64_t offset)
{
	struct snap_parts *p = h->parts;
	enum snap_part_proof proof;
	uint64_t end;
	bool gap;

	g_mutex_lock(&p->table->lock);
	end = p->size[h->part];
	proof = p->proof[h->part];
	gap = h->later && offset > end;
	g_mutex_unlock(&p->table->lock);
	if ((offset < end || gap) && proof != SNAP_PART_AHEAD)
		return change(h, SNAP_PART_AHEAD);
	if (!end && proof != SNAP_PART_GROWN)
		return change(h, SNAP_PART_GROWN);
	return 0;
}

int snap_part_proof_truncate(struct snap_part_handle *h, uint64_t size)
{
	struct snap_parts *p = h->parts;
	bool gap;

	g_mutex_lock(&p->table->lock);
	h->later = h->later && size;
	gap = h->later && size > p->size[h->part];
	g_mutex_unlock(&p->table->lock);
	return gap ? change(h, SNAP_PART_AHEAD) : 0;
}

int snap_part_proof_allocate(struct snap_part_handle *h, int mode,
			     uint64_t offset, uint64_t length)
{
	struct snap_parts *p = h->parts;
	uint64_t end;

	g_mutex_lock(&p->table->lock);
	end = p->size[h->part];
	g_mutex_unlock(&p->table->lock);
	/* cp --sparse=always says so that the whole file is zero. */
	if (mode & FALLOC_FL_PUNCH_HOLE)
		return end && !offset && length >= end
			       ? change(h, SNAP_PART_WHOLE)
			       : 0;
	return mode & FALLOC_FL_KEEP_SIZE ? 0 : change(h, SNAP_PART_AHEAD);
}

void snap_part_proof_open(struct snap_part_handle *h)
{
	enum snap_part_proof proof = snap_part_proof_get(h->plain.fd);
	struct stat st;
	SNAP_LOCKED(&h->parts->table->lock);

	h->parts->proof[h->part] = proof;
	if (fstat(h->plain.fd, &st) == 0)
		h->parts->size[h->part] = (uint64_t)st.st_size;
	h->later = h->parts->size[h->part] > 0;
}

/* True when a file is one hole. */
static bool is_hole(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_size &&
	       lseek(fd, 0, SEEK_DATA) < 0 && errno == ENXIO;
}

char *snap_part_doubt(int fd, enum snap_part part)
{
	enum snap_part_proof proof = snap_part_proof_get(fd);
	const char *what = NULL;

	if (proof == SNAP_PART_AHEAD)
		what = "its length was set before its data came, so it does "
		       "not show whether all of it is there";
	else if (proof == SNAP_PART_GROWN && part == SNAP_PART_RAM &&
		 is_hole(fd))
		what = "it has its length, but no data";
	return what ? g_strdup_printf(
			      "%s is not taken for whole: %s; the parts stay "
			      "files; when the copy is complete, run: snapfs "
			      "import --parts FOLDER",
			      snap_part_names[part], what)
		    : NULL;
}
