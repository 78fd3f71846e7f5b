/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where bytes rest.
 *
 * A SnapFile is a table of operations with private data. plain.c is the
 * reference (pread and pwrite), uring.c writes through io_uring, and the tests
 * have a file that replays its writes as after a crash. A remote store would be
 * one more.
 *
 * A file is written once, front to back, under a temporary name, and then
 * published under its real name. So a file with a real name is complete.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct SnapFile SnapFile;

/* Tells files apart. */
struct snap_file_id {
	uint64_t device;
	uint64_t inode;
	/* These do not tell files apart: */
	uint32_t owner; /* the user */
	uint64_t names; /* how many it has now */
};

/* Offsets and sizes are in bytes. What returns int returns 0 or -errno. pread
 * may be called from any thread at any time; the other operations may be called
 * from any thread, but only one at a time. */
struct snap_file_ops {
	const char *name; /* of the back end, for the log */
	/* Reads up to `size` bytes at `offset`. Returns the number of bytes,
	 * less than `size` only at the end of the file, or -errno. */
	ssize_t (*pread)(SnapFile *f, void *buf, size_t size, uint64_t offset);
	/* pread will want these bytes soon: begins to read them, and does not
	 * wait. NULL: they are read when pread wants them. */
	void (*expect)(SnapFile *f, uint64_t offset, uint64_t size);
	/* Reads once more what pread gave, because the bytes have a wrong
	 * checksum, and this time from where they rest. NULL: pread keeps no
	 * copies. */
	ssize_t (*reread)(SnapFile *f, void *buf, size_t size, uint64_t offset);
	/* Writes `size` bytes at `offset`, or copies them to be written later;
	 * then a later call may return the error. */
	int (*pwrite)(SnapFile *f, const void *buf, size_t size,
		      uint64_t offset);
	/* Waits until pread can read all bytes written. Also returns the errors
	 * of earlier writes. */
	int (*drain)(SnapFile *f);
	/* drain, then waits until all bytes are on disk (fdatasync). */
	int (*sync)(SnapFile *f);
	/* Gives the current size. */
	int (*size)(SnapFile *f, uint64_t *ret_size);
	/* Tells which file it is. May be NULL: it cannot be told. */
	int (*identify)(SnapFile *f, struct snap_file_id *ret_id);
	/* The offset before which all bytes have reached the disk, as far as
	 * the kernel tells (sync_file_range(2)); what is in the disk's own
	 * cache counts. May be NULL: never known. */
	uint64_t (*on_disk)(SnapFile *f);
	/* Renames the file to `name` in the folder `dirfd`, replacing a file of
	 * that name, and makes that durable. -ENOENT where the folder was
	 * removed; other errors are those of snap_rename_durably(). */
	int (*publish)(SnapFile *f, int dirfd, const char *name);
	/* Closes the file. Removes it if it was created but not published. */
	void (*close)(SnapFile *f);
};

/* Begins every back end's own struct. */
struct SnapFile {
	const struct snap_file_ops *ops;
};

/* Makes a file for reading of a descriptor, which it owns from then on. */
SnapFile *snap_file_wrap(int fd);

/* Tells liburing's version (format/base/version.h). */
char *snap_file_library(void);

/* How new files are written. */
enum snap_file_driver {
	SNAP_FILE_AUTO,	 /* io_uring where the kernel allows it */
	SNAP_FILE_PLAIN, /* pwrite */
	SNAP_FILE_URING, /* io_uring, or an error */
};

/* Creates the file `name`, of mode `mode`, in the folder `dirfd`, to be written
 * and then published. Closing the file also removes the file `companion` of
 * that folder, unless it is NULL. `dirfd` must stay open until then. Returns 0,
 * -EEXIST where the name exists, or -errno. */
int snap_file_create(int dirfd, const char *name, mode_t mode,
		     const char *companion, enum snap_file_driver driver,
		     SnapFile **ret_file);

/* Gives a file that was created so an owner and a mode; (uid_t)-1 and (gid_t)-1
 * are those that it has. Returns 0 or -errno. */
int snap_file_give(SnapFile *f, uid_t uid, gid_t gid, mode_t mode);

/* Creates a file without a name in the folder `dirfd`, for data that does not
 * fit in memory. It may be written in any order, and close removes it. Returns
 * 0 or -errno. */
int snap_file_scratch(int dirfd, SnapFile **ret_file);

/* Tells which file it is. Returns 0, -EOPNOTSUPP or -errno. */
int snap_file_identify(SnapFile *f, struct snap_file_id *ret_id);

/* Closes a file; NULL is fine. */
void snap_file_close(SnapFile *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapFile, snap_file_close)

/* The offset before which all bytes of a new file are known to have reached the
 * disk; 0: nothing is known yet, or ever. */
uint64_t snap_file_on_disk(SnapFile *f);

/* Reads exactly `size` bytes at `offset`. Returns 0, -EBADMSG where the file
 * ends earlier, or -errno. */
int snap_file_read(SnapFile *f, void *buf, size_t size, uint64_t offset);

/* Says that these bytes will be read soon. */
void snap_file_expect(SnapFile *f, uint64_t offset, uint64_t size);

/* Reads the same bytes once more, past all copies. -EBADMSG where there are
 * none: a second read would give the same. */
int snap_file_reread(SnapFile *f, void *buf, size_t size, uint64_t offset);
