/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The side file `snapshot.head`: a preamble that was rewritten.
 *
 * The preamble is what stands before QEMU's stream. It is rewritten after the
 * snapshot was sealed: libvirt marks its save image complete, or edits the XML
 * in it. Or it is copied into the folder after the snapshot, which has none. A
 * snapshot's file never changes, so the new preamble is a file beside it.
 *
 *	offset size field
 *	     0    8 "snapfsHD"
 *	     8   16 uuid of the snapshot
 *	    24    4 length of the preamble in bytes, little-endian
 *	    28    4 CRC-32C of the 28 bytes above and of the preamble
 *	    32    … the preamble
 *
 * The side file is replaced as a whole. One with the uuid of another snapshot
 * was left by a crash between two steps, and is ignored if it is whole.
 */
#include "fs/catalog/catalog-internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/bytes.h"
#include "format/base/cleanup.h"
#include "format/base/crc32c.h"
#include "format/base/error.h"
#include "format/base/fileio.h"

#define NAME SNAP_CATALOG_PREAMBLE
#define MAGIC "snapfsHD"

struct disk_preamble {
	uint8_t magic[8];
	uint8_t uuid[16];
	le32 length;
	le32 crc32c;
};
G_STATIC_ASSERT(sizeof(struct disk_preamble) == 32);

static uint32_t checksum(const struct disk_preamble *disk, const void *data,
			 size_t size)
{
	uint32_t crc =
		snap_crc32c(0, disk, offsetof(struct disk_preamble, crc32c));

	return snap_crc32c(crc, data, size);
}

/* Fails for a read from the side file that went wrong. */
static int fail_read(GError **error, int code)
{
	if (code == -ENODATA)
		return snap_fail(error, EBADMSG, NAME " is too short");
	return snap_fail_errno(error, -code, NAME);
}

/* Reads the bytes after the header `disk`, and checks the sum of both. */
static int read_bytes(int fd, uint64_t file_size,
		      const struct disk_preamble *disk, GBytes **ret_preamble,
		      GError **error)
{
	uint32_t length = snap_le32(disk->length);
	g_autofree uint8_t *data = NULL;
	int r;

	if (length == 0 || length > SNAP_CATALOG_PREAMBLE_MAX ||
	    file_size != sizeof(*disk) + (uint64_t)length)
		return snap_fail(error, EBADMSG,
				 NAME
				 ": its header says %u bytes, but the file "
				 "has %" G_GUINT64_FORMAT,
				 length, file_size);
	data = g_try_malloc(length);
	r = data ? snap_pread_exact(fd, data, length, sizeof(*disk)) : -ENOMEM;
	if (r < 0)
		return fail_read(error, r);
	if (checksum(disk, data, length) != snap_le32(disk->crc32c))
		return snap_fail(error, EBADMSG, NAME ": wrong checksum");
	*ret_preamble = g_bytes_new_take(g_steal_pointer(&data), length);
	return 0;
}

int snap_catalog_preamble_read(int folder_fd, const uint8_t uuid[16],
			       GBytes **ret_preamble, GError **error)
{
	g_autoptr(GError) cause = NULL;
	g_autoptr(GBytes) preamble = NULL;
	struct disk_preamble disk;
	struct stat st;
	snap_autofd int fd =
		snap_catalog_open_file(folder_fd, NAME, &st, &cause);
	int r;

	*ret_preamble = NULL;
	if (fd == -ENOENT)
		return 0;
	if (fd < 0) {
		r = fd;
		g_propagate_error(error, g_steal_pointer(&cause));
		return r;
	}
	r = snap_pread_exact(fd, &disk, sizeof(disk), 0);
	if (r < 0)
		return fail_read(error, r);
	if (memcmp(disk.magic, MAGIC, sizeof(disk.magic)))
		return snap_fail(error, EBADMSG, NAME ": wrong magic");
	/* The sum first: with a flipped bit in it, the uuid would be another's,
	 * and the preamble of the snapshot would be shown as if it had never
	 * been rewritten. */
	r = read_bytes(fd, (uint64_t)st.st_size, &disk, &preamble, error);
	if (r == 0 && !memcmp(disk.uuid, uuid, sizeof(disk.uuid)))
		*ret_preamble = g_steal_pointer(&preamble);
	return r;
}

int snap_catalog_check_present(int folder_fd, int snapshot_fd)
{
	struct stat ours, now;

	if (fstatat(folder_fd, SNAP_CATALOG_SNAPSHOT, &now,
		    AT_SYMLINK_NOFOLLOW) < 0 ||
	    fstat(snapshot_fd, &ours) < 0)
		return -errno;
	return ours.st_dev == now.st_dev && ours.st_ino == now.st_ino ? 0
								      : -ESTALE;
}

/* Replaces the side file; it gets owner and mode of the snapshot. */
static int replace(int folder_fd, int tmp_fd, int snapshot_fd, const void *data,
		   size_t size)
{
	g_autofree char *name = g_uuid_string_random();
	struct snap_replace how = {
		.dirfd = folder_fd,
		.name = NAME,
		.tmp_dirfd = tmp_fd,
		.tmp_name = name,
		.like_fd = snapshot_fd,
		.mode = 0777,
		.durable = true,
	};
	int r = snap_catalog_check_present(folder_fd, snapshot_fd);

	return r < 0 ? r : snap_replace_file(&how, data, size);
}

int snap_catalog_preamble_write(SnapCatalog *c, int folder_fd, int snapshot_fd,
				const uint8_t uuid[16], const void *data,
				size_t size, GError **error)
{
	g_autoptr(GByteArray) file = g_byte_array_new();
	struct disk_preamble disk;
	int r;

	if (snap_catalog_read_only(c))
		return snap_fail(error, EROFS, "store %s is read-only",
				 snap_catalog_path(c));
	if (size == 0 || size > SNAP_CATALOG_PREAMBLE_MAX)
		return snap_fail(error, EINVAL, NAME " cannot hold %zu bytes",
				 size);
	memcpy(disk.magic, MAGIC, sizeof(disk.magic));
	memcpy(disk.uuid, uuid, sizeof(disk.uuid));
	disk.length = snap_to_le32((uint32_t)size);
	disk.crc32c = snap_to_le32(checksum(&disk, data, size));
	g_byte_array_append(file, (const uint8_t *)&disk, sizeof(disk));
	g_byte_array_append(file, data, (guint)size);
	r = replace(folder_fd, snap_catalog_tmp_fd(c), snapshot_fd, file->data,
		    file->len);
	return r < 0 ? snap_fail_errno(error, -r, NAME) : 0;
}

bool snap_catalog_preamble_exists(int folder_fd)
{
	g_autoptr(SnapReader) reader = NULL;
	GBytes *bytes = NULL;
	bool exists;

	if (snap_catalog_find(folder_fd, &reader, NULL) < 0)
		return false;
	if (snap_meta_find(snap_reader_meta(reader), SNAP_BLOCK_PREAMBLE))
		return true;
	snap_catalog_preamble_read(folder_fd, snap_reader_meta(reader)->uuid,
				   &bytes, NULL);
	exists = bytes != NULL;
	g_clear_pointer(&bytes, g_bytes_unref);
	return exists;
}

int snap_catalog_preamble_adopt(SnapCatalog *c, int folder_fd, const void *data,
				size_t size, GError **error)
{
	g_autoptr(SnapReader) reader = NULL;
	const struct snap_meta *meta;
	snap_autofd int fd = snap_catalog_open_file(
		folder_fd, SNAP_CATALOG_SNAPSHOT, NULL, error);
	int own, r;

	if (fd < 0)
		return fd;
	own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0)
		return snap_fail_errno(error, errno, NAME);
	r = snap_reader_open(snap_file_wrap(own), &reader, error);
	if (r < 0)
		return r;
	meta = snap_reader_meta(reader);
	if (!size || snap_meta_find(meta, SNAP_BLOCK_PREAMBLE))
		return 0;
	return snap_catalog_preamble_write(c, folder_fd, fd, meta->uuid, data,
					   size, error);
}

void snap_catalog_preamble_drop(int folder_fd)
{
	unlinkat(folder_fd, NAME, 0);
}
