/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opens and creates files, and chooses the back end that writes them. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/store/plain-internal.h"
#include "format/store/uring-internal.h"

SnapFile *snap_file_wrap(int fd)
{
	return &snap_plain_new(fd)->file;
}

int snap_file_create(int dirfd, const char *name, mode_t mode,
		     const char *companion, enum snap_file_driver driver,
		     SnapFile **ret_file)
{
	struct snap_plain_file *p;
	int fd, r;

	fd = snap_open_below(dirfd, name, O_RDWR | O_CREAT | O_EXCL, mode);
	if (fd < 0)
		return fd;
	p = snap_plain_new(fd);
	p->dirfd = dirfd;
	p->name = g_strdup(name);
	p->companion = g_strdup(companion);
	p->is_stream = true;
	if (driver != SNAP_FILE_PLAIN) {
		r = snap_uring_file_new(p, ret_file);
		if (r == 0)
			return 0;
		if (driver == SNAP_FILE_URING) {
			snap_plain_close(&p->file);
			return r;
		}
	}
	*ret_file = &p->file;
	return 0;
}

int snap_file_give(SnapFile *f, uid_t uid, gid_t gid, mode_t mode)
{
	/* What snap_file_create() makes begins with this. */
	int fd = ((struct snap_plain_file *)f)->fd, r = 0;

	if (uid != (uid_t)-1 || gid != (gid_t)-1)
		r = snap_set_owner(fd, uid, gid);
	return r < 0 ? r : snap_set_mode(fd, mode);
}

/* Makes a scratch file on a file system without O_TMPFILE. */
static int scratch_open_named(int dirfd)
{
	g_autofree char *uuid = g_uuid_string_random();
	g_autofree char *name = g_strconcat("scratch-", uuid, NULL);
	int fd = snap_open_below(dirfd, name, O_RDWR | O_CREAT | O_EXCL, 0600);

	if (fd >= 0)
		unlinkat(dirfd, name, 0);
	return fd;
}

int snap_file_scratch(int dirfd, SnapFile **ret_file)
{
	/* It cannot get a name later; and see snap_open_below() for O_EXCL. */
	int fd = snap_open_below(dirfd, ".", O_RDWR | O_TMPFILE | O_EXCL, 0600);

	if (fd == -EOPNOTSUPP || fd == -EISDIR || fd == -EINVAL)
		fd = scratch_open_named(dirfd);
	if (fd < 0)
		return fd;
	*ret_file = snap_file_wrap(fd);
	return 0;
}

void snap_file_close(SnapFile *f)
{
	if (f)
		f->ops->close(f);
}

int snap_file_identify(SnapFile *f, struct snap_file_id *ret_id)
{
	return f->ops->identify ? f->ops->identify(f, ret_id) : -EOPNOTSUPP;
}

uint64_t snap_file_on_disk(SnapFile *f)
{
	return f->ops->on_disk ? f->ops->on_disk(f) : 0;
}

/* What a read of exactly `size` bytes came to. */
static int whole(ssize_t n, size_t size)
{
	if (n < 0)
		return (int)n;
	return (size_t)n < size ? -EBADMSG : 0;
}

int snap_file_read(SnapFile *f, void *buf, size_t size, uint64_t offset)
{
	return whole(f->ops->pread(f, buf, size, offset), size);
}

void snap_file_expect(SnapFile *f, uint64_t offset, uint64_t size)
{
	if (f->ops->expect)
		f->ops->expect(f, offset, size);
}

int snap_file_reread(SnapFile *f, void *buf, size_t size, uint64_t offset)
{
	if (!f->ops->reread)
		return -EBADMSG;
	return whole(f->ops->reread(f, buf, size, offset), size);
}
