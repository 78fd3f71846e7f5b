/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where bytes rest.
 *
 * A SnapFile is a table of operations with a private payload: file.c is the
 * reference (plain pread and pwrite), uring.c writes through io_uring, tests
 * bring one that remembers its writes and crashes, a remote store is one more.
 *
 * Files are written once, front to back, under a name nobody looks at, and then
 * published: what has a name is whole.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct SnapFile SnapFile;

struct snap_file_ops {
	const char *name; /* of the back end, for the log */
	/* Reads up to `size` bytes at `offset`: their count, less only at the
	 * end of the file, or -errno. Any thread. */
	ssize_t (*pread)(SnapFile *f, void *buf, size_t size, uint64_t offset);
	/* Writes `size` bytes at `offset`. The bytes are copied or written when
	 * it returns; an error may be told by a later call. This and all below
	 * are called one at a time, from any thread. */
	int (*pwrite)(SnapFile *f, const void *buf, size_t size,
		      uint64_t offset);
	/* Waits until what was written can be read by pread; tells errors, also
	 * those of earlier writes. */
	int (*drain)(SnapFile *f);
	/* drain, and all of it is on disk (fdatasync). */
	int (*sync)(SnapFile *f);
	/* The size in bytes now. */
	int (*size)(SnapFile *f, uint64_t *ret_size);
	/* Gives the file its name `name` in the folder `dirfd`, in the place of
	 * what stood there, and makes that durable (rename, fsync of the
	 * folder). -ENOENT when the folder was removed. */
	int (*publish)(SnapFile *f, int dirfd, const char *name);
	/* Closes it; one that was created and not published is removed. */
	void (*close)(SnapFile *f);
};

/* Begins every back end's own struct. */
struct SnapFile {
	const struct snap_file_ops *ops;
};

/* Opens `path` below `dirfd` to be read. -errno. */
int snap_file_open(int dirfd, const char *path, SnapFile **ret_file);

/* Wraps a descriptor (which it owns from now on) to be read. */
SnapFile *snap_file_wrap(int fd);

/* How new files are written. */
enum snap_file_driver {
	SNAP_FILE_AUTO,	 /* io_uring where the kernel allows it */
	SNAP_FILE_PLAIN, /* pwrite */
	SNAP_FILE_URING, /* io_uring, or an error */
};

/* A new file `name` (-EEXIST where it is) in the folder `dirfd`, which is
 * borrowed until close, of the given mode, to be written and then published.
 * -errno. */
int snap_file_create(int dirfd, const char *name, mode_t mode,
		     enum snap_file_driver driver, SnapFile **ret_file);

/* A file without a name in the folder `dirfd`, for what does not fit in memory;
 * it may be written in any order, and is gone when closed. -errno. */
int snap_file_scratch(int dirfd, SnapFile **ret_file);

/* Closes a file; NULL is fine. */
void snap_file_close(SnapFile *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapFile, snap_file_close)

/* Reads exactly `size` bytes: 0, -EBADMSG when the file ends before, -errno. */
int snap_file_read(SnapFile *f, void *buf, size_t size, uint64_t offset);
