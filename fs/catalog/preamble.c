/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The side file `snapshot.head`: what stands before QEMU's stream, written
 * again after the snapshot was sealed (libvirt marks its save image complete,
 * or edits the XML in it). A snapshot's file never changes, so these bytes lie
 * beside it and count in the place of its own.
 *
 *	offset size field
 *	     0    8 "snapfsHD"
 *	     8   16 uuid of the snapshot that it belongs to
 *	    24    4 length of the bytes, little endian
 *	    28    4 CRC-32C of the 28 bytes before and of the bytes
 *	    32    … the bytes
 *
 * It is replaced as a whole. One that names another snapshot is stale: it was
 * left by a crash between two steps, and is ignored.
 */
#include "fs/catalog/catalog-internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/bytes.h"
#include "format/base/cleanup.h"
#include "format/base/crc32c.h"
#include "format/base/error.h"

#define HEAD_MAGIC "snapfsHD"

struct disk_head {
	uint8_t magic[8];
	uint8_t uuid[16];
	le32 length;
	le32 crc32c;
};
G_STATIC_ASSERT(sizeof(struct disk_head) == 32);

static uint32_t head_sum(const struct disk_head *head, const void *data,
			 size_t size)
{
	uint32_t crc = snap_crc32c(0, head, offsetof(struct disk_head, crc32c));

	return snap_crc32c(crc, data, size);
}

/* ---- reading ---- */

/* Opens the side file: -ENOENT where there is none. */
static int head_open(int folder_fd, uint64_t *ret_size, GError **error)
{
	snap_autofd int fd =
		openat(folder_fd, SNAP_CATALOG_PREAMBLE,
		       O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 && errno == ELOOP)
		return snap_fail(error, EBADMSG,
				 SNAP_CATALOG_PREAMBLE " is a symbolic link");
	if (fd < 0 || fstat(fd, &st) < 0)
		return snap_fail_errno(error, errno, SNAP_CATALOG_PREAMBLE);
	if (!S_ISREG(st.st_mode))
		return snap_fail(error, EBADMSG,
				 SNAP_CATALOG_PREAMBLE " is no file");
	*ret_size = (uint64_t)st.st_size;
	return snap_steal_fd(&fd);
}

/* Reads all of a buffer, or fails. */
static int read_full(int fd, void *buf, size_t size, off_t offset)
{
	uint8_t *at = buf;

	while (size) {
		ssize_t n = pread(fd, at, size, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EBADMSG;
		at += n;
		offset += n;
		size -= (size_t)n;
	}
	return 0;
}

/* Reads what stands behind the header, which says that it is of this snapshot.
 */
static int head_read_bytes(int fd, uint64_t file_size,
			   const struct disk_head *head, GBytes **ret_head,
			   GError **error)
{
	uint32_t length = snap_le32(head->length);
	g_autofree uint8_t *data = NULL;
	int r;

	if (length == 0 || length > SNAP_CATALOG_PREAMBLE_MAX ||
	    file_size != sizeof(*head) + (uint64_t)length)
		return snap_fail(error, EBADMSG,
				 SNAP_CATALOG_PREAMBLE
				 ": %u bytes in a file of "
				 "%" G_GUINT64_FORMAT,
				 length, file_size);
	data = g_malloc(length);
	r = read_full(fd, data, length, sizeof(*head));
	if (r < 0)
		return snap_fail_errno(error, -r, SNAP_CATALOG_PREAMBLE);
	if (head_sum(head, data, length) != snap_le32(head->crc32c))
		return snap_fail(error, EBADMSG,
				 SNAP_CATALOG_PREAMBLE
				 ": its sum does not hold");
	*ret_head = g_bytes_new_take(g_steal_pointer(&data), length);
	return 0;
}

int snap_catalog_preamble_read(int folder_fd, const uint8_t uuid[16],
			       GBytes **ret_head, GError **error)
{
	g_autoptr(GError) cause = NULL;
	struct disk_head head;
	uint64_t size = 0;
	snap_autofd int fd = head_open(folder_fd, &size, &cause);
	int r;

	*ret_head = NULL;
	if (fd == -ENOENT)
		return 0;
	if (fd < 0) {
		r = fd;
		g_propagate_error(error, g_steal_pointer(&cause));
		return r;
	}
	r = size < sizeof(head) ? -EBADMSG
				: read_full(fd, &head, sizeof(head), 0);
	if (r == 0 && memcmp(head.magic, HEAD_MAGIC, sizeof(head.magic)))
		r = -EBADMSG;
	if (r == -EBADMSG)
		return snap_fail(error, EBADMSG,
				 SNAP_CATALOG_PREAMBLE
				 " does not begin as one");
	if (r < 0)
		return snap_fail_errno(error, -r, SNAP_CATALOG_PREAMBLE);
	if (memcmp(head.uuid, uuid, sizeof(head.uuid)))
		return 0;
	return head_read_bytes(fd, size, &head, ret_head, error);
}

/* ---- writing ---- */

static int write_full(int fd, const void *data, size_t size)
{
	const uint8_t *at = data;

	while (size) {
		ssize_t n = write(fd, at, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		size -= (size_t)n;
	}
	return 0;
}

/* Makes a file belong to whom the snapshot beside it does. */
static int own_as_snapshot(int fd, int folder_fd)
{
	struct stat st, ours;

	if (fstatat(folder_fd, SNAP_CATALOG_SNAPSHOT, &st,
		    AT_SYMLINK_NOFOLLOW) < 0 ||
	    fstat(fd, &ours) < 0)
		return -errno;
	if ((st.st_uid != ours.st_uid || st.st_gid != ours.st_gid) &&
	    fchown(fd, st.st_uid, st.st_gid) < 0)
		return -errno;
	return fchmod(fd, st.st_mode & 0777) < 0 ? -errno : 0;
}

/* Makes the names of a folder durable. */
static int sync_folder(int folder_fd)
{
	snap_autofd int fd =
		openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* Writes the file `name` of the folder `tmp_fd` and puts it into its place. */
static int head_publish(int tmp_fd, const char *name, int folder_fd,
			const struct disk_head *head, const void *data,
			size_t size)
{
	snap_autofd int fd = openat(
		tmp_fd, name,
		O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = own_as_snapshot(fd, folder_fd);
	if (r == 0)
		r = write_full(fd, head, sizeof(*head));
	if (r == 0)
		r = write_full(fd, data, size);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 &&
	    renameat(tmp_fd, name, folder_fd, SNAP_CATALOG_PREAMBLE) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(tmp_fd, name, 0);
	return r < 0 ? r : sync_folder(folder_fd);
}

int snap_catalog_preamble_write(SnapCatalog *c, int folder_fd,
				const uint8_t uuid[16], const void *data,
				size_t size, GError **error)
{
	g_autofree char *name = g_uuid_string_random();
	struct disk_head head;
	int r;

	if (snap_catalog_read_only(c))
		return snap_fail(error, EROFS, "store %s is read-only",
				 snap_catalog_path(c));
	if (size == 0 || size > SNAP_CATALOG_PREAMBLE_MAX)
		return snap_fail(error, EINVAL,
				 SNAP_CATALOG_PREAMBLE " cannot hold %zu bytes",
				 size);
	memcpy(head.magic, HEAD_MAGIC, sizeof(head.magic));
	memcpy(head.uuid, uuid, sizeof(head.uuid));
	head.length = snap_to_le32((uint32_t)size);
	head.crc32c = snap_to_le32(head_sum(&head, data, size));
	r = head_publish(snap_catalog_tmp_fd(c), name, folder_fd, &head, data,
			 size);
	if (r < 0)
		return snap_fail_errno(error, -r, SNAP_CATALOG_PREAMBLE);
	return 0;
}

void snap_catalog_preamble_drop(int folder_fd)
{
	unlinkat(folder_fd, SNAP_CATALOG_PREAMBLE, 0);
}
