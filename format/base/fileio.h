/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Common operations on file descriptors. Offsets and sizes are in bytes. All
 * functions repeat a system call after EINTR and continue after a short read or
 * write.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Reads up to `size` bytes at `offset`. Returns the number of bytes, which is
 * less than `size` only at the end of the file, or -errno. */
ssize_t snap_pread_all(int fd, void *buf, size_t size, uint64_t offset);

/* Reads exactly `size` bytes at `offset`. Returns 0, -ENODATA where the file
 * ends earlier, or -errno; then the content of `buf` is undefined. */
int snap_pread_exact(int fd, void *buf, size_t size, uint64_t offset);

/* Bytes of a file will be read soon: the kernel reads them in the background,
 * several requests at a time. */
void snap_expect(int fd, uint64_t offset, uint64_t size);

/* Writes all `size` bytes at `offset`. Returns 0, or -errno; then a part may
 * have been written. */
int snap_pwrite_all(int fd, const void *buf, size_t size, uint64_t offset);

/* Writes all `size` bytes at the descriptor's own position (a pipe or a socket
 * has no other). Returns 0, or -errno; then a part may have been written. */
int snap_write_all(int fd, const void *buf, size_t size);

/* Opens the regular file `name` of the folder `dirfd` for reading, without
 * following a symbolic link and without waiting for a FIFO. Fills in *ret_st
 * unless it is NULL. Returns the descriptor, -EINVAL where `name` is anything
 * but a regular file, or -errno. */
int snap_open_regular(int dirfd, const char *name, struct stat *ret_st);

/* Reads a whole file of at most `max` bytes, from offset 0 on. *ret_data (to be
 * freed by g_free) has a NUL after its *ret_size bytes; ret_size may be NULL.
 * Returns 0, -EFBIG where the file is larger, or -errno. */
int snap_read_fd(int fd, size_t max, char **ret_data, size_t *ret_size);

/* The same for the file `name` of the folder `dirfd`, with the errors of
 * snap_open_regular too. */
int snap_read_file(int dirfd, const char *name, size_t max, char **ret_data,
		   size_t *ret_size);

/* How snap_replace_file replaces a file. All fields must be set. */
struct snap_replace {
	int dirfd; /* the folder of the file; O_PATH will do */
	const char *name;
	int tmp_dirfd; /* the folder of the temporary file; same file system */
	const char *tmp_name;
	int like_fd;  /* gives owner and mode (O_PATH will do); -1: none */
	mode_t mode;  /* of the file; with like_fd, the bits that it keeps */
	bool durable; /* fsync the file, and the folder after the rename */
};

/* Replaces a file, or makes it: writes the temporary file, which replaces an
 * older one of its name, and renames it. Returns 0, or -errno as
 * snap_rename_durably. */
int snap_replace_file(const struct snap_replace *how, const void *data,
		      size_t size);

/* Opens the folder `dirfd` (O_PATH will do) for snap_sync_folder. Returns the
 * descriptor, or -errno. */
int snap_open_folder(int dirfd);

/* Makes the names in an open folder durable. Returns 0, also where the file
 * system has no fsync of folders, or -errno. */
int snap_sync_folder(int fd);

/* Renames `old` in the folder `from` to `name` in the open folder `to`, where
 * it replaces a file, and makes `to` durable. Returns 0, or -errno; then the
 * file that had the name has it again. -EUCLEAN: it could not be put back. The
 * new file has the name, but a crash of the machine may lose it. */
int snap_rename_durably(int from, const char *old, int to, const char *name);

/* Finds the first run of data in [at, end): *ret_from is its first byte,
 * *ret_to the byte after its last. Both are `end` where no data follows. On a
 * file system that knows no holes, all is data. */
void snap_next_data(int fd, uint64_t at, uint64_t end, uint64_t *ret_from,
		    uint64_t *ret_to);
